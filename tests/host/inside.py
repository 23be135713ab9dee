"""Scripts inside ComfyUI's own Python, with the pack loaded: for what no workflow can ask for."""

import atexit
import functools
import json
import os
import subprocess
import tempfile
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


# Answers requests, a line each, with a script's exit code. Each runs in a process of its own, forked from this one:
# what it does to ComfyUI's modules ends with it, and torch, ComfyUI and the pack are imported once, not fifty times.
FORKS = """
import gc, json, os, traceback
def run(request):
    for number, path in ((1, request["out"]), (2, request["err"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    try:
        names = {**globals(), "arguments": request["arguments"]}
        exec(compile(request["script"], "<string>", "exec"), names)
        return 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
gc.collect()
gc.freeze()
answers, folder = os.fdopen(os.dup(1), "w"), os.getcwd()
os.dup2(2, 1)
print("ready", file=answers, flush=True)
for line in sys.stdin:
    child = os.fork()
    if not child:
        code = 1
        try:
            code = run({"folder": folder, **json.loads(line)})
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)
"""


@functools.cache
def forks(comfyui: Path, python: str) -> subprocess.Popen:
    """ComfyUI's own Python with the pack loaded, which forks a process for each script it is given."""
    process = subprocess.Popen(
        [python, "-c", START + FORKS, str(comfyui)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=comfyui, text=True,
    )  # fmt: skip
    atexit.register(process.kill)
    assert process.stdout.readline() == "ready\n", "ComfyUI's modules could not be imported"
    return process


def run_inside(host_place, script: str, *given: str) -> str:
    """What the script prints; it finds what is given in `arguments`, and fails as it does."""
    comfyui, python = host_place
    if not hasattr(os, "fork"):  # Windows has none
        command = [python, "-c", START + script, str(comfyui), *given]
        done = subprocess.run(command, capture_output=True, text=True, cwd=comfyui)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout
    process = forks(comfyui, python)
    with tempfile.TemporaryDirectory() as place:
        out, err = Path(place, "out"), Path(place, "err")
        request = {"script": script, "arguments": given, "out": str(out), "err": str(err)}
        print(json.dumps({**request, "environment": dict(os.environ)}), file=process.stdin, flush=True)
        code = process.stdout.readline().strip()
        assert code == "0", (code, err.read_text(encoding="utf-8", errors="replace")[-3000:])
        return out.read_text(encoding="utf-8")


# For a script: a small model as the host makes it, `compiled` beside it, and `compile_counts`.
COMPILED = """
import json
import comfy.ops
from torch._dynamo.utils import counters
from pack.nodes.host.model import HostModel
from pack.mova.tools import tiny

torch.manual_seed(0)
model = HostModel(tiny.CONFIG, torch.float32, "cpu", comfy.ops.manual_cast).eval()
for parameter in model.parameters():
    parameter.data.normal_(0, 0.05)
# The host's guards: comfy_extras/nodes_torch_compile.py and comfy_api/torch_helpers.
keep = {"guard_filter_fn": lambda guards: ["transformer_options" not in guard.name for guard in guards]}
compiled = torch.compile(model, backend="eager", options=keep)


def call(function, settings):
    torch.manual_seed(1)
    with torch.inference_mode():
        return function(
            [torch.randn(1, 16, 2, 4, 4), torch.randn(1, 128, 10)], torch.tensor([500.0]),
            context=torch.ones(1, 7, 4096) * 0.1, control=None, transformer_options={},
            condition=torch.ones(1, 20, 2, 4, 4), **settings,
        )


def compile_counts(runs):
    # How many graphs have been compiled after each run, which must give what the model gives that is not compiled.
    graphs = []
    for settings in runs:
        for found, wanted in zip(call(compiled, settings), call(model, settings)):
            torch.testing.assert_close(found, wanted)
        graphs.append(counters["stats"]["unique_graphs"])
    return graphs
"""
