"""What the language model is told: who it writes for, in which order, what it must never do. Our own words.

The order and the limits are those of the published workflow: at most 250 words, the opening state woven into the
action, words spoken and shown as they are, the sound in a paragraph of its own at the end.
"""

from .length import WORDS
from .quotes import quoted
from .task import CLIP, PICTURE, PRISM, STYLES, Request, Task

CRAFT = (
    "You write the scene description from which a video model renders one continuous clip of about eight seconds, "
    "picture and sound together. It renders exactly what it reads, so write only what can be seen and heard."
)
ORDER = """Write short paragraphs of flowing prose in this order:
1. The opening state and the first movement in one: who and what is there, where, in which light, how framed. Weave it \
into what they begin to do.
2. What happens, step by step, in the order in which it happens. Every action the user asked for is in it, each with \
what moves, how and where to.
3. If words are spoken, who speaks them, with which voice and in which manner, lips moving with the words.
4. One last paragraph of sound alone, which begins with "The audio": how each voice sounds, the noises the action \
makes, and the room or the open air they are heard in."""
NEVER = (
    "No one speaks unless the user asked for it, and nobody says words the user did not write.",
    "No music unless the user asked for it.",
    "No camera movement unless the user asked for it.",
    "No words that say that nothing moves, such as still, static, frozen, motionless: say what moves, however little.",
    "No feelings or meanings that cannot be seen or heard, and no new persons or events.",
)
VERBATIM = (
    'Everything in quotation marks is copied letter for letter in straight double quotes ("like this"), in its own '
    "language: never translated, corrected, shortened or explained. That holds for spoken words and for text that is "
    "visible in the picture."
)
PICTURES = {
    (
        True,
        False,
    ): "The picture you are given is the first frame. The description opens with what it shows, and nothing "
    "in it contradicts the picture: the same people, clothes, place, light and framing.",
    (False, True): "The picture you are given is the last frame. The action leads up to it, and the end contradicts "
    "nothing in it.",
    (True, True): "Two pictures are given, the first frame and then the last one. Open with the first, and lead the "
    "action to the last without a cut; contradict neither.",
    (False, False): "",
}
UNSEEN = (
    "A picture that you cannot see is the first frame: describe no looks beyond what the user says, only the action."
)
OUTPUT = "Answer with the description alone: no heading, no list, no remark, no Markdown, no thoughts."
STILL_PICTURE = (
    "You write the description of a single photograph from which an image model paints the first frame of a clip. "
    "Describe the moment just before the action begins: who and what is there, how they look and stand, where and in "
    "which light, how framed. Leave out what happens later, everything that is heard, and spoken words. Text that is "
    "visible in the scene is copied letter for letter in double quotes."
)
TAGS = (
    "Mark what is heard and read, in place of quotation marks, where it occurs: <speech>spoken words</speech>, "
    "<sfx>a sound</sfx>, <music>music, if it was asked for</music>, <text>visible text</text>. The words in <speech> "
    "and <text> are the user's own, letter for letter."
)


def instructions(task: Task, pictures_seen: bool = True) -> str:
    """The system prompt for a task; `pictures_seen` is False for a model that takes text alone."""
    if task.goal == PICTURE:
        parts = [STILL_PICTURE, f"At most {WORDS // 2} words in one paragraph."]
    else:
        parts = [CRAFT, ORDER, VERBATIM if task.goal == CLIP else TAGS]
        parts.append("Never:\n" + "\n".join(f"- {rule}" for rule in NEVER))
        parts.append(f"At most {WORDS} words.")
    if task.goal != PICTURE and (task.first or task.last):
        parts.append(PICTURES[task.first, task.last] if pictures_seen else UNSEEN)
    parts += [STYLES[task.style], language(task), OUTPUT]
    return "\n\n".join(filter(None, parts))


def language(task: Task) -> str:
    if task.language == "as the prompt":
        return "Write in the language of the user's text."
    return f"Write in {task.language}, whatever language the user writes in; quoted words stay in their own."


def build(task: Task, attempt: int = 0, faults: tuple[str, ...] = (), pictures_seen: bool = True) -> Request:
    """The question: the user's prompt with the words that must come back listed; and what was wrong the first time."""
    parts = [f"The user's prompt:\n{task.prompt.strip() or '(none: let what the picture shows move naturally)'}"]
    contents = list(dict.fromkeys(quote.content for quote in quoted(task.prompt)))
    if contents and task.goal != PICTURE:
        marks = ("<speech>", "</speech>") if task.goal == PRISM else ('"', '"')
        lines = "\n".join(f"{marks[0]}{content}{marks[1]}" for content in contents)
        parts.append(f"These words must stand in it exactly so:\n{lines}")
    if faults:
        parts.append("Your last answer could not be used: " + " ".join(faults) + " Write it again.")
    return Request(instructions(task, pictures_seen), "\n\n".join(parts), attempt)
