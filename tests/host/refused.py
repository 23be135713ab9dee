"""Workflows that are refused: what the user is told, word by word where it matters; that it is one line; and that no
weight was loaded for it. A file of tests collects them with `CASES, refused = refusals()`."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from bench import AUDIO, VIDEO, Bench
from client import refusal
from graphs import ref
from safetensors.torch import save_file


@dataclass(frozen=True)
class Case:
    name: str
    sentence: str
    build: Callable[[Bench], None]
    builds_models: bool  # whether a node before the one that refuses builds a model (from a mapped file)


def refusals():
    """A list of cases, and the decorator that puts workflows into it."""
    cases: list[Case] = []

    def refused(sentence: str, *ways, builds_models: bool = False):
        """A workflow that is refused with this sentence; one for each of the ways in which its build can be called."""

        def keep(build):
            for way in ways or [()]:
                way = way if isinstance(way, tuple) else (way,)
                name = " ".join([build.__name__, *(str(part) for part in way)]).replace("_", " ")
                cases.append(Case(name, sentence, lambda bench, way=way: build(bench, *way), builds_models))
            return build

        return keep

    return cases, refused


def says(found, sentence):
    """Whether this, or this part of it, is told: "what is wrong; what to do", of our own nodes the other way round."""
    what, _, remedy = sentence.rstrip(".;").rpartition("; ")
    return sentence in found or (what in found and remedy[1:] in found)  # whose first letter is a large one there


def check(server, case):
    """Run the workflow, which must be refused as the case says."""
    bench = Bench(server)
    case.build(bench)
    before = len(server.logged())
    found = refusal(server, bench)
    assert says(found, case.sentence) and str(server.base) not in found, found
    log = server.logged()[before:]
    assert "weights are asked for" not in log, log
    assert case.builds_models or "model weight dtype" not in log, log


def shown(bench, *outputs):
    """A node at the end of the workflow, so that it runs."""
    for output in outputs:
        bench.add("PreviewAny", source=output)


def number(bench, value):
    """A number from another node: the host does not check it against a node's limits."""
    kind = "PrimitiveInt" if isinstance(value, int) else "PrimitiveFloat"
    return ref(bench.add(kind, value=value))


def text(bench, width=4096):
    return ref(bench.add("ProbeText", width=width))


def tensors(bench, name, **parts):
    save_file(parts, bench.server.base / f"input/{name}.safetensors")
    return f"{name}.safetensors"


def latent(bench, name, **parts):
    return ref(bench.add("ProbeGivenLatent", file=tensors(bench, name, **parts)))


def zeros(**parts):
    return {"video": torch.zeros(VIDEO), "audio": torch.zeros(AUDIO), **parts}
