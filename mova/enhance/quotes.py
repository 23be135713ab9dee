"""What stands in quotation marks, of any kind; and the same words in an answer, letter for letter."""

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

# Which marks close what another opens. Some open in one language and close in another.
CLOSERS = {
    '"': '"',
    "＂": "＂",
    "“": "”",
    "„": "“”",
    "”": "”",
    "«": "»",
    "»": "«",
    "‹": "›",
    "›": "‹",
    "「": "」",
    "『": "』",
    "｢": "｣",
    "﹁": "﹂",
    "﹃": "﹄",
    "〝": "〞〟",
    "‘": "’",
    "‚": "‘’",
    "'": "'",
}
SINGLE = "'‘‚"  # whose closers are apostrophes too
AFTER_SPACE = "”»›"  # open only where a word begins: elsewhere they close
ALL_MARKS = frozenset("".join(CLOSERS) + "".join(CLOSERS.values()))
ELIDED = re.compile(r"['‘’](?:tis|twas|em|til|till|cause|n|round|bout|neath|kay|\d\ds)\b", re.IGNORECASE)
TAGGED = re.compile(r"<(speech|text)>(.*?)</\1>", re.DOTALL)  # how Prism's prompts mark them
LONGEST = 1500  # characters of a quotation: with more, no prompt would fit; and looking further takes their square
LONG = 12  # characters from which on words are known again without marks around them


@dataclass(frozen=True)
class Quote:
    """text[start:end] is a quotation with its marks, `content` what stands between them."""

    start: int
    end: int
    content: str


@lru_cache(maxsize=64)  # each rule asks for those of the same prompt and the same answer
def quoted(text: str) -> tuple[Quote, ...]:
    """The outermost quotations of a text, in order. Apostrophes, inch and foot marks are none."""
    found, at = [], 0
    while at < len(text):
        end = closing(text, at) if text[at] in CLOSERS and opens(text, at) else None
        if end is None:
            at += 1
            continue
        content = text[at + 1 : end].strip()
        if content:
            found.append(Quote(at, min(end + 1, len(text)), content))
        at = end + 1
    return tuple(found)


def spans(text: str) -> list[Quote]:
    """The same of an answer, where tags are marks as well."""
    tags = [Quote(found.start(), found.end(), found.group(2).strip()) for found in TAGGED.finditer(text)]
    covered = [range(tag.start, tag.end) for tag in tags]
    plain = [quote for quote in quoted(text) if not any(quote.start in inside for inside in covered)]
    return sorted([*tags, *plain], key=lambda quote: quote.start)


def masked(text: str) -> str:
    """The text with all that is quoted in it written as x: as long, for searches that must not look there."""
    pieces, at = [], 0
    for quote in spans(text):  # one may lie in another, as a tag in a quotation
        start, end = max(at, quote.start), max(at, quote.end)
        pieces += [text[at:start], "x" * (end - start)]
        at = end
    return "".join([*pieces, text[at:]])


def joins(letter: str) -> bool:
    """Whether a letter makes a word with those beside it, as where words are written with spaces between."""
    return letter.isalnum() and ord(letter) < 0x2E80


def opens(text: str, at: int) -> bool:
    before, after = text[at - 1] if at else " ", text[at + 1] if at + 1 < len(text) else " "
    mark = text[at]
    if mark in SINGLE:
        return not joins(before) and not after.isspace()
    if mark in AFTER_SPACE:
        return not joins(before) and before not in ".,!?…" and not after.isspace()
    return not (mark == '"' and before.isdigit())  # 12": inches


def closing(text: str, at: int) -> int | None:
    """Where the quotation that opens at `at` ends; the end of the line if it is left open; None if it is none."""
    mark, closers = text[at], CLOSERS[text[at]]
    if mark in SINGLE:
        return closing_single(text, at)
    depth = 0
    for place in range(at + 1, min(len(text), at + LONGEST)):
        if text[place] in closers:
            if not depth:
                return place
            depth -= 1
        elif text[place] == mark:
            depth += 1
    if mark == "“" and (straight := text.find('"', at + 1)) > 0:
        return straight
    line = text.find("\n", at)
    after = text[at + 1 : at + 2]
    left_open = mark in '"“„「『«' and after and not after.isspace() and "\n\n" not in text[at:]
    return (len(text) if line < 0 else line) if left_open else None


def closing_single(text: str, at: int) -> int | None:
    """Of single marks only those close that stand at the end of a word, and are no plural's or clipped word's."""
    doubtful = None
    elided = ELIDED.match(text, at)
    for place in range(at + 2, min(len(text), at + LONGEST)):
        if text[place] == "\n":
            break
        if doubtful is not None and text[place] in SINGLE and opens(text, place) and text[place - 1].isspace():
            break  # another quotation begins: the doubtful mark was this one's end
        after = text[place + 1] if place + 1 < len(text) else " "
        if text[place] not in CLOSERS[text[at]] or text[place - 1].isspace() or joins(after):
            continue
        if elided and text[place - 1] not in ".,!?…":
            continue
        clipped = text[place - 1] == "s" or text[place - 2 : place] == "in"
        if clipped and re.match(r" [a-zà-ÿ]", text[place + 1 : place + 3]):
            doubtful = place if doubtful is None else doubtful
            continue
        return place
    return doubtful


def key(content: str) -> str:
    """What is left of words when case, spaces and marks are taken away: equal for what was only dressed otherwise."""
    plain = unicodedata.normalize("NFKC", content).casefold()
    return "".join(letter for letter in plain if letter.isalnum())


def missing(prompt: str, answer: str) -> list[str]:
    """The quoted words of the prompt that do not stand quoted in the answer, letter for letter and as often."""
    lacking = Counter(quote.content for quote in quoted(prompt)) - Counter(quote.content for quote in spans(answer))
    return list(lacking.elements())


def invented(prompt: str, answer: str) -> list[Quote]:
    """What the answer quotes and the prompt does not."""
    own = {quote.content for quote in quoted(prompt)}
    return [quote for quote in spans(answer) if quote.content not in own]


def repaired(prompt: str, answer: str) -> str:
    """The answer with the prompt's quoted words as they were, where they were only dressed otherwise.

    Other marks, case, punctuation and spaces are put right, and marks put around words that lost them. The words
    stand in straight double quotes then, or in the marks they came in if they hold such quotes themselves.
    """
    wanted = quoted(prompt)
    taken = Counter(quote.content for quote in wanted)
    for quote in wanted:
        dressed = dress(prompt, quote)
        kept: Counter[str] = Counter()
        for found in spans(answer):
            if kept[found.content] < taken[found.content]:
                kept[found.content] += 1
                if found.content != quote.content or answer[found.start] in '<"':
                    continue
            elif not key(quote.content) or key(found.content) != key(quote.content):
                continue
            tag = TAGGED.fullmatch(answer[found.start : found.end])
            put = f"<{tag.group(1)}>{quote.content}</{tag.group(1)}>" if tag else dressed
            answer = answer[: found.start] + put + answer[found.end :]
            break
    for quote in sorted(wanted, key=lambda quote: -len(quote.content)):
        if len(quote.content) >= LONG and quote.content in missing(prompt, answer):
            answer = marked(answer, quote.content, dress(prompt, quote))
    return answer


def dress(prompt: str, quote: Quote) -> str:
    """A quotation of the prompt as it goes into the answer."""
    return f'"{quote.content}"' if '"' not in quote.content else prompt[quote.start : quote.end]


def marked(answer: str, content: str, dressed: str) -> str:
    """The answer with marks around words that stand in it without, or in marks that were none."""
    place = masked(answer).find(content)
    if place < 0:
        return answer
    end = place + len(content)
    while place and end < len(answer) and {answer[place - 1], answer[end]} <= ALL_MARKS:
        place, end = place - 1, end + 1
    return answer[:place] + dressed + answer[end:]
