"""Workflows in API format for the golden models, and the files that they name."""

import functools
import itertools
import json
from pathlib import Path
from typing import Any

import torch
from golden import CASES, audio_vae, drawn, joint_inputs, joint_model, weight
from safetensors.torch import save_file
from torch import Tensor

from mova import AudioVAE, AudioVAEConfig
from mova.sampling.euler import euler
from mova.sampling.guidance import Guidance, guided
from mova.sampling.guidance_plan import GuidancePlan, step_of
from mova.sampling.schedule import low_noise_start, sigmas
from mova.tools.tiny import write_part

KIND = "head128"
EXPERTS = {"high": "video_dit", "low": "video_dit_2"}
GIVEN = {"file": "golden.safetensors"}
CONFIG = CASES[f"joint_{KIND}"]["config"]
AUDIO_CONFIG = {**CASES["dac"]["config"], "latent_dim": 128}


def write_files(base: Path) -> None:
    """The golden experts as single files (with and without their configuration), a plain Wan model, and the inputs."""
    models = base / "models/diffusion_models"
    for name, expert in EXPERTS.items():
        state = joint_model(KIND, expert).state_dict()
        config = json.dumps({**CONFIG, "transformer": {**CONFIG, "expert": f"{name}_noise"}})
        save_file(state, models / f"mova_{name}.safetensors", {"config": config})
        save_file(state, models / f"bare_{name}.safetensors")
        half = {key: value.bfloat16() for key, value in state.items()}
        save_file(half, models / f"half_{name}.safetensors", {"config": config})
    wan = {key: value for key, value in state.items() if not key.startswith(("audio_dit.", "dual_tower_bridge."))}
    save_file(wan, models / "wan.safetensors")
    save_file(joint_inputs(KIND), base / "input/golden.safetensors")
    write_released(models / "MOVA-golden")
    config = json.dumps(CASES["dac"]["config"])
    save_file(audio_vae().state_dict(), base / "models/vae/golden_audio.safetensors", {"config": config})


def write_released(folder: Path) -> None:
    """The golden models laid out as a release, with an audio VAE of the latents' 128 channels."""
    folder.mkdir()
    (folder / "model_index.json").write_text("{}")
    for part in ("video_dit", "video_dit_2", "audio_dit", "dual_tower_bridge"):
        state = joint_model(KIND, "video_dit_2" if part == "video_dit_2" else "video_dit").state_dict()
        prefix = "" if part.startswith("video_dit") else f"{part}."
        others = ("audio_dit.", "dual_tower_bridge.")
        mine = {
            key.removeprefix(prefix): value
            for key, value in state.items()
            if (key.startswith(prefix) if prefix else not key.startswith(others))
        }
        write_part(folder / part, CONFIG["video_dit" if part == "video_dit_2" else part], mine)
    write_part(folder / "audio_vae", AUDIO_CONFIG, released_audio_vae().state_dict())


def released_audio_vae() -> AudioVAE:
    vae = AudioVAE(AudioVAEConfig.from_dict(AUDIO_CONFIG))
    vae.load_state_dict({n: weight(f"audio_vae.{n}", tuple(value.shape)) for n, value in vae.state_dict().items()})
    return vae


class Graph:
    """A workflow being written: graph.add("Class", input=value) gives the node's id; ref(id, 1) its second output."""

    def __init__(self) -> None:
        self.nodes: dict[str, Any] = {}
        self.ids = map(str, itertools.count(1))

    def add(self, class_type: str, **inputs: Any) -> str:
        node = next(self.ids)
        self.nodes[node] = {"class_type": class_type, "inputs": inputs}
        return node

    def model(self, name: str) -> list:
        return ref(self.add("UNETLoader", unet_name=f"{name}.safetensors", weight_dtype="default"))

    def conditioning(self, vae: list | None = None, **settings: Any) -> str:
        """MOVA Conditioning of a short clip, with its texts, and with a Wan VAE if none is given."""
        clip = ref(self.add("ProbeClip"))
        texts = self.add("MOVATextEncode", clip=clip, prompt="a cat sings", negative_prompt="a dog")
        values = {"width": 96, "height": 64, "length": 9, "fps": 24.0, "batch_size": 1, **settings}
        vae = vae or ref(self.add("ProbeWanVAE"))
        return self.add("MOVAConditioning", positive=ref(texts), negative=ref(texts, 1), vae=vae, **values)

    def custom(self, guider: list, sigmas: list, noise: list, latent: list, sampler_name: str = "euler") -> str:
        sampler = ref(self.add("KSamplerSelect", sampler_name=sampler_name))
        return self.add(
            "SamplerCustomAdvanced", noise=noise, guider=guider, sampler=sampler, sigmas=sigmas, latent_image=latent
        )

    def ksampler(self, model: list, given: str, latent: list | None = None, **settings: Any) -> str:
        defaults = {"seed": 7, "steps": 3, "cfg": 2.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
        conds = {"positive": ref(given, 0), "negative": ref(given, 1)}
        return self.add(
            "KSampler", model=model, latent_image=latent or ref(given, 2), **conds, **{**defaults, **settings}
        )

    def joint(self, model_high: list, given: str, latent: list | None = None, **settings: Any) -> str:
        defaults = {"seed": 7, "steps": 4, "cfg": 2.0, "video_shift": 5.0, "audio_shift": 5.0, "boundary": 0.9}
        conds = {"positive": ref(given, 0), "negative": ref(given, 1)}
        return self.add(
            "MOVAJointSampler",
            model_high=model_high,
            latent=latent or ref(given, 2),
            **conds,
            **{**defaults, **settings},
        )

    def enhanced(self, clip: list, prompt: str = "a fox in the snow", **settings: Any) -> str:
        defaults = {"style": "as described", "language": "English", "seed": 0, "max_length": 100, "temperature": 0.7}
        return self.add("MOVAEnhancePrompt", clip=clip, prompt=prompt, **{**defaults, **settings})

    def save(self, latent: list, name: str = "out.safetensors") -> str:
        return self.add("ProbeSave", latent=latent, name=name)


def ref(node: str, output: int = 0) -> list:
    return [node, output]


@functools.cache
def golden_model(expert: str):
    return joint_model(KIND, EXPERTS[expert])


@torch.no_grad()
def headless(
    steps: int,
    switch: int,
    guidance: Guidance,
    video_shift: float = 5.0,
    audio_shift: float = 5.0,
    scales: tuple[float, float] = (1.0, 1.0),
    audio_text: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """headless_plan with the same guidance in all steps. `switch`: steps of `high`."""
    return headless_plan(steps, GuidancePlan(guidance), switch, video_shift, audio_shift, scales, audio_text)


@torch.no_grad()
def headless_plan(
    steps: int,
    plan: GuidancePlan,
    switch: int | None = None,
    video_shift: float = 5.0,
    audio_shift: float = 5.0,
    scales: tuple[float, float] = (1.0, 1.0),
    audio_text: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Our own loop outside ComfyUI, on the golden inputs: latents in the model's scale. `switch`: steps of `high`,
    by default up to the boundary at 0.9.

    audio_text: features that the audio tower reads in place of the prompt's.
    """
    inputs = joint_inputs(KIND)
    video, audio, condition = inputs["video"][:, :16], inputs["audio"], inputs["video"][:, 16:]
    schedule = [sigmas(steps, video_shift), sigmas(steps, audio_shift)]
    switch = low_noise_start(schedule[0], 0.9) if switch is None else switch
    for expert, part in (("high", slice(0, switch + 1)), ("low", slice(switch, None))):

        def velocity(video, audio, video_time, audio_time, model=golden_model(expert)):  # noqa: B008
            times = torch.tensor([video_time]), torch.tensor([audio_time])
            x = torch.cat([video, condition], dim=1)

            def evaluate(text, bridge):
                context = model.embed_text(inputs["text"], audio_text) if text else inputs["negative_text"]
                return model(x, audio, *times, context, 24.0, *(bridge * scale for scale in scales))

            return guided(evaluate, plan.at(step_of(video_time / 1000, schedule[0]), steps))

        video, audio = euler(velocity, video, audio, *(column[part] for column in schedule))
    return video, audio


def channel(values: str) -> Tensor:
    return torch.tensor([float(value) for value in values.split()]).view(1, -1, 1, 1, 1)


# latents_mean and latents_std in the config.json of the Wan 2.1 VAE.
WAN_MEAN = channel(
    "-0.7571 -0.7089 -0.9113 0.1075 -0.1745 0.9653 -0.1517 1.5508 "
    "0.4134 -0.0715 0.5517 -0.3632 -0.1922 -0.9497 0.2503 -0.2921"
)
WAN_STD = channel(
    "2.8184 1.4541 2.3275 2.6558 1.2196 1.7708 2.6052 2.0743 3.2687 2.1526 2.8652 1.5579 1.6382 1.1253 2.8251 1.9160"
)


def to_model_scale(video: Tensor) -> Tensor:
    """From the Wan VAE's scale, which LATENTs have between nodes."""
    return (video - WAN_MEAN) / WAN_STD


def numbers(name: str, *shape: int) -> Tensor:
    """Normal numbers of our own, the same in every run."""
    return torch.from_numpy(drawn(name, shape)).float()
