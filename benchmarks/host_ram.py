"""Physical memory of ComfyUI while both experts are loaded and sampled, against the sum of their tensors.

    python benchmarks/host_ram.py

ComfyUI is looked for as in the tests. Random models of the released layout, from a released folder and from the files
that `convert` makes of it. The proportional share (Pss) of all mapped pages is counted, files' pages included, every 20
milliseconds; before it the server has sampled a small model, so that its own code and heap are not counted.
"""

import argparse
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "host")]

from client import Server, find_comfyui
from graphs import CONFIG, GIVEN, Graph, ref, write_files, write_part

from mova import JointModel, MovaConfig
from mova.checkpoint.weights import open_weights
from mova.convert.run import convert

PARTS = ("video_dit", "video_dit_2", "audio_dit", "dual_tower_bridge")
NAME = "RAM"
# To ComfyUI no CPU computes in bf16, as GPUs do, and it expands weights to float32 there. It is told otherwise.
BF16 = """
import comfy.model_management
comfy.model_management.should_use_bf16 = lambda *_, **__: True
NODE_CLASS_MAPPINGS = {}
"""


def larger(width: int, layers: int) -> dict:
    """The golden configuration, of which the inputs are at hand, with wider and more layers."""
    audio = width // 2
    video_dit = {"dim": width, "ffn_dim": width * 27 // 10, "num_heads": width // 128, "num_layers": layers}
    audio_dit = {"dim": audio, "ffn_dim": audio * 5, "num_heads": audio // 128, "num_layers": layers}
    bridge = {"visual_hidden_dim": width, "audio_hidden_dim": audio, "visual_layers": layers, "audio_layers": layers}
    found = {part: {**CONFIG[part]} for part in ("video_dit", "audio_dit", "dual_tower_bridge")}
    for part, values in (("video_dit", video_dit), ("audio_dit", audio_dit), ("dual_tower_bridge", bridge)):
        found[part] |= values
    return found


def write_released(folder: Path, config: dict) -> None:
    """A released folder with random weights in bf16: both experts, audio tower and bridge."""
    (folder / "scheduler").mkdir(parents=True)
    (folder / "scheduler" / "scheduler_config.json").write_text("{}")
    (folder / "model_index.json").write_text("{}")
    shapes = {n: p.shape for n, p in JointModel(MovaConfig.from_dict(config), device="meta").named_parameters()}
    for part in PARTS:
        shared = ("audio_dit.", "dual_tower_bridge.")
        mine = [n for n in shapes if (not n.startswith(shared) if part.startswith("video") else n.startswith(part))]
        state = {n.removeprefix(f"{part}."): (torch.randn(shapes[n]) / shapes[n][-1] ** 0.5).bfloat16() for n in mine}
        write_part(folder / part, state, config["video_dit" if part == "video_dit_2" else part])


def resident(process: int) -> int:
    """Bytes in memory: private pages and this process's share of others."""
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no Pss in smaps_rollup")


class Watch(threading.Thread):
    """The most bytes seen between start and stop."""

    def __init__(self, process: int) -> None:
        super().__init__(daemon=True)
        self.process, self.peak, self.going = process, 0, True

    def run(self) -> None:
        while self.going:
            self.peak = max(self.peak, resident(self.process))
            time.sleep(0.02)

    def stop(self) -> int:
        self.going = False
        self.join()
        return self.peak


def sample(server: Server, high: str, low: str) -> None:
    graph = Graph()
    loader = graph.add("MOVAModelLoader", high_noise=high, low_noise=low, weight_dtype="default")
    given = graph.add("ProbeGiven", **GIVEN)
    graph.save(ref(graph.joint(ref(loader, 0), given, model_low=ref(loader, 1), steps=4)))
    result = server.run(graph.nodes)
    if result.error:
        raise SystemExit(result.error)


def measure(server: Server, what: str, high: str, low: str, tensors: int) -> float:
    """Load and sample both experts; returns the peak growth over the sum of their tensors."""
    sample(server, "mova_high.safetensors", "mova_low.safetensors")
    server.post("/free", {"unload_models": True, "free_memory": True})
    time.sleep(3)
    assert server.process is not None
    before, watch = resident(server.process.pid), Watch(server.process.pid)
    watch.start()
    sample(server, high, low)
    peak, after = watch.stop() - before, resident(server.process.pid) - before
    mib = 2**20
    print(
        f"{what:28} tensors {tensors / mib:6.0f} MiB, at most {peak / mib:6.0f} MiB ({peak / tensors:.3f}), "
        f"in the end {after / mib:6.0f} MiB",
        flush=True,
    )
    return peak / tensors


def main() -> None:
    parser = argparse.ArgumentParser(description="Physical memory of ComfyUI with both experts.")
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--dtypes", nargs="*", default=["bf16", "fp8_e4m3_scaled"], help="of the single files")
    options = parser.parse_args()
    found = find_comfyui()
    if isinstance(found, str):
        raise SystemExit(found)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as base:
        models = Path(base) / "models"
        folder = models / "diffusion_models" / NAME
        sets = {"the released folder": (folder.name, folder.name, [folder / part for part in PARTS])}
        server = Server(*found, Path(base), "--bf16-unet")
        write_files(server.base)
        write_released(folder, larger(options.width, options.layers))
        for dtype in options.dtypes:
            paths = [one.path for one in convert(folder, models, dtype, parts=["high_noise", "low_noise"])]
            sets[f"two files, {dtype}"] = (paths[0].name, paths[1].name, paths)
        (server.base / "custom_nodes" / "bf16.py").write_text(BF16)
        server.add_pack("comfyui-mova", ROOT)
        server.add_pack("probe", ROOT / "tests" / "host" / "probe")
        for what, (high, low, places) in sets.items():
            tensors = sum(file.stat().st_size for place in places for file in files(place))
            server.start(warm=False)
            try:
                measure(server, what, high, low, tensors)
            finally:
                server.stop()
        shutil.rmtree(models)


def files(place: Path) -> list[Path]:
    return [place] if place.is_file() else [Path(path) for path in set(open_weights(place).files.values())]


if __name__ == "__main__":
    main()
