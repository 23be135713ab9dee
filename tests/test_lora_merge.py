"""LoRAs merged into weights while these are read: what comes out, and that a second copy of a weight is never made."""

import pytest
import torch
from lora_files import pair

from mova.lora import merge
from mova.lora.merge import merged
from mova.lora.reading import Lora

ROWS, COLUMNS = 64, 48


def numbers(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def lora(alpha=None, **parts):
    return Lora("key", {name.replace("__", "."): part for name, part in parts.items()}, alpha)


DOWN, UP = numbers(4, COLUMNS), numbers(ROWS, 4)
PAIR = {"lora_down__weight": DOWN, "lora_up__weight": UP}
W = numbers(ROWS, COLUMNS)
LENGTHS = 1 + numbers(ROWS, 1).abs()
KINDS = {
    "pair": (lora(**PAIR), UP @ DOWN),
    "pair with alpha": (lora(2.0, **PAIR), UP @ DOWN / 2),
    "difference": (lora(diff=W * 2), W * 2),
    "loha": (
        lora(hada_w1_a=UP, hada_w1_b=DOWN, hada_w2_a=UP + 1, hada_w2_b=DOWN - 1),
        (UP @ DOWN) * ((UP + 1) @ (DOWN - 1)),
    ),
    "lokr": (lora(lokr_w1=numbers(8, 4), lokr_w2=numbers(8, 12)), torch.kron(numbers(8, 4), numbers(8, 12))),
    "dora": (lora(**PAIR, dora_scale=LENGTHS), (W + UP @ DOWN) * LENGTHS / W.norm(dim=1, keepdim=True) - W),
    "dora by column": (
        lora(**PAIR, dora_scale=LENGTHS[:COLUMNS].T),
        (W + UP @ DOWN) * LENGTHS[:COLUMNS].T / (W + UP @ DOWN).norm(dim=0) - W,
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strength", [1.0, -0.5, 0.0])
@pytest.mark.parametrize("block", [merge.BLOCK, 7 * COLUMNS])
def test_a_kind_of_change_is_what_its_formula_says_in_blocks_or_whole(monkeypatch, kind, strength, block):
    monkeypatch.setattr(merge, "BLOCK", block)
    change, adds = KINDS[kind]
    before = W.clone()
    found = merged(W, [(change, strength)])
    assert torch.allclose(found, W + strength * adds, rtol=1e-4, atol=1e-5) and torch.equal(W, before)
    assert not strength or not torch.equal(found, W)


def test_several_follow_each_other_in_float32_and_are_rounded_once():
    small = lora(diff=torch.full((ROWS, COLUMNS), 2.0**-9))  # alone too small to change a 1 in bf16
    ones = torch.ones(ROWS, COLUMNS, dtype=torch.bfloat16)
    assert torch.equal(merged(ones, [(small, 1.0)]), ones)
    assert torch.equal(merged(ones, [(small, 1.0)] * 4), ones + 2.0**-7)


@pytest.mark.parametrize("shape", [(ROWS,), (ROWS, 16, 1, 2, 2), (1, 6, COLUMNS)])
def test_weights_of_other_shapes(shape):
    change = lora(diff=numbers(*shape))
    assert torch.equal(merged(numbers(*shape), [(change, 1.0)]), 2 * numbers(*shape))
    if len(shape) > 1:
        flat = shape[0], numbers(*shape)[0].numel()
        halves = lora(lora_down__weight=numbers(2, flat[1]), lora_up__weight=numbers(flat[0], 2))
        wanted = (numbers(flat[0], 2) @ numbers(2, flat[1])).reshape(shape)
        assert torch.allclose(merged(torch.zeros(shape), [(halves, 1.0)]), wanted, atol=1e-6)


def test_blocks_differ_from_the_whole_by_rounding_only(monkeypatch):
    weight, (down, up) = torch.zeros(256, 256), pair(rank=64)
    change = lora(lora_down__weight=down, lora_up__weight=up)
    whole = merged(weight, [(change, 1.0)])
    monkeypatch.setattr(merge, "BLOCK", 31 * 256)
    parts = merged(weight, [(change, 1.0)])
    assert ((parts - whole).norm() / whole.norm()) < 1e-6


class Largest(torch.utils._python_dispatch.TorchDispatchMode):
    """The largest tensor in memory of its own that any operation gives."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and made._base is None:
            self.bytes = max(self.bytes, made.numel() * made.element_size())
        return made


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "dora by column"])
def test_nothing_as_large_as_the_weight_is_made_but_the_changed_weight_itself(monkeypatch, kind):
    monkeypatch.setattr(merge, "BLOCK", 4 * COLUMNS)
    change, _ = KINDS[kind]
    with Largest() as largest:
        merged(W, [(change, 1.0), (change, 0.5)], torch.float64)
    assert largest.bytes == W.numel() * 8
    with Largest() as largest:
        merged(W.bfloat16(), [(change, 1.0)], torch.bfloat16)
    assert largest.bytes == W.numel() * 2
