"""From one line to a prompt for picture and sound, by any language model: what it is told, and what is made sure of.

A model here is a function that takes a Request and gives back text. ComfyUI's text models, a transformers folder and
an OpenAI-compatible address are three such functions; the rules are the same for all.
"""

from .run import Enhanced, enhance
from .task import GOALS, LANGUAGES, STYLES, Request, Task

__all__ = ["GOALS", "LANGUAGES", "STYLES", "Enhanced", "Request", "Task", "enhance"]
