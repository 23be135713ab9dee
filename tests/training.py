"""The published training step's numbers, and the inputs and LoRAs that it was computed with."""

import json

import torch
from golden import CASES, GOLDEN, drawn, expected, joint_model, weight
from torch import Tensor

from mova.sampling.conditioning import condition_mask
from mova.train import add_lora

TOLD = json.loads((GOLDEN / "training.json").read_text())
RUN = TOLD["run"]


def given(kind: str) -> dict[str, Tensor]:
    """What velocity_losses takes beside the model and the timesteps; kind is "small" or "head128"."""
    shapes = CASES[f"joint_{kind}"]["inputs"]
    batch, _, *size = shapes["video"]

    def train(name: str, shape: list[int]) -> Tensor:
        return torch.from_numpy(drawn(f"input.joint_{kind}.train.{name}", tuple(shape))).float()

    video, audio = [batch, 16, *size], shapes["audio"]
    mask = condition_mask(4 * size[0] - 3, *size[1:])
    return {
        "video": train("video_latent", video),
        "audio": train("audio_latent", audio),
        "condition": torch.cat([mask, train("condition", video)], dim=1),
        "context": torch.from_numpy(drawn(f"input.joint_{kind}.text", tuple(shapes["text"]))).float(),
        "video_noise": train("video_noise", video),
        "audio_noise": train("audio_noise", audio),
    }


def times(case: dict) -> dict[str, Tensor]:
    return {name: torch.tensor([case[name]]) for name in ("video_timestep", "audio_timestep")}


def draw_loras(parameters: dict[str, Tensor]) -> None:
    """The golden LoRAs' weights."""
    for name, parameter in parameters.items():
        values = weight(f"lora.{name}", tuple(parameter.shape))
        with torch.no_grad():
            parameter.copy_(values * TOLD["lora_B_factor"] if "lora_B" in name else values)


def lora_model(kind: str, expert: str, **options: object):
    model = joint_model(kind, expert, **options)
    parameters = add_lora(model, expert, "attention+mlp", TOLD["rank"], TOLD["alpha"])
    draw_loras(parameters)
    return model, parameters


def golden_gradients(index: int) -> dict[str, Tensor]:
    start = f"case{index}.grad."
    return {name.removeprefix(start): value for name, value in expected("training").items() if name.startswith(start)}
