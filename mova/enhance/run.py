"""The whole of it: ask, tidy, hold to the rules, ask once more; at worst the user's own prompt."""

from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import MovaError
from .length import WORDS, Count, tokens
from .rules import faults, finished, mended, sound_of
from .task import PICTURE, Request, Task
from .tidy import tidy, without_thoughts
from .words import build

Generate = Callable[[Request], str]
ATTEMPTS = 2
LONGEST = 8000  # characters of an answer, thoughts apart: several times what fits, and soon looked through


@dataclass(frozen=True)
class Enhanced:
    """The prompt that came of it, what of it is heard, and what the user should know."""

    prompt: str
    sound: str = ""
    notices: list[str] = field(default_factory=list)


def enhance(task: Task, generate: Generate, count: Count = tokens, pictures_seen: bool = True) -> Enhanced:
    """More of a prompt, by a language model; its answer is held to every rule, or the prompt stays as it was.

    `count` gives the UMT5 tokens of a text. Raises MovaError for a task that is none, or if there is no prompt to fall
    back on; what `generate` raises goes through.
    """
    task.check()
    if task.goal != PICTURE and finished(task.prompt):
        return Enhanced(task.prompt, sound_of(task, task.prompt), ["The prompt is long and ordered: it is left alone."])
    wrong: list[str] = []
    for attempt in range(ATTEMPTS):
        request = build(task, attempt, tuple(wrong), pictures_seen)
        spoken = without_thoughts(generate(request))
        if len(spoken) > LONGEST:
            wrong = [f"It is too long: {len(spoken)} characters, and at most {WORDS} words are read."]
            continue
        answer = mended(task, tidy(spoken), count)
        wrong = faults(task, answer, count)
        if not wrong:
            return Enhanced(answer, sound_of(task, answer))
    if not task.prompt.strip():
        raise MovaError(
            f"The language model wrote nothing usable of the picture ({wrong[0]}); write a prompt yourself."
        )
    told = f"The prompt is yours, unchanged: the language model broke a rule twice. {wrong[0]}"
    return Enhanced(task.prompt, "", [told])
