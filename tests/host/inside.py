"""Scripts inside ComfyUI's own Python, with the pack loaded: for what no workflow can ask for."""

import subprocess
from pathlib import Path

HERE = Path(__file__).parent
START = f"""
import importlib.util, sys
sys.path.insert(0, {str(HERE)!r})
import launch
sys.meta_path.insert(0, launch.Finder())
sys.path.insert(0, sys.argv[1])
arguments, sys.argv = sys.argv[2:], ["main.py", "--cpu", "--use-pytorch-cross-attention"]
import comfy.options
comfy.options.enable_args_parsing()
import utils.extra_config  # before nodes.py puts ComfyUI/comfy in front, where utils is another
import comfy.model_management
import torch
spec = importlib.util.spec_from_file_location(
    "pack", {str(HERE.parents[1] / "__init__.py")!r}, submodule_search_locations=[{str(HERE.parents[1])!r}]
)
sys.modules["pack"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["pack"])
"""


def run_inside(host_place, script: str, *given: str) -> str:
    """What the script prints; it finds what is given in `arguments`, and fails as it does."""
    comfyui, python = host_place
    done = subprocess.run(
        [python, "-c", START + script, str(comfyui), *given], capture_output=True, text=True, cwd=comfyui
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
