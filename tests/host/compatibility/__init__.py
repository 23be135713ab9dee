"""What is tried of ComfyUI's own nodes, a file for each part of docs/compatibility.md."""

from collections.abc import Callable
from dataclasses import dataclass

from bench import Bench, differ
from golden import error
from graphs import headless, ref, to_model_scale

from mova.sampling.guidance import Guidance


@dataclass(frozen=True)
class Try:
    """One line of the table. `check` runs the workflow, and asserts what must come out."""

    part: str
    node: str
    on: str
    check: Callable[[Bench], None]
    does_not: str = ""  # why, in plain words, where the run fails with an error of ComfyUI's own or does nothing
    note: str = ""
    slow: bool = False  # minutes: only tried when the table is written, or with MOVA_SLOW_TESTS=1


TRIES: list[Try] = []
NESTED = "it does not know latents of two parts; use it on the video and the audio of MOVA Separate Latent"


def tried(part: str, node: str, on: str, **more):
    def keep(check):
        TRIES.append(Try(part, node, on, check, **more))
        return check

    return keep


def changes(
    node: str,
    on: str,
    does_not: str = "",
    note: str = "",
    settings: dict | None = None,
    joint: dict | None = None,
    **inputs,
):
    """A node that patches the model: it runs, and the result is another than without it.

    `settings` are of KSampler; `joint`, if given, are of MOVA Joint Sampler, which is then tried in its place.
    """

    def check(bench: Bench) -> None:
        patched = ref(bench.add(node, model=bench.plain_model, **inputs))
        plain_and_patched = bench.plain_model, patched
        if joint is None:
            both = [bench.sample(model, **(settings or {})) for model in plain_and_patched]
        else:
            both = [ref(bench.joint(model, bench.given, **joint)) for model in plain_and_patched]
        plain, found = bench.results(*both)
        assert differ(found, plain) > 1e-6, "without effect"

    TRIES.append(Try("Models", node, on, check, does_not, note))


def assert_golden(found, cfg):
    video, audio = headless(3, 3, Guidance(cfg))
    assert error(to_model_scale(found["video"]), video) < 1e-5 and error(found["audio"], audio) < 1e-5


# In the order of the table; here, since each of them needs what is above.
from . import models, samplers, conditioning, latents, vae  # noqa: E402, F401, I001
