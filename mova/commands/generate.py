"""generate: from a prompt to an MP4."""

import argparse
from pathlib import Path
from typing import Any

from ..arguments import Defaults, lora, span, whole
from ..errors import MovaError
from ..files import alone
from ..model.presets import DEFAULT, nearest_prism
from ..progress import StepBar, quiet_libraries, tell
from .enhance import add_writer_options, wanted, write


def add_to(commands: Any) -> None:
    """The command and its options."""
    generate = commands.add_parser("generate", help="make a clip", formatter_class=Defaults)
    generate.set_defaults(run=run_generate)
    add = generate.add_argument
    add("--checkpoint", type=Path, required=True, help="folder laid out like the release")
    add("--prism", type=Path, help="Prism's file, put over --checkpoint, which is MOVA-360p then")
    add("--prompt", required=True, help="what should be seen and heard")
    add("--negative-prompt", help="what should not (Wan's list if not given)", default=argparse.SUPPRESS)
    add("--audio-prompt", help="a text of the sound's own, for the audio tower (the prompt if not given)")
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
    add("--audio-steps", type=whole, default=1, help="of the audio in each step, for runs of few steps")
    kept = "how what these attend to is kept; fp8: in half the memory"
    add("--audio-memory", choices=("exact", "fp8"), default="exact", help=kept)
    taught = (
        "see the picture as the model without the LoRAs makes it, from this layer on (0: all); more memory and work"
    )
    add("--audio-teacher", type=whole, metavar="LAYER", help=f"the sound's own steps {taught}")
    add("--guidance", type=float, default=DEFAULT.guidance, help="of the text, on both modalities")
    add("--audio-guidance", type=float, help="of the text on the audio, if it should differ")
    add("--bridge-guidance", type=float, default=1.0, help="more ties the sound closer to the picture; 1 is off")
    whose = {
        "--guidance": "the text's guidance",
        "--audio-guidance": "the audio's",
        "--bridge-guidance": "the bridge's",
    }
    for name, what in whose.items():
        add(f"{name}-range", type=span, metavar="START:END", help=f"percent of the steps in which {what} counts")
    per_step = "of the text in the first steps, such as 6,4,1; the last of them in the others"
    add("--guidance-per-step", metavar="SCALES", default="", help=per_step)
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
    tiles = "encode and decode the video in tiles: less memory, slower; by what is free if neither is given"
    add("--tiled-vae", action=argparse.BooleanOptionalAction, help=tiles)
    add_writer_options(generate.add_argument_group("a language model that makes more of the prompt first").add_argument)


def run_generate(options: argparse.Namespace) -> None:
    """Check everything, then load, generate and write."""
    # Imported here: these take seconds, which --help should not.
    from ..checkpoint.prism import open_prism, over
    from ..checkpoint.release import open_checkpoint
    from ..clip import media, pipeline, runtime
    from ..clip.contact_sheet import write_contact_sheet
    from ..clip.graph import graph_of
    from ..clip.request import identity, settings_of
    from ..clip.rescue import Keeper
    from ..sampling.conditioning import crop_notice

    quiet_libraries()
    media.check_output(options.out)
    if options.contact_sheet:
        media.check_output(options.contact_sheet, ".png")
    enhancing = wanted(options)
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
        if options.prism:
            checkpoint = over(open_prism(options.prism), checkpoint)
        place = options.out.with_suffix(".unfinished.safetensors")
        if enhancing:
            progress.part("language model")
            request = enhanced(options, request, checkpoint, where, place)
            progress.tell(request.prompt)
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


def enhanced(options: argparse.Namespace, request: Any, checkpoint: Any, where: Any, place: Path) -> Any:
    """The request with the prompt that a language model makes of it; of a run that goes on, the one it began with."""
    import dataclasses

    from ..clip.rescue import read_run
    from ..enhance.task import CLIP, PRISM
    from ..model import text

    typed = request.prompt
    if options.resume and place.exists():
        said = read_run(place).said
        if said.get("typed_prompt") == typed and isinstance(said.get("prompt"), str):
            sound = said.get("audio_prompt")
            sound = sound if isinstance(sound, str) else None
            return dataclasses.replace(request, prompt=said["prompt"], typed_prompt=typed, audio_prompt=sound)
    tokenizer = text.load_tokenizer(checkpoint.root / "tokenizer")
    made = write(
        options,
        typed,
        {"first": request.image, "last": request.end_image},
        PRISM if options.prism else CLIP,
        where.device,
        where.dtype,
        lambda prompt: text.token_count(tokenizer, prompt),
    )
    sound = request.audio_prompt
    if options.prism and sound is None and made.sound:
        sound = made.sound
    return dataclasses.replace(request, prompt=made.prompt, typed_prompt=typed, audio_prompt=sound)


def kept_run(keeper: Any, resume: bool) -> Any:
    """The run to go on with; None begins anew. Raises MovaError if what is kept is of another run."""
    from ..clip.request import HOW
    from ..clip.rescue import check_same, read_run

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
    from ..clip import reading
    from ..clip.request import Request
    from ..lora.plan import LoraChoice
    from ..sampling.guidance import Guidance
    from ..sampling.guidance_plan import WHOLE, Spans, per_step

    same = (
        "prompt",
        "negative_prompt",
        "audio_prompt",
        "text_only_frame",
        "width",
        "height",
        "frames",
        "fps",
        "steps",
        "seed",
        "audio_steps",
        "audio_memory",
        "audio_teacher",
    )
    values = {
        name: getattr(options, name) for name in (*same, "video_shift", "audio_shift", "boundary") if name in options
    }
    if options.prism:
        sized = nearest_prism(options.width, options.height)
        for name, shift in (("video_shift", sized.shift), ("audio_shift", sized.audio_shift)):
            values[name] = shift if values[name] is None else values[name]
    return Request(
        **values,
        image=reading.read_image(options.image) if options.image else None,
        end_image=reading.read_image(options.end_image) if options.end_image else None,
        guidance=Guidance(options.guidance, options.bridge_guidance, options.audio_guidance),
        spans=Spans(
            options.guidance_range or WHOLE,
            options.audio_guidance_range,
            options.bridge_guidance_range or WHOLE,
            per_step(options.guidance_per_step),
        ),
        loras=tuple(LoraChoice(path, strength) for path, strength in options.lora),
    )
