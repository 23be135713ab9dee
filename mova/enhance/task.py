"""What is asked of the language model."""

from dataclasses import dataclass

from ..errors import MovaError
from ..shorten import short

CLIP, PICTURE, PRISM = GOALS = ("clip", "first picture", "clip for Prism")
LANGUAGES = ("English", "Chinese", "as the prompt")
# What each style adds to the task; the first adds nothing.
STYLES = {
    "as described": "",
    "film": "Render it as live-action cinema: natural light, film colours, real materials.",
    "documentary": "Render it as a documentary: available light, real places, nothing staged.",
    "phone video": "Render it as a phone recording: plain light, deep focus, everyday colours.",
    "animation": "Render it as a three-dimensional animated film: soft shapes, clear colours.",
    "anime": "Render it as hand-drawn Japanese animation: line art, flat shading, painted backgrounds.",
    "interview": "Render it as an interview: a medium close-up of who speaks, facing the lens, in a quiet room.",
}
LONGEST = 20_000  # characters of a prompt; more is a file pasted by mistake


@dataclass(frozen=True)
class Task:
    """A prompt to make more of. `first` and `last`: whether the clip's first and last frame are given as pictures."""

    prompt: str
    first: bool = False
    last: bool = False
    style: str = "as described"
    language: str = "English"
    goal: str = CLIP

    def check(self) -> None:
        """Raise MovaError for a value that is none of the choices, or when there is nothing to start from."""
        for value, choices, what in (
            (self.style, tuple(STYLES), "style"),
            (self.language, LANGUAGES, "language"),
            (self.goal, GOALS, "goal"),
        ):
            if value not in choices:
                raise MovaError(f"There is no {what} called {short(value)}; choose one of {', '.join(choices)}.")
        if not self.prompt.strip() and not self.first:
            raise MovaError("The prompt is empty and there is no first frame; say what should be seen and heard.")
        if len(self.prompt) > LONGEST:
            raise MovaError(f"The prompt has {len(self.prompt)} characters; at most {LONGEST} are read, shorten it.")


@dataclass(frozen=True)
class Request:
    """One question to a language model. `attempt` is 0, or 1 when the first answer broke a rule."""

    system: str
    user: str
    attempt: int = 0
