"""What a node tells the user without stopping.

It is shown at once, and goes with the node's result (web/page.js): so it is there again when that comes from the
host's cache or into another tab, and gone when the node runs without a word.
"""

import logging
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from comfy_api.latest import io
from comfy_execution.utils import get_executing_context
from server import PromptServer

from .accessory import harmless
from .page import short_paths

KEY = "mova_notice"  # of what web/page.js looks for


def sender() -> Callable[[str], None]:
    """Shows a text on the node that is running, to whoever started the run; a failure is told once."""
    node, server = get_executing_context(), getattr(PromptServer, "instance", None)
    if node is None or server is None:
        return lambda text: None
    show_there = harmless(lambda text: server.send_progress_text(text, node.node_id, server.client_id), "A notice")
    return lambda text: show_there(short_paths(text)) if server.client_id is not None else None


@dataclass
class Told:
    """What a node that is running has told: a line that changes as it goes on, and what stays."""

    line: str = ""
    notices: list[str] = field(default_factory=list)
    send: Callable[[str], None] = field(default_factory=sender)

    def text(self) -> str:
        return "\n".join(filter(None, [self.line, *self.notices]))


TOLD: ContextVar[Told | None] = ContextVar("told", default=None)


def show(text: str) -> None:
    """Show a text on the node that is running, below what it told before, and write it to the log."""
    logging.info(f"[MOVA] {text}")
    told = TOLD.get() or Told()
    if text not in told.notices:
        told.notices.append(text)
    told.send(told.text())


def show_line(line: str) -> None:
    """Show a line above the node's notices, in place of the last such line."""
    told = TOLD.get() or Told()
    told.line = line
    told.send(told.text())


def kept(execute: Callable[[], io.NodeOutput]) -> io.NodeOutput:
    """Run a node; its result carries what it told, or that it told nothing: lists of results need all to say so."""
    told = Told()
    token = TOLD.set(told)
    try:
        made = execute()
    finally:
        TOLD.reset(token)
    shown: Any = made.ui or {}
    made.ui = {**(shown if isinstance(shown, dict) else shown.as_dict()), KEY: [short_paths(told.text())]}
    return made
