"""What models put around an answer, taken away: thoughts, fences, headings, lists, politeness."""

import json
import re

from .quotes import masked, quoted

THOUGHTS = re.compile(r"<(think|thinking|thought|reasoning|analysis)>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
CLOSED = re.compile(r"\A.*</(?:think|thinking|thought|reasoning|analysis)>", re.DOTALL | re.IGNORECASE)  # opened unseen
CHANNEL = re.compile(r"<\|channel\|?>\s*(?:analysis|thought|commentary).*?(?:<channel\|>|<\|end\|>|\Z)", re.DOTALL)
SPECIAL = re.compile(r"<\|[^<>|\n]{1,40}\|?>|<(?:start|end)_of_turn>(?:model|user)?|</?s>|<eos>|<bos>|\[/?INST\]")
FENCE = re.compile(r"^[ \t]*(?:```|~~~)[^\n`]*$", re.MULTILINE)
LABEL = re.compile(
    r"\A\W{0,4}(?:(?:the |here is (?:the|your) |final |enhanced |improved |rewritten |video |revised |output )*"
    r"(?:prompt|description|caption|output|answer|result|version|rewrite)|提示词|增强后的提示词|输出|描述)\W{0,4}[:：]\W{0,4}\s*",
    re.IGNORECASE,
)
POLITE = re.compile(
    r"(?:sure|certainly|of course|okay|ok|absolutely|great|gladly|好的|当然可以|当然|natürlich|gerne|bien sûr|claro)"
    r"(?: thing)?\s*[,!.，！。—]+\s*",
    re.IGNORECASE,
)
GREETING = re.compile(
    r"(?:here(?:'s| is| are)|below is|this is|i(?:'ve| have)? (?:rewrote|rewritten|enhanced|expanded)|以下是|这是|"
    r"voici|hier ist|aquí (?:está|tienes))[^\n.!?。]{0,120}?(?:prompt|description|version|caption|rewrite|提示词|描述|"
    r"beschreibung)[^\n:：.!?。]{0,80}(?:[:：.!。]|$)\s*",
    re.IGNORECASE,
)
FAREWELL = re.compile(
    r"(?:let me know|i hope|hope this|feel free|would you like|if you(?:'d| would)? (?:like|want|need)|note:|notes:|"
    r"\(?note that|this (?:prompt|version|description) (?:keeps|follows|is|has|stays|captures)|word count|"
    r"\(?\d+ words|希望|如需|注[:：])",
    re.IGNORECASE,
)
HEADING = re.compile(
    r"^[ \t]*(?:#{1,6}[ \t]+|\*\*[^*\n]{1,40}\*\*[ \t]*[:：]?[ \t]*$|[A-Z][\w /&-]{0,28}:[ \t]*$).*$", re.MULTILINE
)
INLINE_LABEL = re.compile(
    r"^[ \t]*\**(?:opening|opening state|action|dialogue|speech|sound|audio|sounds|visuals?|scene|video|paragraph \d)"
    r"\**[ \t]*:\**[ \t]*",
    re.MULTILINE | re.IGNORECASE,
)
BULLET = re.compile(r"^[ \t]*(?:[-*•–—]|\(?\d{1,2}[.)])[ \t]+", re.MULTILINE)
ENDS = frozenset('.!?…。！？:;,，；"”」』»>')
NAMES = ("prompt", "enhanced_prompt", "video_prompt", "output", "text", "description", "caption")


def without_thoughts(answer: str) -> str:
    """What a model says aloud, however long it has thought."""
    answer = answer.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    return SPECIAL.sub("", CHANNEL.sub("", CLOSED.sub("", THOUGHTS.sub("", answer)))).strip()


def tidy(answer: str) -> str:
    """An answer as paragraphs of plain prose, a blank line between them; what is quoted in it stays as it is."""
    answer = without_thoughts(answer)
    answer = FENCE.sub("", from_json(FENCE.sub("", answer).strip()))
    paragraphs = re.split(r"\n\s*\n", answer.strip())
    paragraphs = without_chatter([flat for part in paragraphs if (flat := prose(part))])
    text = LABEL.sub("", "\n\n".join(paragraphs)).strip()
    return unwrapped(text)


def from_json(answer: str) -> str:
    """The text in an answer that was given as a JSON object."""
    if not answer.startswith("{"):
        return answer
    try:
        values = json.loads(answer)
    except (ValueError, RecursionError):
        return answer
    found = (values[name] for name in NAMES if isinstance(values.get(name), str))
    return next(found, answer)


def prose(part: str) -> str:
    """A paragraph on one line: headings gone, the items of a list one after the other."""
    listed = BULLET.search(part)
    for pattern in (HEADING, BULLET, INLINE_LABEL):
        part = outside_quotes(pattern, part)
    part = outside_quotes(re.compile(r"\*\*|__(?=\w)|(?<=\w)__|`"), part)
    lines = [line.strip() for line in part.split("\n") if line.strip()]
    if listed:
        lines = [line if line[-1] in ENDS else f"{line}." for line in lines]
    return " ".join(lines)


def outside_quotes(pattern: re.Pattern[str], text: str) -> str:
    """Without what a pattern finds, but for what is quoted."""
    inside = quoted(text)

    def kept(found: re.Match[str]) -> str:
        hit = any(found.start() < quote.end and quote.start < found.end() for quote in inside)
        return found[0] if hit else ""

    return pattern.sub(kept, text)


def without_chatter(paragraphs: list[str]) -> list[str]:
    """Without a greeting in front and a farewell behind, which stand in paragraphs or sentences of their own."""
    for pattern in (POLITE, GREETING):
        if paragraphs and (found := pattern.match(paragraphs[0])):
            rest = paragraphs[0][found.end() :].strip()
            paragraphs = [*filter(None, [rest]), *paragraphs[1:]]
    while len(paragraphs) > 1 and FAREWELL.match(paragraphs[-1]):
        paragraphs = paragraphs[:-1]
    if paragraphs:
        hidden = masked(paragraphs[-1])
        ends = [found.start() for found in re.finditer(r"(?<=[.!?。！？])\s*", hidden)]
        place = next((end for end in ends if FAREWELL.match(hidden[end:].lstrip())), None)
        if place:
            paragraphs[-1] = paragraphs[-1][:place].strip()
    return [part for part in paragraphs if not re.fullmatch(r"[-*_=\s]+", part)]


def unwrapped(text: str) -> str:
    """Without marks around the whole."""
    whole = quoted(text)
    if len(whole) == 1 and whole[0].start == 0 and whole[0].end == len(text) and len(whole[0].content) > 100:
        return whole[0].content
    return text
