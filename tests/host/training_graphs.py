"""Workflows that gather clips and train on them, with small models, and the command line that does the same."""

import contextlib
import shutil
from pathlib import Path

import torch
from client import Result, Server
from graphs import Graph, ref
from train_runs import TRAIN

from mova.__main__ import main
from mova.convert.run import convert

MODEL, PREPARED = "MOVA-small", "prepared"
# The same for both; in fp32, so that all is exact.
NODE = {"steps": 4, "rank": 4, "alpha": 8.0, "lr": 1e-2, "seed": 0, "base": "bf16", "dtype": "fp32"}
NODE |= {"checkpoints": "layers", "warmup": 1}
COMMAND = [*TRAIN, "--steps", "4", "--rank", "4", "--alpha", "8", "--lr", "1e-2", "--warmup", "1"]


def write_files(server: Server, place: Path) -> str:
    """Put the release, its prepared clips and the clips themselves where the server looks; the VAE's file."""
    models = server.base / "models"
    shutil.copytree(place / "release", models / "diffusion_models" / MODEL)
    shutil.copytree(place / "cache", server.base / "output/mova_training" / PREPARED)
    for clip in (place / "data").glob("*.mp4"):
        shutil.copy(clip, server.base / "input" / f"train_{clip.name}")
    (file,) = convert(place / "release", models, stem="train", parts=["video_vae"])
    return file.path.name


def loaded(graph: Graph) -> list[list]:
    """Both experts."""
    models = graph.add("MOVAModelLoader", high_noise=MODEL, low_noise=MODEL, weight_dtype="default")
    return [ref(models), ref(models, 1)]


def trained(graph: Graph, name: str, experts: list[list] | None = None, **settings: object) -> str:
    high, low = loaded(graph) if experts is None else experts
    slots = {slot: model for slot, model in (("model_high", high), ("model_low", low)) if model}
    given = {"folder": PREPARED, "lora_name": name, **NODE, **settings}
    return graph.add("MOVATrainLoRA", **slots, **given)


def gathered(graph: Graph, vae: str, name: str, **settings: object) -> str:
    """A clip's node."""
    given = {"caption": f"thing {name}", "folder": "gathered", "sizes": "48x32", "frames": "5", "fps": 24.0}
    return graph.add(
        "MOVATrainingClip",
        video=ref(graph.add("LoadVideo", file=f"train_{name}.mp4")),
        clip=ref(graph.add("ProbeClip")),
        vae=ref(graph.add("VAELoader", vae_name=vae)),
        audio_vae=ref(graph.add("MOVAAudioVAELoader", vae_name=f"{MODEL}/audio_vae")),
        **{**given, "start": 0.0, **settings},
    )


def by_command(cache: Path, out: Path, *more: str) -> Path:
    """Train by the command line; sums are taken in the server's order, by one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert main(["train", str(cache), "--out", str(out), *COMMAND, *more]) == 0
    finally:
        torch.set_num_threads(threads)
    return out


def stopped(server: Server, graph: Graph, node: str, after: int) -> Result:
    """Run, and press the stop button after so many steps."""

    def press(kind: str, data: dict) -> None:
        if kind == "progress" and data["node"] == node and data["value"] == after:
            with contextlib.suppress(OSError):
                server.post("/interrupt", {})

    return server.run(graph.nodes, press)
