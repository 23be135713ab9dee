"""Losses, gradients and a run are the published training code's."""

import pytest
import torch
from golden import error, expected
from training import RUN, TOLD, given, golden_gradients, lora_model, times

from mova.model import attention
from mova.train import add_lora, checkpointed, velocity_losses
from mova.train.losses import train_timesteps
from mova.train.schedule import EXPERT_OF_PARITY, boundary_share, expert_range, learning_rate, timestep_index

CASES = TOLD["cases"]
WAYS = {
    "plain": {"layers": False},
    "layers": {},
    "layers, inputs in RAM": {"in_ram": True},
    "pieces": {"layers": False, "pieces": True},
    "layers and pieces": {"pieces": True},
    "layers and pieces, inputs in RAM": {"pieces": True, "in_ram": True},
}


def losses_and_gradients(case, way):
    model, parameters = lora_model(case["kind"].removeprefix("joint_"), case["expert"])
    seen = checkpointed(model, **way) if way is not None else model
    losses = velocity_losses(seen, **given(case["kind"].removeprefix("joint_")), **times(case))
    sum(losses).backward()
    return losses, {name: parameter.grad for name, parameter in parameters.items()}


@pytest.fixture(params=[False, True], ids=["at once", "long"])
def long(request, monkeypatch):
    """Long sequences are done in blocks; here all are long."""
    if request.param:
        monkeypatch.setattr(attention, "LONG", 1)


@pytest.mark.parametrize("index", range(len(CASES)))
def test_the_losses_and_the_length_of_the_gradient_are_the_published_code_s(index):
    case = CASES[index]
    losses, gradients = losses_and_gradients(case, None)
    for loss, wanted in zip(losses, (case["video_loss"], case["audio_loss"]), strict=True):
        assert loss.item() == pytest.approx(wanted, rel=1e-6)
    assert len(gradients) == case["lora_tensors"]
    length = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
    assert length.item() == pytest.approx(case["grad_norm"], rel=1e-5)


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("way", WAYS)
def test_every_gradient_is_the_published_code_s(index, way, long):
    wanted = golden_gradients(index)
    losses, found = losses_and_gradients(CASES[index], WAYS[way])
    assert found.keys() == wanted.keys() and len(wanted) == 132
    assert max(error(found[name], wanted[name]) for name in wanted) < 1e-5
    assert sum(losses).item() == pytest.approx(CASES[index]["loss"], rel=1e-6)


def test_a_run_over_both_experts_is_the_published_one():
    high, parameters = lora_model("small", "video_dit")
    low, _ = lora_model("small", "video_dit_2")
    low.audio_dit, low.dual_tower_bridge = high.audio_dit, high.dual_tower_bridge
    parameters |= add_lora(low, "video_dit_2", "attention+mlp", TOLD["rank"], TOLD["alpha"])
    assert len(parameters) == 132 + 60
    optimizer = torch.optim.AdamW(
        parameters.values(), RUN["lr"], tuple(RUN["betas"]), RUN["eps"], weight_decay=RUN["weight_decay"]
    )
    inputs, experts = given("small"), {"video_dit": high, "video_dit_2": low}
    for step in RUN["steps"]:
        expert = EXPERT_OF_PARITY[step["global_step"] % 2]
        case = CASES[EXPERT_OF_PARITY.index(expert)]
        losses = velocity_losses(experts[expert], **inputs, **times(case))
        optimizer.zero_grad()
        sum(losses).backward()
        length = torch.nn.utils.clip_grad_norm_(parameters.values(), RUN["clip"])
        optimizer.step()
        assert sum(losses).item() == pytest.approx(step["loss"], rel=1e-5)
        assert length.item() == pytest.approx(step["grad_norm"], rel=1e-4)
    for name, wanted in expected("training").items():
        if name.startswith("run.final."):
            assert error(parameters[name.removeprefix("run.final.")].detach(), wanted) < 1e-5


def test_the_timesteps_are_the_published_ones():
    table = train_timesteps()
    assert torch.equal(table, expected("training")["train_timesteps"])
    share = boundary_share()
    assert round(share * 1000) == TOLD["boundary_index"]
    for draw in TOLD["timestep_sampling"]:
        span = expert_range(EXPERT_OF_PARITY[draw["global_step"] % 2], share)
        assert table[timestep_index(draw["rand"], span)] == draw["video_timestep"]


@pytest.mark.parametrize(("kind", "golden"), [("cosine", "lr_accelerate"), ("low_resource", "lr_low_resource")])
def test_the_learning_rates_are_the_published_ones(kind, golden):
    told = TOLD[golden]
    found = [
        learning_rate(kind, step, 1e-4, told["warmup"], told["max"], told["min_lr"]) for step in range(told["max"])
    ]
    assert found == pytest.approx(told["lr"], rel=1e-12, abs=1e-18)
