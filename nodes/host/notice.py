"""What a node tells the user without stopping."""

import logging

from comfy_execution.utils import get_executing_context
from server import PromptServer

from .accessory import harmless


def show(text: str) -> None:
    """Show a text on the node that is running, to whoever started it, and write it to the log."""
    logging.info(f"[MOVA] {text}")
    tell(text)


def tell(text: str) -> None:
    """The same without the log: for what changes all the time."""
    node, server = get_executing_context(), getattr(PromptServer, "instance", None)
    if node is not None and server is not None and server.client_id is not None:
        harmless(server.send_progress_text, "A notice")(text, node.node_id, server.client_id)
