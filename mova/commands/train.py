"""The command line of training: train prepare, train."""

import argparse
import contextlib
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..arguments import Defaults, whole
from ..errors import MovaError
from ..model.presets import DEFAULT
from ..progress import tell
from ..shorten import printable

PREPARE = "train prepare"
# Options that are settings of a run, by the kind of their value, and what is told of each.
SETTINGS: dict[str, tuple[Any, str]] = {
    "steps": (whole, "of the optimizer (2000)"),
    "rank": (whole, "of the LoRA (16)"),
    "alpha": (float, "the LoRA counts alpha / rank times (16)"),
    "targets": (str, "attention, or attention+mlp (attention)"),
    "parts": (str, "which of video,audio,bridge get a LoRA (all)"),
    "experts": (str, "both, high or low noise (both)"),
    "switch_every": (whole, "steps after which the other expert is trained (1)"),
    "base": (str, "the frozen matrices in fp8 or bf16 (fp8)"),
    "dtype": (str, "to compute in: bf16 or fp32 (bf16)"),
    "optimizer": (str, "adamw, or adamw8bit: a quarter of its memory, by bitsandbytes (adamw)"),
    "lr": (float, "learning rate at its highest (1e-4)"),
    "lr_schedule": (str, "cosine, low_resource (the published low-resource trainer's) or constant (cosine)"),
    "warmup": (whole, "steps (a twentieth of all, at most 500)"),
    "weight_decay": (float, "of AdamW (0.01)"),
    "clip": (float, "length that gradients are cut to (1.0)"),
    "accumulation": (whole, "clips in a step (1)"),
    "caption_dropout": (float, "share of steps without the caption (0)"),
    "seed": (whole, "of all that chance decides (0)"),
    "checkpoints": (str, "what is computed twice to save memory: pieces of layers, layers or none (pieces)"),
    "resident_layers": (whole, "layers whose frozen matrices stay on the card; the others come from RAM (0)"),
    "save_every": (whole, "steps (100)"),
    "validate_every": (whole, "steps after which the loss at fixed timesteps is measured; 0 is never (0)"),
    "sample_every": (whole, "steps after which clips are made with the LoRA as it is; 0 is never (0)"),
    "sample_steps": (whole, "of denoising in those (25)"),
}


def joined(arguments: list[str]) -> list[str]:
    """`train prepare` is one command, beside `train` with a folder."""
    return [PREPARE, *arguments[2:]] if arguments[:2] == PREPARE.split() else arguments


def add_to(commands: Any) -> None:
    """Add both to the parser's commands."""
    prepare = commands.add_parser(PREPARE, help="encode clips and captions for train", formatter_class=Defaults)
    prepare.set_defaults(run=run_prepare, stopped="what is encoded stays; the same command goes on from there.")
    add = prepare.add_argument
    add("data", type=Path, help="folder of clips with .txt captions, or a .jsonl list (video, caption; see the docs)")
    add("--checkpoint", type=Path, required=True, help="folder laid out like the release")
    add("--out", type=Path, required=True, help="folder for what train takes")
    sizes = "WIDTHxHEIGHT, multiples of 16; a clip takes the one whose shape is nearest"
    add("--sizes", nargs="+", type=size, help=f"{sizes} (640x352 352x640 480x480)", default=argparse.SUPPRESS)
    add("--frames", nargs="+", type=whole, default=[49, 97, 145, 193], help="4k + 1; a clip takes the most it fills")
    add("--fps", type=float, default=DEFAULT.fps, help="frames a second that clips are brought to")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N, mps")
    add("--dtype", choices=("bf16", "fp16", "fp32"), default="bf16", help="of the encoders; the audio VAE takes fp32")
    add("--tiled-vae", action="store_true", help="encode in tiles: less memory, slower")

    train = commands.add_parser("train", help="train a LoRA on clips that `train prepare` has encoded")
    train.set_defaults(run=run_train)
    add = train.add_argument
    add("cache", type=Path, help="folder that `train prepare` has made")
    add("--out", type=Path, required=True, help="the .safetensors to write; beside it a .csv and a .png of the losses")
    add("--checkpoint", type=Path, help="folder laid out like the release (the one that the clips were prepared with)")
    add("--recipe", default="ours", help="ours, published or published-low-resource; other options go before it (ours)")
    for name, (kind, told) in SETTINGS.items():
        add("--" + name.replace("_", "-"), type=kind, help=told, default=argparse.SUPPRESS)
    keep = {"action": "store_true", "default": argparse.SUPPRESS}
    add("--offload-activations", help="keep what layers are computed again from in RAM", **keep)
    add("--shard-weights", help="on several GPUs: divide the frozen matrices among the processes", **keep)
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N, mps (auto)")
    add("--split", action="store_true", help="also write a file for each expert, for ComfyUI's own LoRA loaders")
    add("--resume", action="store_true", help="go on with a run that was stopped: what is kept of it lies beside --out")


def size(text: str) -> tuple[int, int]:
    """WIDTHxHEIGHT."""
    width, x, height = text.lower().partition("x")
    if not x or not (width.isdecimal() and height.isdecimal()) or len(text) > 20:
        raise argparse.ArgumentTypeError(f"{text[:20]!r} is no size; give one as in 640x352")
    return int(width), int(height)


def run_prepare(options: argparse.Namespace) -> None:
    """Check what is asked for, then encode; what was left out is said at the end."""
    from ..checkpoint.release import open_checkpoint
    from ..clip import runtime
    from ..clip.size import shapes as shapes_of
    from ..progress import StepBar, quiet_libraries
    from ..train.media import Shapes
    from ..train.prepare import PARTS, check_shapes, prepare

    quiet_libraries()
    sizes = getattr(options, "sizes", None) or [size for size in shapes_of(DEFAULT).values() if size is not None]
    shapes = Shapes(sizes, sorted(set(options.frames)), options.fps)
    check_shapes(shapes)
    device, dtype = runtime.device_and_dtype(options.device, options.dtype)
    checkpoint = open_checkpoint(options.checkpoint, PARTS)
    with StepBar(1) as progress:
        progress.bar.unit = "clip"

        def done(count: int, of: int) -> None:
            progress.bar.total = of
            progress.step(count, of)

        where = runtime.Runtime(device, dtype, tiled_vae=options.tiled_vae, part=progress.part, notice=progress.tell)
        made = prepare(checkpoint, options.data, options.out, shapes, where, done)
    for name, why in made.skipped.reasons.items():
        tell(printable(f"skipped {name}: {why}"))
    for sheet in made.sheets:
        print(sheet)
    notes = [f"{made.kept} of them encoded before"] * (made.kept > 0)
    notes += [f"{made.silent} without sound: the picture alone is trained"] * (made.silent > 0)
    count = len(made.entries)
    print(f"{options.out}: {count} clips to train on{''.join(f', {note}' for note in notes)}")
    if made.skipped.reasons:
        print(f"{len(made.skipped.reasons)} skipped")


def run_train(options: argparse.Namespace) -> None:
    """Check what is asked for, then load and train."""
    from ..checkpoint.release import JOINT, open_checkpoint
    from ..clip import runtime
    from ..clip.media import check_output
    from ..files import alone
    from ..progress import StepBar
    from ..train.base import released
    from ..train.cache import Cache
    from ..train.loop import go
    from ..train.ours import check_not_finished, check_out
    from ..train.output import write_split
    from ..train.processes import join
    from ..train.run import QUIET, Report, begin_run, state_path, told
    from ..train.settings import Settings, settings_from

    check_output(options.out, ".safetensors")
    check_out(options.out, options.split)
    if not options.resume:
        check_not_finished(options.out)
    names = [field.name for field in fields(Settings)]
    given = {name: getattr(options, name) for name in names if name in options}
    if "parts" in given:
        given["parts"] = tuple(given["parts"].split(","))
    settings = settings_from(options.recipe, given)
    processes, place = join(options.device)
    device, _ = runtime.device_and_dtype(place, settings.dtype)
    cache = Cache(options.cache)
    _, _, prepared_with = cache.index()
    root = options.checkpoint or prepared_with
    if root is None:
        raise MovaError(f"{options.cache} was gathered in ComfyUI; name the release's folder by --checkpoint.")
    if options.checkpoint is None and not root.is_dir():
        raise MovaError(f"The checkpoint that the clips were prepared with ({root}) is gone; name it by --checkpoint.")
    alone_there = alone(options.out) if processes.first else contextlib.nullcontext()
    with alone_there, StepBar(settings.steps, processes.first) as progress:
        decoders = ("video_vae", "audio_vae") if settings.sample_every else ()
        checkpoint = open_checkpoint(root, (*settings.trained, *JOINT, *decoders))
        report = Report(progress.part, progress.step, progress.tell) if processes.first else QUIET
        try:
            base = released(checkpoint, settings)
            run = begin_run(base, cache, settings, options.out, device, options.resume, report, processes)
            go(run)
            processes.part()
        except KeyboardInterrupt:
            kept = state_path(options.out).exists()
            options.stopped = "the same command with --resume goes on." if kept else "nothing was written."
            raise
    if not processes.first:
        return
    print(options.out)
    if options.split:
        for path in write_split(options.out, run.parameters, settings.alpha, told(run)):
            print(path)
    for suffix in (".csv", ".png"):
        print(options.out.with_suffix(suffix))
