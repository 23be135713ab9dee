"""What fewer evaluations cost in exactness and save in work: guidance in ranges, audio steps and their teacher, the
step cache. Video and audio apart.

    python benchmarks/fewer.py            # errors, on a small model: two hours on two cores
    python benchmarks/fewer.py --cache    # those of the step cache alone: minutes
    python benchmarks/fewer.py --teacher  # of audio steps with a distilled LoRA and a teacher: half an hour
    python benchmarks/fewer.py --costs    # FLOPs and minutes of the released size, worked out
    python benchmarks/fewer.py --memory   # the peak with audio steps at that size, by where they keep what: minutes

The model is benchmarks/quantization.py's, random with the outliers of large transformers; errors are of the latents,
|found - wanted| / |wanted|. It knows no pictures and no sounds: the order of the settings counts, not their size.
"""

import argparse
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cached_steps import caches
from distilled import distilled
from peak_memory import forward_of
from peakmem import PeakMem
from quantization import SIZES, error, inputs, outliers

from authoring.times import flops, tokens
from mova import JointModel
from mova.clip.request import Request
from mova.clip.velocity import Teacher, Velocities
from mova.model.joint import Text
from mova.model.kernels import Kernels
from mova.model.presets import DEFAULT, Preset
from mova.model.video_memory import VideoMemory, where_it_is
from mova.sampling.audio_steps import between, counts
from mova.sampling.euler import Callback, euler
from mova.sampling.guidance import Guidance
from mova.sampling.guidance_plan import Spans
from mova.sampling.schedule import low_noise_start, sigmas

RELEASED = Request("released", steps=20, guidance=Guidance(5.0))
HALF, MOST = (0.0, 0.5), (0.0, 0.75)
GUIDANCE: dict[str, Request] = {
    "cfg 5 in all 20 steps": RELEASED,
    "cfg 5 in the first three quarters": dataclasses.replace(RELEASED, spans=Spans(MOST)),
    "cfg 5 in the first half": dataclasses.replace(RELEASED, spans=Spans(HALF)),
    "the same, the audio's in all steps": dataclasses.replace(RELEASED, spans=Spans(HALF, audio=(0.0, 1.0))),
    "cfg 5 in the second half": dataclasses.replace(RELEASED, spans=Spans((0.5, 1.0))),
    "cfg 5 in the first step": dataclasses.replace(RELEASED, spans=Spans(per_step=(5.0, 1.0))),
    "cfg 1": dataclasses.replace(RELEASED, guidance=Guidance(1.0)),
    "cfg 5, bridge_cfg 3 in all steps": dataclasses.replace(RELEASED, guidance=Guidance(5.0, 3.0)),
    "the same, bridge_cfg in the first half": dataclasses.replace(
        RELEASED, guidance=Guidance(5.0, 3.0), spans=Spans(bridge=HALF)
    ),
}
AGAINST = {"the same, bridge_cfg in the first half": "cfg 5, bridge_cfg 3 in all steps"}
FEW = Request("few", steps=8, guidance=Guidance(3.0))
FINE = dataclasses.replace(FEW, steps=32)
AUDIO: dict[str, Request] = {
    "8 steps": FEW,
    "8 steps, audio_steps 2": dataclasses.replace(FEW, audio_steps=2),
    "8 steps, audio_steps 4": dataclasses.replace(FEW, audio_steps=4),
    "8 steps, audio_steps 4, fp8": dataclasses.replace(FEW, audio_steps=4, audio_memory="fp8"),
    "16 steps": dataclasses.replace(FEW, steps=16),
}


@torch.no_grad()
def run(
    model: JointModel, request: Request, teacher: JointModel | None = None, after: Callback | None = None
) -> tuple[tuple[Tensor, Tensor], float]:
    """The latents, and the FLOPs of the run. teacher: as the request has it; after: called behind each step."""
    given, schedule = inputs((2, 12, 12)), sigmas(request.steps)

    def told(model: JointModel) -> list[Text]:
        return [model.embed_text(given[name]) for name in ("text", "negative")]

    velocities = Velocities(model, told(model), given["video"][:, 16:], request, schedule)

    def own(step: int) -> Tensor:
        return between(schedule, step, request.audio_steps, 5.0)

    alone = None if request.audio_steps == 1 else (own, velocities.audio)
    with FlopCounterMode(display=False) as counter:
        if teacher is not None and request.audio_teacher is not None:
            velocities.teacher = Teacher(teacher, told(teacher), request.audio_teacher)
        made = euler(velocities.joint, given["video"][:, :16], given["audio"], schedule, schedule, after, alone=alone)
    return made, counter.get_total_flops()


def table(model: JointModel, rows: dict[str, Request], wanted: Callable[[str], Request]) -> None:
    found: dict[str, tuple[tuple[Tensor, Tensor], float]] = {}

    def made(request: Request) -> tuple[tuple[Tensor, Tensor], float]:
        if repr(request) not in found:
            found[repr(request)] = run(model, request)
        return found[repr(request)]

    first = made(next(iter(rows.values())))[1]
    print("| | evaluations | work | video | audio |\n| --- | --: | --: | --: | --: |")
    for name, request in rows.items():
        latents, work = made(request)
        errors = [error(*pair) for pair in zip(latents, made(wanted(name))[0], strict=True)]
        said = [f"{request.plan.evaluations(request.steps)}", f"{work / first:.2f}", *(f"{e:.2g}" for e in errors)]
        print(f"| {name} | {' | '.join(said)} |", flush=True)


LORA = dataclasses.replace(FEW, guidance=Guidance(1.0, 1.0, 3.0))
FOUR = dataclasses.replace(LORA, audio_steps=4)
TAUGHT: dict[str, Request] = {  # with the LoRA
    "8 steps, cfg 1, the LoRA": dataclasses.replace(FEW, guidance=Guidance(1.0)),
    "the same, audio_cfg 3": LORA,
    "the same, audio_steps 4": FOUR,
    "the same, its teacher from layer 2 on": dataclasses.replace(FOUR, audio_teacher=2),
    "the same, its teacher from layer 1 on": dataclasses.replace(FOUR, audio_teacher=1),
    "the same, its teacher from layer 0 on": dataclasses.replace(FOUR, audio_teacher=0),
}


def taught(model: JointModel) -> None:
    """The sound beside the picture of a distilled LoRA, against FINE without it: by what the sound sees of it."""
    given = inputs((2, 12, 12))
    path = [(given["video"][:, :16], given["audio"])]

    def note(step: int, video: Tensor, audio: Tensor) -> None:
        if not (step + 1) % (FINE.steps // FEW.steps):
            path.append((video.clone(), audio.clone()))

    wanted, whole = run(model, FINE, after=note)
    fast, left = distilled(model, sigmas(FEW.steps), path, given["video"][:, 16:], given["text"])
    print(f"The LoRA's video velocities on the path of the full run are off by {left:.2g}.")
    print("| | work | video | audio |\n| --- | --: | --: | --: |\n| 32 steps, cfg 3 | 1.00 | 0 | 0 |")
    rows = {"8 steps, cfg 3": (model, FEW), **{name: (fast, request) for name, request in TAUGHT.items()}}
    for name, (used, request) in rows.items():
        made, work = run(used, request, teacher=model)
        errors = " | ".join(f"{error(*pair):.2g}" for pair in zip(made, wanted, strict=True))
        print(f"| {name} | {work / whole:.2f} | {errors} |", flush=True)


# One evaluation of the audio alone at 193 frames: products (counted by benchmarks/peak_memory.py's way), and scores
# against so many video tokens in 30 layers of width 1536.
ALONE, AUDIO_TOKENS = 1.27e12, 403
SOUNDING = Request("a", steps=8, guidance=Guidance(1.0, 1.0, 5.0), audio_steps=4)
COSTS: dict[str, Request] = {
    "50 steps, cfg 5: the release's": Request("a", steps=50, guidance=Guidance(5.0)),
    "50 steps, cfg 5, bridge_cfg 3": Request("a", steps=50, guidance=Guidance(5.0, 3.0)),
    "50 steps, cfg 5 in the first half": Request("a", steps=50, guidance=Guidance(5.0), spans=Spans(HALF)),
    "30 steps, cfg 5": Request("a", steps=30, guidance=Guidance(5.0)),
    "20 steps, cfg 3: the workflows' draft": Request("a", steps=20, guidance=Guidance(3.0)),
    "8 steps, cfg 1, audio_steps 4": Request("a", steps=8, guidance=Guidance(1.0), audio_steps=4),
    "8 steps, cfg 1, audio_steps 8": Request("a", steps=8, guidance=Guidance(1.0), audio_steps=8),
    "8 steps, cfg 1, audio_cfg 5, audio_steps 4": SOUNDING,
    "the same, its teacher from layer 10 on": dataclasses.replace(SOUNDING, audio_teacher=10),
    "the same, its teacher from layer 0 on": dataclasses.replace(SOUNDING, audio_teacher=0),
}


def teacher_share(first: int) -> float:
    """What a teacher's pass from this layer on costs, of an evaluation, where all layers cost alike."""
    return (max(DEFAULT.model.dual_tower_bridge.layers) - first) / DEFAULT.model.video_dit.num_layers


def peak(preset: Preset, sound: int, memory: VideoMemory) -> int:
    """Bytes, of a model with so many layers with sound, and one without."""
    with FakeTensorMode(), torch.no_grad():
        model, forward = forward_of(preset, Kernels(), torch.bfloat16, sound + 1, memory=memory)
        with PeakMem(model) as found:
            forward()
    return found.peak


def memory() -> None:
    """The peak of an evaluation at the released size whose keys and values are kept, by where they lie.

    It grows by as much with each layer with sound: counted with 1 and with 3 of them, and worked out for the release's.
    """
    places = {"on the card": where_it_is, "in RAM or on the disk": lambda tensor, name: tensor[:, :0].clone()}
    layers = len(DEFAULT.model.dual_tower_bridge.layers)
    print("| clip | what is kept lies | as | peak, GiB |\n| --- | --- | --- | --: |")
    for width, height in ((640, 352), (1280, 720)):
        preset = dataclasses.replace(DEFAULT, width=width, height=height)
        for name, place in places.items():
            for fp8 in (False, True):
                few, more = (peak(preset, sound, VideoMemory(place, fp8)) for sound in (1, 3))
                whole = few + (layers - 1) * (more - few) // 2
                print(
                    f"| {width}x{height} | {name} | {'fp8' if fp8 else 'computed'} | {whole / 2**30:.2f} |", flush=True
                )


def costs() -> None:
    for width, height in ((640, 352), (1280, 720)):
        whole = flops(width, height, 193)
        alone = ALONE + 4 * AUDIO_TOKENS * tokens(width, height, 193) * 1536 * 30
        print(f"| {width}x{height}, 193 frames | evaluations | EFLOP | min at 100 TFLOP/s | at 700 |")
        print("| --- | --: | --: | --: | --: |")
        for name, request in COSTS.items():
            asked = range(request.steps if request.audio_teacher is not None else 0)
            count, of_audio = counts(request.plan, request.steps, request.audio_steps, taught=asked)
            share = teacher_share(request.audio_teacher or 0)
            work = count * whole + of_audio * alone + len(asked) * share * whole
            more = f" + {of_audio} of the audio" if of_audio else ""
            more += f" + {len(asked)} x {share:.2f} of the teacher" if asked else ""
            minutes = (f"{work / rate / 60:.1f}" for rate in (1e14, 7e14))
            print(f"| {name} | {count}{more} | {work / 1e18:.3f} | {' | '.join(minutes)} |")
        if height == 720:
            high = low_noise_start(sigmas(50, DEFAULT.shift), DEFAULT.boundary)
            work = 2 * high * flops(640, 352, 193) + 2 * (50 - high) * flops(1280, 704, 193)
            minutes = (f"{work / rate / 60:.1f}" for rate in (1e14, 7e14))
            name = "50 steps, cfg 5, in two stages: workflow 12"
            print(f"| {name} | {2 * high} small + {2 * (50 - high)} | {work / 1e18:.3f} | {' | '.join(minutes)} |")
        print(f"An audio step alone: {alone:.2e} FLOPs, {alone / whole:.2%} of an evaluation.\n")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--costs", action="store_true", help="of the released size, in place of errors")
    arguments.add_argument("--memory", action="store_true", help="the peak with audio steps, by where they keep what")
    arguments.add_argument("--cache", action="store_true", help="of the step cache alone")
    arguments.add_argument("--teacher", action="store_true", help="of a distilled LoRA's sound alone")
    options = arguments.parse_args()
    if options.costs:
        costs()
        return
    if options.memory:
        memory()
        return
    torch.manual_seed(0)
    model = JointModel(SIZES).requires_grad_(False)
    outliers(model, 100.0)
    if options.teacher:
        taught(model)
        return
    caches(model, RELEASED)
    if options.cache:
        return
    print()
    table(model, GUIDANCE, lambda name: GUIDANCE[AGAINST.get(name, "cfg 5 in all 20 steps")])
    print()
    table(model, AUDIO, lambda name: FINE)
    print()
    taught(model)


if __name__ == "__main__":
    main()
