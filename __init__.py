"""ComfyUI's door to the pack: the model family and the nodes. Harmless outside ComfyUI."""

import importlib.util
import logging
import sys
from typing import Any

WEB_DIRECTORY = "./web"
OLDEST_COMFYUI = "0.26.0"


def complain(error: Exception | str) -> None:
    """One sentence in ComfyUI's log in place of a traceback; ComfyUI goes on without the MOVA nodes."""
    version = getattr(sys.modules.get("comfyui_version"), "__version__", "of an unknown version")
    logging.error(
        f"[MOVA] The MOVA nodes are not available: they need ComfyUI {OLDEST_COMFYUI} or newer with its requirements "
        f"installed, and this one ({version}) answered: {' '.join(str(error).split())}; "
        "update ComfyUI and its requirements."
    )


async def comfy_entrypoint() -> Any:
    """Register the model family and return the nodes; called once by ComfyUI."""
    from comfy_api.latest import ComfyExtension

    class MovaExtension(ComfyExtension):  # type: ignore[misc]
        async def get_node_list(self) -> list[type]:
            try:
                from . import nodes

                return nodes.load()
            except Exception as error:  # whatever a host of another version lacks: never in the way of ComfyUI's start
                complain(error)
                return []

    return MovaExtension()


# A ComfyUI from before the V3 schema never calls comfy_entrypoint.
if "comfy" in sys.modules and importlib.util.find_spec("comfy_api") is None:
    NODE_CLASS_MAPPINGS: dict[str, type] = {}
    complain("there is no comfy_api")
