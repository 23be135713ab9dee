"""python tests/host/watch.py COMFYUI [COMFYUI ...]: a line for each thing the pack takes from ComfyUI that a checkout
lacks, or has in another form. Seconds, without torch: both are read as text.

What is taken is read from the pack: imports, names behind them, calls with their arguments, classes it inherits from,
methods it overrides, attributes of self and of the objects that nodes are given, also by getattr. host_surface.json
keeps where it was found, and since which of the tried versions: an override that the host no longer calls is seen in
no other way. After a change to the pack it is written anew, from the main host and the older ones: watch.py --write
COMFYUI COMFYUI... By hand are written who calls back (CALLED_BACK), and what is known by name or place alone
(host_names.py). Values and shapes are not seen: .github/workflows/watch.yml runs a small clip, too.

comfy-import-guard (1.3.0, on PyPI) was read first: it knows the names below comfy.* and calls to them, and finds the
commit that took one away. Most of what breaks a model family is something else (overridden methods, attributes that a
constructor sets, how a sampler calls back, comfy_api, latent_preview, server), and it begins with a clone of the host's
whole history.
"""

import argparse
import ast
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from host_names import name_faults, place_faults
from host_source import Found, Host, Parameters, dotted_name, members, parameters_of
from pack_uses import Heir, Use, Uses, read

PACK = Path(__file__).parents[2]
SURFACE = Path(__file__).with_name("host_surface.json")

# The kinds of object that nodes are given, whose attributes the pack reads without naming the class.
GIVEN = (
    "comfy.model_patcher.ModelPatcher",
    "comfy.model_base.BaseModel",
    "comfy.sd.VAE",
    "comfy.sd.CLIP",
    "comfy.samplers.KSAMPLER",
    "comfy.context_windows.IndexListContextHandler",
    "comfy.context_windows.IndexListContextWindow",
    "comfy.nested_tensor.NestedTensor",
    "server.PromptServer",
)

# (where the host calls, what it calls there, what of ours that is: the file and the function, or a lambda in it)
CALLED_BACK = (
    ("comfy.model_base.BaseModel._apply_model", "diffusion_model", "nodes/host/model.py", "HostModel.forward"),
    ("comfy.samplers.KSAMPLER.sample", "sampler_function", "nodes/host/two_experts.py", "Handover.run"),
    ("comfy.samplers.KSAMPLER.sample", "callback", "nodes/host/preview.py", "after"),
    ("latent_preview.Latent2RGBPreviewer.decode_latent_to_preview", "latent_rgb_factors_reshape",
     "nodes/host/latent_format.py", "MovaLatents.frames_of"),
    ("comfy.context_windows", "map_context_window_to_modalities",
     "nodes/host/base.py", "MOVA.map_context_window_to_modalities"),
    ("comfy.context_windows", "resize_cond_for_context_window",
     "nodes/host/base.py", "MOVA.resize_cond_for_context_window"),
)  # fmt: skip


@dataclass(frozen=True)
class Fault:
    place: str
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


def faults(host: Host, uses: Uses, known: dict[str, list[int]]) -> list[Fault]:
    """What the host lacks or has in another form, once each."""
    found = [fault for use in uses.uses for fault in use_faults(host, use)]
    found += [fault for heir in uses.heirs for fault in heir_faults(host, heir)]
    kept = [name for name, since in known.items() if tuple(since) <= host.version]
    found += [Fault(SURFACE.name, f"{name} is gone") for name in kept if not there(host, name)]
    found += [fault for entry in CALLED_BACK for fault in callback_faults(host, *entry)]
    found += [Fault(file, text) for file, text in (*name_faults(host), *place_faults(host, PACK))]
    return list({fault.text: fault for fault in reversed(found)}.values())[::-1]  # the first place of each


def recorded() -> dict[str, list[int]]:
    return json.loads(SURFACE.read_text(encoding="utf-8"))


def there(host: Host, name: str) -> bool:
    """Whether a recorded name is on the host, by its own code."""
    owner, _, attribute = name.rpartition(".")
    found = host.find(owner)
    if found is not None and isinstance(found.node, ast.ClassDef):
        return host.has(found, attribute)
    return host.find(name) is not None


def use_faults(host: Host, use: Use) -> Iterator[Fault]:
    found = host.find(use.name)
    if found is None:
        if not use.optional or module_of(host, use.name):
            yield Fault(use.place, f"{use.name} is gone")
    elif use.call is not None:
        taken = host.parameters(found, use.bound)
        for text in [] if taken is None else misfits(use.call, taken):
            yield Fault(use.place, f"{use.name} {text}")


def module_of(host: Host, name: str) -> bool:
    """Whether something is there that should have the name: what is imported with care may be missing as a whole."""
    owner = name.rpartition(".")[0]
    return owner.count(".") > 0 and host.find(owner) is not None


def misfits(call: ast.Call, taken: Parameters) -> Iterator[str]:
    """Why these arguments cannot be given."""
    starred = any(isinstance(a, ast.Starred) for a in call.args) or any(k.arg is None for k in call.keywords)
    given = [k.arg for k in call.keywords if k.arg is not None]
    for name in given:
        if name not in taken.by_name and not taken.others:
            yield f"no longer takes {name}"
    if starred:
        return
    count = len(call.args)
    if count > len(taken.names) and not taken.more:
        yield f"takes {len(taken.names)} arguments by position, and gets {count}"
    for name in sorted(taken.needed - set(taken.names[:count]) - set(given)):
        yield f"now needs {name}"


def heir_faults(host: Host, heir: Heir) -> Iterator[Fault]:
    base = host.find(heir.base)
    if base is None or not isinstance(base.node, ast.ClassDef):
        return  # told as a use
    own = members(heir.node)
    for name, node in own.items():
        theirs = host.of_class(base, name)
        if name != "__init__" and theirs and function(node) and function(theirs.node):
            wanted, taken = host.parameters(theirs), parameters_of(node, bound=True)
            for text in refusals(wanted, taken):
                yield Fault(f"{heir.file}:{node.lineno}", f"{heir.name}.{name} {text} ({heir.base}.{name})")
    for name, line in heir.read.items():
        if host.of_class(base, name) is None:
            yield Fault(f"{heir.file}:{line}", f"{heir.name} reads self.{name}, which {heir.base} lacks")
    if not heir.builds_base:
        for name in sorted(left_unset(host, base) - set(own)):
            yield Fault(
                f"{heir.file}:{heir.node.lineno}", f"{heir.name} lacks {name}, which {heir.base} sets and reads"
            )


def left_unset(host: Host, base: Found) -> set[str]:
    """What a class's constructor sets on self, and its other methods read."""
    made = members(base.node).get("__init__")
    if made is None:
        return set()
    names = {n.attr for n in ast.walk(made) if own_attribute(n, ast.Store)}
    others = [node for name, node in members(base.node).items() if function(node) and name != "__init__"]
    return names & {n.attr for node in others for n in ast.walk(node) if own_attribute(n, ast.Load)}


def own_attribute(node: ast.AST, context: type) -> bool:
    is_own = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    return is_own and isinstance(node.ctx, context)


def function(node: ast.AST | None) -> bool:
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))


def refusals(theirs: Parameters, ours: Parameters) -> Iterator[str]:
    """What of the parameters of a method on the host ours does not take, as it must: callers know the host's."""
    for i, name in enumerate(theirs.names):
        if i < len(ours.names) and ours.names[i] != name and not (ours.others and name not in theirs.needed):
            yield f"takes {ours.names[i]} where the host gives {name}"
        elif i >= len(ours.names) and not ours.more and not (ours.others or name in ours.by_name):
            yield f"does not take {name}"
    for name in sorted(theirs.by_name - set(theirs.names) - ours.by_name):
        if not ours.others:
            yield f"does not take {name}"
    for name in sorted(ours.needed - theirs.by_name):
        if not theirs.others and name not in ours.names[: len(theirs.names)]:
            yield f"needs {name}, which the host does not give"


def callback_faults(host: Host, where: str, what: str, file: str, ours: str) -> Iterator[Fault]:
    """Whether the host calls what it is given, and with arguments that fit."""
    caller = host.find(where)
    calls = [] if caller is None or not caller.known else [n for n in ast.walk(caller.node) if calls_it(n, what)]
    if not calls:
        yield Fault(file, f"{where} no longer calls {what}")
    node = our_function(file, ours)
    for call in calls:
        taken = parameters_of(node, bound="." in ours)
        for text in (*misfits(call, taken), *misplaced(call, taken)):
            yield Fault(f"{file}:{node.lineno}", f"{ours}, as {where} calls it, {text}")


def misplaced(call: ast.Call, taken: Parameters) -> Iterator[str]:
    """Which arguments have the name of another parameter than the one that they are given for."""
    for name, given in zip(taken.names, call.args, strict=False):
        last = (dotted_name(given) or "").rpartition(".")[2]
        if last != name and last in taken.names:
            yield f"gets {last} where it takes {name}"


def calls_it(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Call) and name in (getattr(node.func, "attr", None), getattr(node.func, "id", None))


def our_function(file: str, name: str) -> ast.FunctionDef | ast.Lambda:
    node: ast.AST = ast.parse((PACK / file).read_text(encoding="utf-8"))
    for part in name.split("."):
        node = next(n for n in ast.walk(node) if getattr(n, "name", None) == part)
    return next((n for n in ast.walk(node) if isinstance(n, ast.Lambda)), node)


def surface(host: Host, uses: Uses) -> list[str]:
    """All names of the host that the pack takes, as far as they are found there."""
    names = {use.name for use in uses.uses}
    for heir in uses.heirs:
        # What the host builds itself and the pack sets differently. Else it is what left_unset asks for.
        own = [name for name, node in members(heir.node).items() if function(node) or heir.builds_base]
        names |= {f"{heir.base}.{name}" for name in (*own, *heir.read)}
    for kind in GIVEN:
        names |= {f"{kind}.{name}" for name in uses.asked}
    return sorted(name for name in names if "." in name and not name.endswith("__") and there(host, name))


def recorded_surface(hosts: list[Host], uses: Uses) -> dict[str, list[int]]:
    """Each name, and the oldest of these versions that has it."""
    found: dict[str, list[int]] = {}
    for host in sorted(hosts, key=lambda host: host.version, reverse=True):
        found |= {name: list(host.version) for name in surface(host, uses)}
    return dict(sorted(found.items()))


def main() -> int:
    parser = argparse.ArgumentParser(description="Look for what the pack takes from ComfyUI.")
    parser.add_argument("comfyui", type=Path, nargs="+")
    parser.add_argument("--write", action="store_true", help="keep what is found as host_surface.json")
    arguments = parser.parse_args()
    uses = read(PACK)
    hosts = [Host(place) for place in arguments.comfyui]
    if arguments.write:
        lines = ",\n".join(f'"{name}": {since}' for name, since in recorded_surface(hosts, uses).items())
        SURFACE.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    count = 0
    for host in hosts:
        found = faults(host, uses, recorded())
        print(*found, f"{host.root}: {len(found)} faults", sep="\n")
        count += len(found)
    return int(count > 0)


if __name__ == "__main__":
    sys.exit(main())
