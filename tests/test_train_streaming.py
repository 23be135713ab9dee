"""Frozen weights that are brought layer by layer train as those that are there."""

import threading

import pytest
import torch
from golden import error, joint_model
from training import TOLD, draw_loras, given, golden_gradients, times

from mova import JointModel, MovaError
from mova.checkpoint import quantize
from mova.train import add_lora, checkpointed, velocity_losses
from mova.train.base import released
from mova.train.experts import fill
from mova.train.frozen import Frozen, freeze, is_frozen, store
from mova.train.settings import Settings
from mova.train.streaming import Ring, frozen_of_layers

CASE = TOLD["cases"][0]
CPU = torch.device("cpu")


def frozen_model(base="bf16", dtype=torch.float32, case=CASE):
    source = joint_model("small", case["expert"])
    model = JointModel(source.config, device="meta")
    freeze(model)
    fill(model, source.state_dict().items(), base, dtype, CPU)
    return model, source


def gradients(model, seen, case=CASE):
    parameters = add_lora(model, case["expert"], "attention+mlp", TOLD["rank"], TOLD["alpha"])
    draw_loras(parameters)
    losses = velocity_losses(seen, **given("small"), **times(case))
    sum(losses).backward()
    return sum(losses).item(), {name: parameter.grad for name, parameter in parameters.items()}


@pytest.mark.parametrize(("index", "pieces", "resident"), [(0, False, 0), (0, True, 2), (1, True, 0), (1, False, 2)])
def test_with_streamed_weights_the_gradients_are_the_published_code_s(index, pieces, resident):
    case = TOLD["cases"][index]
    model, _ = frozen_model(case=case)
    ring, wanted = Ring(model, CPU, resident), golden_gradients(index)
    loss, found = gradients(model, checkpointed(model, pieces=pieces, in_ram=True, inside=ring), case)
    assert len(wanted) == 132 and loss == pytest.approx(case["loss"], rel=1e-6)
    assert max(error(found[name], wanted[name]) for name in wanted) < 1e-5
    ring.close()
    assert not any(module.brought for module in model.modules() if isinstance(module, Frozen))


@pytest.mark.parametrize("case", TOLD["cases"][:2], ids=["high", "low"])
def test_fp8_weights_give_the_gradients_of_the_decoded_ones(case):
    model, source = frozen_model("fp8", case=case)
    decoded, changed = {}, 0
    for name, tensor in source.state_dict().items():
        parts = quantize.encode("fp8_e4m3_scaled", name, tensor, "high_noise") if is_frozen(model, name) else {}
        fp8 = name + "_scale" in parts
        decoded[name] = quantize.decode("fp8_e4m3_scaled", name, parts, "high_noise") if fp8 else tensor
        changed += fp8
    assert changed == 3 * 10 + 2 * 2  # a side of 72 has no whole blocks
    source.load_state_dict(decoded)
    loss, found = gradients(model, checkpointed(model, inside=Ring(model, CPU)), case)
    wanted_loss, wanted = gradients(source, source, case)
    assert loss == pytest.approx(wanted_loss, rel=1e-6)
    assert max(error(found[name], wanted[name]) for name in wanted) < 1e-5
    assert loss != pytest.approx(case["loss"], rel=1e-6)  # it is another model


def test_only_two_layers_are_there_and_the_next_one_is_under_way():
    model, _ = frozen_model()
    ring, seen = Ring(model, CPU), []
    bring, threads = ring.bring, set()

    def watched(index):
        threads.add(threading.current_thread())
        return bring(index)

    ring.bring = watched

    def recorded(index, at=ring.at):
        at(index)
        seen.append((index, sorted(ring.here), sorted(ring.coming)))

    ring.at = recorded
    gradients(model, checkpointed(model, inside=ring))
    assert seen[:2] == [(0, [0], [1]), (1, [1], [2])]
    assert [index for index, _, _ in seen] == [0, 1, 2, 2, 1, 0]
    assert all(index in here and len(here) + len(coming) <= 2 for index, here, coming in seen)
    assert seen[4] == (1, [1], [0])
    assert threading.main_thread() in threads and len(threads) == 2  # the first has nothing to wait for it


def test_every_matrix_of_a_layer_is_streamed_and_nothing_else():
    model, source = frozen_model()
    streamed = {id(module) for layer in frozen_of_layers(model) for module in layer}
    frozen = [module for module in model.modules() if isinstance(module, Frozen)]
    assert streamed == {id(module) for module in frozen} and len(frozen) == 30 + 20 + 16
    left = {name: tensor for name, tensor in source.state_dict().items() if not is_frozen(model, name)}
    assert left.keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in left.items())


def test_weights_of_another_model_and_unknown_bases_are_refused():
    model, _ = frozen_model()
    with pytest.raises(MovaError, match="no base called 'int4'"):
        store(model, "blocks.0.ffn.0.weight", torch.zeros(192, 96), "int4")
    with pytest.raises(MovaError, match=r"blocks\.0\.ffn\.0\.weight has the shape \[3, 3\]"):
        store(model, "blocks.0.ffn.0.weight", torch.zeros(3, 3), "bf16")


def test_both_experts_of_a_release_share_their_audio_tower_and_bridge(tiny_checkpoint):
    from mova.checkpoint.release import open_checkpoint

    checkpoint = open_checkpoint(tiny_checkpoint)
    settings = Settings(base="fp8", dtype="bf16")
    models = released(checkpoint, settings).load(settings, CPU, lambda part: None, None)
    high, low = models.values()
    assert high.audio_dit is low.audio_dit and high.dual_tower_bridge is low.dual_tower_bridge
    for expert, model in models.items():
        weights = checkpoint.weights[expert]
        kept = dict(weights.read(["head.head.weight", "blocks.1.ffn.2.weight"]))
        assert torch.equal(model.head.head.weight, kept["head.head.weight"].bfloat16())
        assert (
            error(model.blocks[1].ffn[2].matrix(torch.zeros(1)), kept["blocks.1.ffn.2.weight"].float())
            < 1.01 * 16 / 448
        )
