"""Command line: python -m mova generate | convert | download | info | tiny."""

import _thread
import argparse
import io
import signal
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .arguments import Command, Defaults, Parser, lora, models_folder, typed, whole
from .errors import MovaError, first_line, install_command, memory_is_full
from .files import alone, reason
from .model.presets import DEFAULT
from .progress import ByteBar, StepBar, quiet_libraries
from .shorten import short


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status. What the user did wrong is told in one sentence."""
    for stream in (sys.stdout, sys.stderr):  # a Windows console may lack the letters of a Chinese prompt
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    options = parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, interrupt)
    sys.unraisablehook = interrupt_again
    try:
        options.run(options)
    except MovaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (OSError, MemoryError) as error:
        print(f"error: {fault_of_the_machine(error)}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if not error.name or error.name.startswith("mova"):
            raise
        package = {"PIL": "pillow"}.get(error.name, error.name)
        print(f"error: this needs {package}; run {install_command(package)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nstopped; {getattr(options, 'stopped', 'nothing was written.')}", file=sys.stderr)
        return 130
    return 0


def interrupt(*_: object) -> None:
    """A polite kill is treated as Ctrl-C: what is half done gets cleaned up."""
    raise KeyboardInterrupt


def interrupt_again(unraisable: Any) -> None:
    """Ctrl-C that came while Python cleared an object away, where no error gets out: once more, in a moment."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        threading.Timer(0.05, _thread.interrupt_main).start()
    else:
        sys.__unraisablehook__(unraisable)


def fault_of_the_machine(error: Exception) -> str:
    """What the system refuses where nobody expected it, in one sentence."""
    if memory_is_full(error):
        return f"The memory is full ({first_line(error)}); close other programs."
    name = getattr(error, "filename", None)
    where = f"{short(str(name))} cannot be used ({reason(error)})" if name else reason(error)
    return f"{where}; check the path, its permissions and the room on the disk."


def parser() -> argparse.ArgumentParser:
    show = Defaults
    root = Parser(prog=typed(), description="MOVA: video and sound together.")
    commands = root.add_subparsers(dest="command", required=True, parser_class=Command)

    generate = commands.add_parser("generate", help="make a clip", formatter_class=show)
    generate.set_defaults(run=run_generate)
    add = generate.add_argument
    add("--checkpoint", type=Path, required=True, help="folder laid out like the release")
    add("--prompt", required=True, help="what should be seen and heard")
    add("--negative-prompt", help="what should not (Wan's list if not given)", default=argparse.SUPPRESS)
    add("--image", type=Path, help="first frame")
    add("--end-image", type=Path, help="last frame")
    add("--text-only-frame", choices=("white", "none"), default="white", help="what stands for a missing first frame")
    add("--out", type=Path, required=True, help="the .mp4 to write")
    add("--contact-sheet", type=Path, help="also write frames and waveform as this .png")
    add("--width", type=whole, default=DEFAULT.width, help="in pixels, a multiple of 16")
    add("--height", type=whole, default=DEFAULT.height, help="in pixels, a multiple of 16")
    add("--frames", type=whole, default=DEFAULT.frames, help="4k + 1")
    add("--fps", type=float, default=DEFAULT.fps, help="frames a second")
    add("--steps", type=whole, default=DEFAULT.steps, help="of denoising")
    add("--guidance", type=float, default=DEFAULT.guidance, help="of the text, on both modalities")
    add("--audio-guidance", type=float, help="of the text on the audio, if it should differ")
    add("--bridge-guidance", type=float, default=1.0, help="more ties the sound closer to the picture; 1 is off")
    add("--video-shift", type=float, help="of the sigmas (the checkpoint's if not given)")
    add("--audio-shift", type=float, help="of the sigmas (the checkpoint's if not given)")
    add("--boundary", type=float, help="sigma below which the low-noise expert works (the checkpoint's if not given)")
    add("--seed", type=whole, default=42, help="of the noise")
    lora_help = "a LoRA file, and its strength if not 1; may be given several times"
    add("--lora", type=lora, action="append", default=[], metavar="FILE[:STRENGTH]", help=lora_help)
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N, mps")
    add("--dtype", choices=("bf16", "fp16", "fp32"), default="bf16", help="to compute in; the audio VAE takes fp32")
    kernels = ("auto", "sdpa", "onednn", "xformers", "sage")
    add("--attention", choices=kernels, default="auto", help="the kernel; auto takes only exact ones")
    add("--elementwise", choices=("torch", "triton"), default="torch", help="triton: norm and rotation in one pass")
    add("--low-memory", action="store_true", help="a tenth less at the peak; some weights are read several times")
    add("--resume", action="store_true", help="go on with a run that was stopped: what is kept of it lies beside --out")
    add("--tiled-vae", action="store_true", help="encode and decode the video in tiles: less memory, slower")

    convert = commands.add_parser("convert", help="write the single files that ComfyUI loads", formatter_class=show)
    convert.set_defaults(run=run_convert)
    convert.set_defaults(stopped="finished files stay, the one at work is gone; the same command goes on from there.")
    add = convert.add_argument
    add("source", type=Path, help="folder laid out like the release, or the bf16 file of one expert")
    add("destination", type=Path, help="folder like ComfyUI's models")
    add("--dtype", default="bf16", help="of the experts and the text encoder; a wrong name lists what there is")
    add("--parts", nargs="+", help="only these: high_noise, low_noise, audio_vae, video_vae, text_encoder")
    add("--name", help="what the files' names begin with (the source's name if not given)")
    add("--verify", action="store_true", help="read each file back, and compare it with its source")

    download = commands.add_parser("download", help="the same, from the model hub", formatter_class=show)
    download.set_defaults(run=run_download)
    download.set_defaults(stopped="what has arrived stays; the same command goes on from there.")
    add = download.add_argument
    add("name", help="MOVA-360p, MOVA-720p, or OWNER/NAME of a repository laid out like them")
    without = (
        "if not given: ComfyUI's models, beside the custom_nodes that this pack is in, and what the workflows need"
    )
    add("destination", type=Path, nargs="?", help=f"folder like ComfyUI's models ({without})")
    dtype_help = "of the experts and the text encoder (bf16, or without destination fp8_e4m3_scaled)"
    add("--dtype", help=f"{dtype_help}; a wrong name lists what there is")
    of_release = "high_noise, low_noise, audio_vae, video_vae, text_encoder"
    for_wan = "wan_vae, wan_text_encoder: the files for Wan that the workflows name"
    add("--parts", nargs="+", help=f"only these: {of_release} of the release; {for_wan}")
    add("--verify", action="store_true", help="read back what is written, and compare it with its source")

    info = commands.add_parser("info", help="say what a checkpoint or a clip is")
    info.set_defaults(run=run_info)
    info.add_argument("path", type=Path, help="a model folder, a weights file (also GGUF), a LoRA or an .mp4 clip")

    tiny = commands.add_parser("tiny", help="write a small checkpoint with random weights", formatter_class=show)
    tiny.set_defaults(run=run_tiny)
    tiny.add_argument("folder", type=Path, help="a new one, or an empty one")
    tiny.add_argument("--seed", type=whole, default=0, help="of the weights")
    return root


def run_generate(options: argparse.Namespace) -> None:
    """Check everything, then load, generate and write."""
    # Imported here: these take seconds, which --help should not.
    from .checkpoint.release import open_checkpoint
    from .clip import media, pipeline, runtime
    from .clip.contact_sheet import write_contact_sheet
    from .clip.graph import graph_of
    from .clip.request import identity, settings_of
    from .clip.rescue import Keeper
    from .sampling.conditioning import crop_notice

    quiet_libraries()
    media.check_output(options.out)
    if options.contact_sheet:
        media.check_output(options.contact_sheet, ".png")
    request = request_from(options)
    request.check()
    for picture, what in ((request.image, "first"), (request.end_image, "last")):
        notice = picture and crop_notice(picture.width, picture.height, what, options.width, options.height)
        if notice:
            tell(notice)
    device, dtype = runtime.device_and_dtype(options.device, options.dtype)
    if options.device == "auto" and device.type == "cpu":
        tell("no usable GPU found: computing on the CPU")
    with alone(options.out.with_suffix(".mp4")), StepBar(options.steps) as progress:
        where = runtime.Runtime(
            device,
            dtype,
            options.attention,
            options.elementwise,
            options.low_memory,
            options.tiled_vae,
            part=progress.part,
            step=progress.step,
            notice=progress.tell,
        )
        checkpoint = open_checkpoint(options.checkpoint)
        place = options.out.with_suffix(".unfinished.safetensors")
        keeper = Keeper(place, identity(checkpoint, request, where), options.steps, progress.tell)
        done = kept_run(keeper, options.resume)
        settings = settings_of(checkpoint, request, where)
        graph = graph_of(settings, *(path and path.name for path in (options.image, options.end_image)))
        try:
            with keeper.saying_so():
                result = pipeline.generate(checkpoint, request, where, keeper, done)
                progress.part("writing the clip")
                clip = (result.frames, options.fps, result.waveform, result.sample_rate, settings)
                media.write_clip(options.out, *clip, tell=progress.tell, graph=graph)
        except KeyboardInterrupt:
            options.stopped = f"{keeper.told()}." if keeper.told() else "nothing was written."
            raise
        keeper.remove()
    print(options.out)
    if options.contact_sheet:
        write_contact_sheet(options.contact_sheet, result.frames, result.waveform, result.sample_rate)
        print(options.contact_sheet)


def kept_run(keeper: Any, resume: bool) -> Any:
    """The run to go on with; None begins anew. Raises MovaError if what is kept is of another run."""
    from .clip.request import HOW
    from .clip.rescue import check_same, read_run

    if not resume:
        if keeper.path.exists():
            keeper.notice(f"{keeper.path} is of a run that was stopped (--resume goes on with it); it is replaced now.")
        return None
    if not keeper.path.exists():
        raise MovaError(f"Nothing is kept of a run for this clip ({keeper.path} is not there); leave out --resume.")
    done = read_run(keeper.path)
    if others := check_same(keeper.path, done, keeper.said, but=HOW):
        keeper.notice(f"The run was begun with another {' and '.join(others)}: its rounding may differ.")
    keeper.kept = done.step
    keeper.notice(f"{keeper.path}: {done.step} of {done.steps} steps are done.")
    return done


def request_from(options: argparse.Namespace) -> Any:
    """The options as a Request, with the pictures read."""
    from .clip import reading
    from .clip.request import Request
    from .lora.plan import LoraChoice
    from .sampling.guidance import Guidance

    same = ("prompt", "negative_prompt", "text_only_frame", "width", "height", "frames", "fps", "steps", "seed")
    values = {
        name: getattr(options, name) for name in (*same, "video_shift", "audio_shift", "boundary") if name in options
    }
    return Request(
        **values,
        image=reading.read_image(options.image) if options.image else None,
        end_image=reading.read_image(options.end_image) if options.end_image else None,
        guidance=Guidance(options.guidance, options.bridge_guidance, options.audio_guidance),
        loras=tuple(LoraChoice(path, strength) for path, strength in options.lora),
    )


def run_convert(options: argparse.Namespace) -> None:
    """Write the files; what was left out or kept is said."""
    from .convert.run import convert

    with ByteBar() as progress:
        request = (options.source, options.destination, options.dtype, options.name, options.parts, options.verify)
        tell_files(convert(*request, progress, tell), progress)


def run_download(options: argparse.Namespace) -> None:
    """Write the files of a release on the hub; what was left out or kept is said, and what the workflows lack then."""
    from .download.needed import DTYPE, NEEDED, lacking
    from .download.run import download

    folder, dtype, parts = options.destination, options.dtype, options.parts
    if folder is None:
        folder, dtype, parts = models_folder(Path(__file__).parents[1]), dtype or DTYPE, parts or NEEDED
    with ByteBar() as progress:
        request = (options.name, folder, dtype or "bf16", parts, options.verify, progress)
        tell_files(download(*request, tell), progress)
    if parts and (missing := lacking(folder)):
        tell(missing)


def tell(text: str) -> None:
    """What the user should know, apart from what the command was asked for."""
    print(text, file=sys.stderr)


def tell_files(files: Iterable[Any], progress: "ByteBar") -> None:
    """Print each converted file as it is done."""
    for file in files:
        progress.close()
        notes = ["kept: it was there already"] * file.kept + ["verified: it is what its source gives"] * file.verified
        print(file.path, f"({'; '.join(notes)})" if notes else "", flush=True)


def run_info(options: argparse.Namespace) -> None:
    from .tools.info import describe

    for line in describe(options.path):
        print(line)


def run_tiny(options: argparse.Namespace) -> None:
    from .tools.tiny import write_tiny

    write_tiny(options.folder, seed=options.seed)
    print(f"{options.folder}: a small MOVA checkpoint with random weights")


if __name__ == "__main__":
    sys.exit(main())
