"""The rules that an answer is held to: what can be put right is, what cannot is a fault."""

import re

from .length import WORDS, Count, fits, joined, sentences, shortened, words
from .lexicon import (
    CAMERA,
    CAMERA_ASKED,
    MUSIC,
    MUSIC_ASKED,
    REFUSAL,
    SOUND,
    SPEECH_ASKED,
    STILL,
    STILL_ASKED,
    VISIBLE,
)
from .quotes import Quote, invented, masked, missing, quoted, repaired, spans
from .task import PICTURE, PRISM, Task

ENOUGH_WORDS, ENOUGH_SENTENCES = 90, 4  # from which on a prompt may be finished


def finished(prompt: str) -> bool:
    """Whether a prompt is already long and ordered: many sentences, and the sound last."""
    parts = [part for part in re.split(r"\n\s*\n", prompt.strip()) if part.strip()]
    told = [sentence for part in parts for sentence in sentences(part)]
    if words(prompt) < ENOUGH_WORDS or len(told) < ENOUGH_SENTENCES:
        return False
    last = parts[-1] if len(parts) > 1 else "".join(told[-2:])
    return bool(SOUND.search(masked(last)))


def mended(task: Task, answer: str, count: Count) -> str:
    """The answer with what can be put right put right: quotations, unasked sentences, the sound's place, the length."""
    answer = repaired(task.prompt, answer)
    if task.goal == PRISM:
        answer = tagged(answer)
    answer = without_unasked(task, answer)
    if task.goal != PICTURE:
        answer = sound_last(answer)
    if not fits(answer, count):
        kept = [quote.content for quote in quoted(task.prompt)]
        answer = shortened(answer, kept, count) or answer
    return answer


def faults(task: Task, answer: str, count: Count) -> list[str]:
    """What keeps an answer from being used, each as a sentence to the model."""
    found = []
    if words(answer) < 3 or REFUSAL.search(answer):
        return ["It was no description."]
    if task.goal != PICTURE and (lost := missing(task.prompt, answer)):
        found.append("It lacks these words, letter for letter: " + ", ".join(f'"{words}"' for words in lost) + ".")
    if not fits(answer, count):
        found.append(f"It is too long: {words(answer)} words, and at most {WORDS} are read.")
    if not in_language(task, answer):
        found.append(f"It is not in {task.language}.")
    return found


def without_unasked(task: Task, answer: str) -> str:
    """Without the sentences that bring in what nobody asked for, unless one of the user's quotations is in them."""
    own = {quote.content for quote in quoted(task.prompt)}
    asked = masked(task.prompt)
    unwanted = [
        pattern
        for pattern, asks in ((MUSIC, MUSIC_ASKED), (CAMERA, CAMERA_ASKED), (STILL, STILL_ASKED))
        if not asks.search(asked)
    ]
    if task.goal == PICTURE:
        unwanted = []  # a picture has neither
    made_up = [] if SPEECH_ASKED.search(asked) and not own else unasked_words(task, answer)

    def stays(sentence: str) -> bool:
        contents = [quote.content for quote in spans(sentence)]
        if any(content in own for content in contents):
            return True
        if any(quote.content in contents for quote in made_up):
            return False
        return not any(pattern.search(masked(sentence)) for pattern in unwanted)

    return joined([list(filter(stays, sentences(part))) for part in answer.split("\n\n")])


def unasked_words(task: Task, answer: str) -> list[Quote]:
    """Quotations that the user did not write; with a picture, what is said to be read in it may be there."""
    made_up = invented(task.prompt, answer)
    if not (task.first or task.last or task.goal == PICTURE):
        return made_up
    return [quote for quote in made_up if not is_read(answer, quote)]


def is_read(answer: str, quote: Quote) -> bool:
    """Whether the words in front of a quotation, in its sentence, say that it is read and not spoken."""
    before = answer[max(0, quote.start - 60) : quote.start]
    return bool(VISIBLE.search(re.split(r"[.!?。！？\"”」>]", before)[-1]))


def sound_last(answer: str) -> str:
    """The paragraph that begins with the sound is put last, wherever it stood."""
    parts = answer.split("\n\n")
    begins = [part for part in parts if re.match(r"the (?:audio|sound|soundscape)\b", part, re.IGNORECASE)]
    if len(parts) > 1 and begins and parts[-1] not in begins:
        parts = [part for part in parts if part not in begins] + begins
    return "\n\n".join(parts)


def tagged(answer: str) -> str:
    """Words in quotation marks as Prism's prompts mark them: spoken, or read in the picture."""
    for quote in reversed(spans(answer)):
        if answer[quote.start] != "<":
            tag = "text" if is_read(answer, quote) else "speech"
            answer = f"{answer[: quote.start]}<{tag}>{quote.content}</{tag}>{answer[quote.end :]}"
    return answer


def in_language(task: Task, answer: str) -> bool:
    """Whether it is English or Chinese, if it should be; by its letters, quotations apart."""
    letters = [letter for letter in masked(answer) if letter.isalpha()]
    wide = sum("㐀" <= letter <= "鿿" for letter in letters)
    latin = sum(ord(letter) < 0x250 for letter in letters)
    if task.language == "English":
        return latin >= 0.8 * len(letters)
    return task.language != "Chinese" or wide >= 0.3 * len(letters)


def sound_of(task: Task, answer: str) -> str:
    """What is heard, apart: of a clip its last paragraph, for Prism every sentence with a sound's tag."""
    if task.goal == PICTURE:
        return ""
    parts = answer.split("\n\n")
    if task.goal == PRISM:
        told = [one.strip() for part in parts for one in sentences(part) if re.search(r"<(?:speech|sfx|music)>", one)]
        if told:
            return " ".join(told)
    return parts[-1] if len(parts) > 1 and SOUND.search(masked(parts[-1])) else ""
