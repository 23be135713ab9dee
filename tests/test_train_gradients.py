"""Gradients are right, however a model is made to record them: a wrong one comes without an error."""

import pytest
import torch
from golden import error, joint_model
from torch.utils.checkpoint import checkpoint
from training import TOLD, given, golden_gradients, lora_model, times

from mova import MovaError
from mova.model import attention, onednn
from mova.model.joint import run_layer
from mova.model.kernels import Kernels
from mova.train import add_lora, velocity_losses
from mova.train.lora import target_layers

CASE = TOLD["cases"][0]


def check(model, parameters, seen=None, names=None):
    sum(velocity_losses(seen or model, **given("small"), **times(CASE))).backward()
    wanted = golden_gradients(0)
    assert max(error(parameters[name].grad, wanted[name]) for name in names or wanted) < 1e-5


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("long", [False, True])
def test_blocks_that_others_checkpoint_have_right_gradients(reentrant, long, monkeypatch):
    """As ComfyUI's training patch does it: a block's forward is wrapped, its inputs are kept as they are."""
    if long:
        monkeypatch.setattr(attention, "LONG", 1)
    model, parameters = lora_model("small", "video_dit")
    for block in (*model.blocks, *model.audio_dit.blocks):
        forward = block.forward
        block.forward = lambda *given, forward=forward: checkpoint(forward, *given, use_reentrant=reentrant)
    check(model, parameters)


def test_layers_leave_their_inputs_alone_where_gradients_are_recorded():
    model, parameters = lora_model("small", "video_dit")
    seen = []

    def watched(index, layer, *tokens):
        before = [x.detach().clone() for x in tokens]
        out = run_layer(index, layer, *tokens)
        seen.append(all(torch.equal(old, new) for old, new in zip(before, tokens, strict=True)))
        return out

    check(model, parameters, lambda *inputs: model(*inputs, run_layer=watched))
    assert seen == [True] * 3
    seen.clear()
    with torch.no_grad():
        velocity_losses(lambda *inputs: model(*inputs, run_layer=watched), **given("small"), **times(CASE))
    assert seen == [False] * 3  # in place


@pytest.mark.parametrize("kernels", [Kernels(), Kernels(value_blocks=5, mlp_blocks=2)])
def test_layers_for_inference_on_a_processor_have_right_gradients(kernels, monkeypatch):
    monkeypatch.setattr(attention, "LONG", 1)
    if not onednn.available():
        pytest.fail("this build of torch has no oneDNN, so nothing is shown here")
    model, parameters = lora_model("small", "video_dit", layers=(onednn.Operations, kernels))
    check(model, parameters)


def test_a_model_that_has_generated_can_be_trained():
    """What it remembers of a clip's size was made in inference mode, which autograd cannot use."""
    model, parameters = lora_model("small", "video_dit")
    with torch.inference_mode():
        velocity_losses(model, **given("small"), **times(CASE))
    check(model, parameters)


def test_nothing_but_the_lora_is_trained_and_at_first_it_changes_nothing():
    model, _ = lora_model("small", "video_dit")
    with torch.no_grad():
        before = velocity_losses(model, **given("small"), **times(CASE))
    model = joint_model("small", "video_dit").requires_grad_(True)
    names = set(model.state_dict())
    with torch.no_grad():
        plain = velocity_losses(model, **given("small"), **times(CASE))
    parameters = add_lora(model, "video_dit", "attention", 4, 8)
    with torch.no_grad():
        after = velocity_losses(model, **given("small"), **times(CASE))
    assert after == plain != before
    trained = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    assert trained == {id(parameter) for parameter in parameters.values()}
    assert names <= set(model.state_dict())  # the weights keep their names: hosts patch by them


@pytest.mark.parametrize(
    ("targets", "parts", "count"),
    [
        ("attention", ("video", "audio", "bridge"), 2 * (24 + 16 + 16)),
        ("attention+mlp", ("video", "audio", "bridge"), 132),
        ("attention+mlp", ("audio",), 40),
        ("attention", ("bridge",), 32),
    ],
)
def test_what_is_trained_can_be_chosen(targets, parts, count):
    parameters = add_lora(joint_model("small", "video_dit_2"), "video_dit_2", targets, 2, 2, parts)
    assert len(parameters) == count
    starts = {"video": "video_dit_2.", "audio": "audio_dit.", "bridge": "dual_tower_bridge."}
    assert {name.partition(".")[0] + "." for name in parameters} == {starts[part] for part in parts}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"expert": "video"}, "no expert called 'video'"),
        ({"targets": "mlp"}, "no LoRA targets called 'mlp'"),
        ({"rank": 0}, "rank of the LoRA is 0"),
        ({"alpha": float("nan")}, "alpha of the LoRA is nan"),
        ({"alpha": 0.0}, "alpha of the LoRA is 0"),
        ({"parts": ("sound",)}, "parts to train are sound"),
        ({"parts": ()}, "parts to train are none"),
    ],
)
def test_wrong_choices_are_told(wrong, told):
    with pytest.raises(MovaError, match=told):
        add_lora(
            joint_model("small"), **{"expert": "video_dit", "targets": "attention", "rank": 4, "alpha": 4.0, **wrong}
        )


def test_a_second_lora_on_the_same_layers_is_refused():
    model, parameters = lora_model("small", "video_dit")
    same = add_lora(model, "video_dit", "attention+mlp", TOLD["rank"], TOLD["alpha"])
    assert all(same[name] is parameters[name] for name in parameters)
    for expert, rank in (("video_dit_2", TOLD["rank"]), ("video_dit", 2)):
        with pytest.raises(MovaError, match=r"blocks\.0\.self_attn\.q has a LoRA"):
            add_lora(model, expert, "attention", rank, 2.0 * rank)
    assert len(target_layers(model, "attention")) == 28 * 2
