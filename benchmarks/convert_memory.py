"""Memory and time of `python -m mova convert` at the released size: python benchmarks/convert_memory.py

The source has the released tensors' names and shapes and is sparse: it reads as zeros, at the speed of memory. The
file is really written (up to 37 GB, deleted afterwards). With --prism the source is one file in Prism's layout, with
both experts in it.
"""

import argparse
import json
import math
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
MANIFEST = ROOT / "tests" / "fixtures" / "checkpoint_manifest.json"
UMT5_XXL = {"d_model": 4096, "d_kv": 64, "num_heads": 64, "d_ff": 10240, "num_layers": 24, "vocab_size": 256384}
SHARDS = {"video_dit": 3, "video_dit_2": 3, "text_encoder": 3}

Shapes = Mapping[str, Sequence[int]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", default=["high_noise"], help="each is converted alone")
    parser.add_argument("--dtypes", nargs="+", default=["bf16", "fp8_e4m3_scaled"])
    parser.add_argument("--folder", type=Path, help="where to write (the system's temporary folder if not given)")
    parser.add_argument("--verify", action="store_true")
    parser.add_argument("--prism", action="store_true", help="of a file in Prism's layout")
    parser.add_argument("--layers", type=int, help="of each tower, to take less time: the peak is the same")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        source = Path(folder) / "MOVA-sparse"
        largest = write_sparse(source, options.layers)
        if options.prism:
            source = write_prism(source, Path(folder) / "Prism-sparse")
        for part in options.parts:
            for dtype in options.dtypes:
                measure(source, Path(folder) / "models", part, dtype, largest[part], options.verify)


def measure(source: Path, models: Path, part: str, dtype: str, largest: int, verify: bool) -> None:
    """Convert one part in a process of its own, and say what it took."""
    if (free := shutil.disk_usage(source).free) < (40e9 if dtype == "bf16" else 22e9):
        raise SystemExit(f"{source.parent} has only {free / 1e9:.0f} GB free; name another --folder.")
    command = [sys.executable, "-m", "mova", "convert", str(source), str(models), "--dtype", dtype, "--parts", part]
    start = time.perf_counter()
    process = subprocess.Popen(
        command + ["--verify"] * verify, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    told = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)  # the memory of this process alone
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(told)
    size = sum(file.stat().st_size for file in models.rglob("*") if file.is_file())
    shutil.rmtree(models)
    peak, bound = usage.ru_maxrss * 1024, 3 * largest + 2**30
    print(
        f"{part} {dtype}: peak {peak / 2**20:,.0f} MiB (three of the largest tensor and 1 GiB: {bound / 2**20:,.0f}), "
        f"{seconds:.0f} s, {size / 2**30:.2f} GiB",
        flush=True,
    )


def write_sparse(root: Path, layers: int | None = None) -> dict[str, int]:
    """A folder laid out like the release, without data on disk. Returns the largest tensor's bytes, by part."""
    from mova.model import video_vae
    from mova.tools.tiny import write_json

    manifest = json.loads(MANIFEST.read_text(encoding="utf-8"))
    configs: dict[str, dict[str, Any]] = manifest["config"]
    tensors: dict[str, Shapes] = manifest["tensors"]
    if layers is not None:
        shorten(configs, tensors, layers)
    configs["video_dit_2"], tensors["video_dit_2"] = configs["video_dit"], tensors["video_dit"]
    configs["video_vae"], configs["text_encoder"] = {}, UMT5_XXL
    for part in ("video_vae", "text_encoder"):
        write_json(root / part / "config.json", configs[part])
    tensors["video_vae"], tensors["text_encoder"] = video_vae.expected_tensors(root, {}), umt5_tensors(root)
    for part, shapes in tensors.items():
        write_json(root / part / "config.json", configs[part])
        write_shards(root / part, shapes, SHARDS.get(part, 1))
    (root / "tokenizer").mkdir()
    (root / "tokenizer" / "spiece.model").write_bytes(b"\n" + bytes(4_500_000))
    size = {part: max(2 * math.prod(shape) for shape in shapes.values()) for part, shapes in tensors.items()}
    joint = max(size["video_dit"], size["audio_dit"], size["dual_tower_bridge"])
    return {**size, "high_noise": joint, "low_noise": joint}


def write_prism(release: Path, folder: Path) -> Path:
    """The sparse release's towers and bridge in one file, under Prism's names."""
    sys.path.insert(0, str(ROOT / "tests"))
    from prism_files import prism_names

    from mova.checkpoint.prism import TOGETHER
    from mova.checkpoint.weights import open_weights

    parts = {part: open_weights(release / part).shapes() for part in TOGETHER}
    sound = 1 + max(int(name.split(".")[1]) for name in parts["audio_dit"] if name.startswith("blocks."))
    names = {f"{part}.{name}": shape for part, shapes in parts.items() for name, shape in shapes.items()}
    folder.mkdir()
    path = folder / "diffusion_pytorch_model.safetensors"
    write_zeros(path, {prism_names(name, sound): shape for name, shape in names.items()})
    return path


def shorten(configs: dict[str, dict[str, Any]], tensors: dict[str, Shapes], layers: int) -> None:
    """Keep only the first layers of the towers and of the bridge."""
    configs["video_dit"]["num_layers"] = configs["audio_dit"]["num_layers"] = layers
    configs["dual_tower_bridge"] |= {"visual_layers": layers, "audio_layers": layers}
    for part in ("video_dit", "audio_dit", "dual_tower_bridge"):
        kept = {}
        for name, shape in tensors[part].items():
            index = next((int(word) for word in name.split(".")[:2] if word.isdigit()), 0)
            if index < layers or not name.startswith(("blocks.", "audio_to_video", "video_to_audio")):
                kept[name] = shape
        tensors[part] = kept


def umt5_tensors(root: Path) -> Shapes:
    from mova.model import text

    expected = text.expected_tensors(root, UMT5_XXL)
    return {name: shape for name, shape in expected.items() if name != "encoder.embed_tokens.weight"}


def write_shards(folder: Path, shapes: Shapes, count: int) -> None:
    """A part's weights in bf16, all zeros: one file, or an index and its shards."""
    names, stem = list(shapes), "diffusion_pytorch_model"
    if count == 1:
        write_zeros(folder / f"{stem}.safetensors", shapes)
        return
    weight_map: dict[str, str] = {}
    for shard in range(count):
        file = f"{stem}-{shard + 1:05}-of-{count:05}.safetensors"
        held = names[shard * len(names) // count : (shard + 1) * len(names) // count]
        write_zeros(folder / file, {name: shapes[name] for name in held})
        weight_map |= dict.fromkeys(held, file)
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def write_zeros(path: Path, shapes: Shapes) -> None:
    header: dict[str, Any] = {}
    at = 0
    for name, shape in shapes.items():
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + at)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
