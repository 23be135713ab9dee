"""How the work is carried out: whatever is chosen, the model computes the same."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from golden import error, joint_inputs, joint_model

from mova import MovaError
from mova.model import attention
from mova.model.attention import over_queries_, sdpa
from mova.model.elementwise import norm_and_rotate_
from mova.model.kernels import LOW_MEMORY, Kernels, choose_norms
from mova.model.layers import over_input_
from mova.model.rope import TurnHalves, TurnPairs, time_table, tower_turn

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def everything_is_long(monkeypatch):
    monkeypatch.setattr(attention, "LONG", 0)


@pytest.mark.parametrize("kernels", [Kernels(), LOW_MEMORY], ids=["usual", "low memory"])
@pytest.mark.parametrize("batch", [1, 2])
def test_work_done_in_parts_gives_what_it_gives_at_once(kernels, batch, everything_is_long):
    inputs, model = joint_inputs("head128"), joint_model("head128")
    given = [torch.cat([inputs[name], inputs[name].flip(-1)])[:batch] for name in ("video", "audio")]
    given += [torch.tensor([950.0, 20.0])[:batch]] * 2 + [torch.cat([inputs["text"], inputs["text"]])[:batch]]
    calls = []

    def counting(q, k, v, heads):
        calls.append(heads)
        return sdpa(q, k, v, heads)

    at_once = Kernels(counting, head_groups=1, value_blocks=1)
    results = []
    for chosen in (at_once, dataclasses.replace(kernels, attention=counting)):
        model.kernels = chosen
        with torch.no_grad():
            results.append([*model(*given), len(calls)])
        calls.clear()
    for found, wanted in zip(results[1][:2], results[0][:2], strict=True):
        assert error(found, wanted) < 1e-6
    assert results[1][2] > results[0][2]  # or this would compare the same with the same


@pytest.mark.parametrize("heads", [1, 3, 5, 8, 12, 40])
def test_any_number_of_heads_can_be_grouped(heads, everything_is_long):
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 7, 4 * heads)
    wanted = sdpa(q, k, v, heads)
    found = over_queries_(sdpa, q, k, v, heads, 8)
    torch.testing.assert_close(found, wanted)
    assert (found.data_ptr() == q.data_ptr()) == (heads > 1)


@pytest.mark.parametrize("blocks", [2, 3, 8, 50])
def test_a_layer_over_its_input_gives_the_same(blocks, everything_is_long):
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(6, 6), torch.randn(2, 11, 6)
    with torch.no_grad():
        wanted = layer(x)
        found = over_input_(layer, x, blocks)
    torch.testing.assert_close(found, wanted)
    assert found.data_ptr() == x.data_ptr()


def test_the_rotation_of_a_grid_is_kept_small_and_spread_where_it_is_used():
    turn = tower_turn((3, 4, 5), 12, torch.device("cpu"))
    assert sum(axis.numel() for axis in turn.axes) < turn.table.numel() / 2
    assert turn.table.shape == (60, 6)
    t, h, w = turn.axes
    token = (2 * 4 + 1) * 5 + 3
    wanted = torch.view_as_complex(torch.cat([t[2], h[1], w[3]]))
    assert torch.equal(turn.table[token], wanted)
    torch.testing.assert_close(turn.table.abs(), torch.ones(60, 6))


TRITON = """
import sys
import torch
from mova.model.triton_kernels import in_one_pass
from mova.model.rope import TurnHalves, TurnPairs

for case in torch.load(sys.argv[1]):
    norm = torch.nn.RMSNorm(case["x"].shape[-1], eps=1e-6, dtype=case["x"].dtype)
    norm.weight.data = case["weight"]
    turn = case["table"] if case["table"] is None else (TurnHalves if case["halves"] else TurnPairs)(*case["table"])
    x = case["x"].clone()
    found = in_one_pass()(x, norm, case["heads"], turn)
    assert found is x
    case["found"] = found
    torch.save(case, f"{sys.argv[1]}.{case['name']}")
"""


def cases():
    """Names, tensors of each form of the kernel's work, at sizes that do and do not fill its tiles."""
    torch.manual_seed(0)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        for heads, head_dim, rows, batch in ((2, 128, 6, 1), (3, 12, 4, 2), (5, 24, 4, 3)):
            x = 3 * torch.randn(batch, rows, heads * head_dim)
            shared = {"x": x.to(dtype), "weight": torch.randn(x.shape[-1]).to(dtype), "heads": heads}
            pairs = tower_turn((rows // 2, 2), head_dim, torch.device("cpu")).table
            halves = time_table(torch.arange(rows // 2) / 3, head_dim, torch.device("cpu"))
            name = f"{dtype}-{heads}x{head_dim}".removeprefix("torch.")
            yield {**shared, "name": f"{name}-plain", "table": None, "halves": False}
            yield {**shared, "name": f"{name}-pairs", "table": (pairs,), "halves": False}
            yield {**shared, "name": f"{name}-halves", "table": (halves, 2), "halves": True}


@pytest.fixture(scope="module")
def by_triton(tmp_path_factory):
    """What Triton's interpreter makes of all cases on the CPU; the interpreter is chosen when triton is imported."""
    pytest.importorskip("triton", reason="NOT TESTED: no triton here")
    folder = tmp_path_factory.mktemp("triton")
    listed = list(cases())
    torch.save(listed, folder / "cases")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", TRITON, str(folder / "cases")], check=True, env=environment, cwd=folder)
    return {case["name"]: torch.load(folder / f"cases.{case['name']}") for case in listed}


@pytest.mark.parametrize("name", [case["name"] for case in cases()])
def test_norm_and_rotation_by_triton_are_exact_to_rounding(name, by_triton):
    case = by_triton[name]
    norm = torch.nn.RMSNorm(case["x"].shape[-1], eps=1e-6, dtype=case["x"].dtype)
    norm.weight.data = case["weight"]
    turn = case["table"] if case["table"] is None else (TurnHalves if case["halves"] else TurnPairs)(*case["table"])
    with torch.no_grad():
        wanted = norm_and_rotate_(case["x"].clone(), norm, case["heads"], turn)
    assert case["found"].dtype == wanted.dtype
    found, wanted = case["found"].double(), wanted.double()
    # The norm is rounded before the rotation: a sum in another order may move what is turned by a step.
    step = torch.finfo(case["x"].dtype).eps * wanted.abs().amax()
    assert (found - wanted).abs().max() <= 2 * step
    assert torch.isfinite(found).all() and (found != case["x"].double()).any()


def test_triton_where_it_cannot_run_is_refused_in_a_sentence():
    with pytest.raises(
        MovaError, match=r"needs an NVIDIA or AMD GPU and the package triton \(here: cpu\); choose torch"
    ):
        choose_norms("triton", torch.device("cpu"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="it may work here")
def test_a_triton_that_does_not_work_is_told_before_the_weights_load():
    pytest.importorskip("triton", reason="NOT TESTED: no triton here")
    with pytest.raises(MovaError, match=r"Triton does not work here \(.+\); choose torch"):
        choose_norms("triton", torch.device("cuda"))


def test_an_unknown_choice_is_refused_with_those_there_are():
    with pytest.raises(MovaError, match="choose torch or triton"):
        choose_norms("cuda", torch.device("cuda"))
