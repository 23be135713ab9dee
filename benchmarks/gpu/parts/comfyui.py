"""MOVA Joint Sampler in ComfyUI, both experts in fp8, with all of the device's memory and with less.

Three steps of one forward each: two of the high-noise expert, one of the low-noise one. Nothing is on the device when a
run begins; the files are in memory (/dev/shm, or the system's cache of a disk).
"""

import functools
import itertools
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mova import JointModel
from mova.sampling.conditioning import audio_latents, latent_frames

from .. import host, random_file
from ..place import Place
from ..task import Figures, Task

FILES = {"high_noise": "mova_high.safetensors", "low_noise": "mova_low.safetensors"}
# (GiB that are left to the server, or None for all; elementwise of MOVA Model Options), in the order of their worth.
RUNS = ((None, "torch"), (12, "torch"), (24, "torch"), (None, "comfy_kitchen"), (16, "torch"), (None, "triton"))
STEPS, FIRST_LOW = 3, 2
SECONDS = 24.0  # that a run takes at the least, on a GPU
SAMPLER = "3"
seeds = itertools.count(1)


class Session:
    """The server and what is measured first; what went wrong once is told by each row."""

    def __init__(self, place: Place) -> None:
        self.place, self.fault, self.server, self.step = place, None, None, None
        self.base, self.idle = None, 0
        self.about: Figures = {}

    def ready(self) -> Any:
        if self.fault is not None:
            raise self.fault
        if self.server is None:
            try:
                self.server = self.begin()
            except Exception as error:
                self.fault = error
                raise
        return self.server

    def begin(self) -> Any:
        config = self.place.small.model
        host.found(self.place)
        size = sum(value.numel() for value in JointModel(config, device="meta").state_dict().values())
        start, base = time.monotonic(), host.folder(self.place, int(2.1 * size))
        self.base = base
        models = base / "models/diffusion_models"
        models.mkdir(parents=True)
        with ThreadPoolExecutor() as pool:  # while the server starts
            written = [pool.submit(random_file.write, models / name, config) for name in FILES.values()]
            server = self.start()
            size = sum(file.result() for file in written)
        dynamic = "DynamicVRAM support detected and enabled" in server.logged()
        began = {"both files GiB": size / 2**30, "written and server started in s": time.monotonic() - start}
        self.about = {"dynamic VRAM": "yes" if dynamic else "no", **began}
        return server

    def start(self) -> Any:
        server = host.start(self.place, self.base)
        self.idle = host.free_bytes(self.place)
        return server

    def empty(self) -> Any:
        """The server with no model on the device; another one where it does not let them go."""
        if not host.emptied(self.place, self.ready(), self.idle):
            self.server.stop()
            self.server = self.start()
        return self.server


def workflow(place: Place, elementwise: str) -> dict[str, Any]:
    """In API format, another seed each time."""
    preset = place.small
    sizes = {
        "frames": latent_frames(preset.frames),
        "height": preset.height // 8,
        "width": preset.width // 8,
        "audio_length": audio_latents(preset.frames, preset.fps),
        "text_dim": preset.model.video_dit.text_dim,
    }
    given = {"positive": ["2", 0], "negative": ["2", 1], "latent": ["2", 2]}
    settings = {"steps": STEPS, "cfg": 1.0, "video_shift": 5.0, "audio_shift": 5.0, "boundary": 0.9}
    experts = {name: ["1" if elementwise == "torch" else "5", i] for i, name in enumerate(("model_high", "model_low"))}
    loaded = {"model_high": ["1", 0], "model_low": ["1", 1], "elementwise": elementwise, "low_memory": False}
    return {
        "1": {"class_type": "MOVAModelLoader", "inputs": {**FILES, "weight_dtype": "default"}},
        "2": {"class_type": "BenchmarkGiven", "inputs": sizes},
        SAMPLER: {"class_type": "MOVAJointSampler", "inputs": {**experts, **given, **settings, "seed": next(seeds)}},
        "4": {"class_type": "BenchmarkEnd", "inputs": {"latent": [SAMPLER, 0]}},
        "5": {"class_type": "MOVAModelOptions", "inputs": loaded},
    }


def moments(server: Any, graph: dict[str, Any]) -> list[float]:
    """When the sampler began, and when each of its steps ended. Raises RuntimeError with what ComfyUI tells."""
    found: list[float] = []

    def note(kind: str, data: dict[str, Any]) -> None:
        if kind == "executing" and data["node"] == SAMPLER:
            found[:] = [time.monotonic()]
        elif kind == "progress" and data["node"] == SAMPLER and data["value"] == len(found):
            found.append(time.monotonic())

    result = server.run(graph, note)
    if result.error is not None:
        print(*result.traceback, sep="", file=sys.stderr)  # to gpu.log
        raise RuntimeError(result.error)
    if result.outputs["4"]["finite"] != [True]:
        raise ValueError("the latent is not finite")
    if len(found) != STEPS + 1:
        raise RuntimeError(f"ComfyUI told of {len(found) - 1} steps, not of {STEPS}")
    return found


def sampled(session: Session, limit: int | None, elementwise: str) -> Figures:
    server, place = session.empty(), session.place
    with host.held_to(place, None if limit is None else limit * 2**30), host.watched(place) as peak:
        times = moments(server, workflow(place, elementwise))
    steps = [after - before for before, after in itertools.pairwise(times)]
    first = session.step is None and limit is None
    if first:
        session.step = min(steps[1:FIRST_LOW])
    figures: Figures = {
        "first step s, with loading": steps[0],
        "second step s": steps[1],
        "third step s, with loading": steps[FIRST_LOW],
        "sampling s": sum(steps),
        "peak GiB": peak[0],
    }
    if session.step is not None:
        figures["s beyond three steps without loading"] = sum(steps) - STEPS * session.step
    return {**figures, **(session.about if first else {})}


def tasks(place: Place) -> list[Task]:
    session = Session(place)
    return [
        Task(
            ("all memory" if limit is None else f"{limit} GiB") + (f", {way}" if way != "torch" else ""),
            functools.partial(sampled, session, limit, way),
            SECONDS,
        )
        for limit, way in RUNS
    ]
