"""A LoRA of a small random model's video layers, distilled for few steps on one run: from where the fine, guided run
was, a step of it without guidance ends where that run did. So the picture is right in few steps, and nothing has been
done for the sound, as with the files that are distilled of Wan.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from mova import JointModel
from mova.sampling.schedule import TIMESTEPS
from mova.train.lora import add_lora

RANK, TIMES, RATE = 32, 60, 1e-3


def distilled(
    model: JointModel, sigmas: Tensor, path: Sequence[tuple[Tensor, Tensor]], condition: Tensor, text: Tensor
) -> tuple[JointModel, float]:
    """The model with the LoRA merged into it, and |found - wanted| / |wanted| of its velocities along the path.

    sigmas [steps + 1]: of the few steps; path: video [1, 16, T, H, W] and audio [1, 128, L] of the fine run at each.
    """
    torch.manual_seed(3)
    learner, steps = copy.deepcopy(model), len(sigmas) - 1
    parameters = add_lora(learner, "video_dit", "attention+mlp", RANK, RANK, ("video",))
    video, audio = (torch.cat(parts) for parts in zip(*path, strict=True))
    wanted = video.diff(dim=0) / sigmas.diff().view(-1, 1, 1, 1, 1)
    x = torch.cat([video[:steps], condition.expand(steps, -1, -1, -1, -1)], dim=1)
    times, texts = TIMESTEPS * sigmas[:steps], text.expand(steps, -1, -1)
    optimizer = torch.optim.Adam(parameters.values(), RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, TIMES)
    left = torch.ones(())
    for _ in range(TIMES):
        found = learner(x, audio[:steps], times, times, texts)[0]
        left = (found - wanted).norm() / wanted.norm()
        optimizer.zero_grad()
        left.square().backward()
        optimizer.step()
        schedule.step()
    return merged(model, learner), float(left.detach())


@torch.no_grad()
def merged(model: JointModel, learner: JointModel) -> JointModel:
    """A copy of the model, changed by the learner's LoRA layers."""
    made = copy.deepcopy(model)
    for name, layer in learner.named_modules():
        if hasattr(layer, "lora_told"):
            made.get_submodule(name).weight += layer.lora_B.weight @ layer.lora_A.weight
    return made
