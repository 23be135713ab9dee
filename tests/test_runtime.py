"""Where and how a run computes: the device chosen, its memory, and the way that the model works there."""

import re

import pytest
import torch

from mova import MovaError
from mova.clip.runtime import Runtime, begin, device_and_dtype, layers_for
from mova.model.kernels import LOW_MEMORY


def test_automatic_choice_passes_over_a_gpu_that_cannot_be_used(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    empty = torch.empty

    def without_mps(*size, device, **options):
        if device == "mps":
            raise RuntimeError("MPS backend out of memory")
        return empty(*size, device=device, **options)

    monkeypatch.setattr("torch.empty", without_mps)
    assert device_and_dtype("auto", "bf16") == (torch.device("cpu"), torch.bfloat16)
    with pytest.raises(MovaError, match=r"'mps' cannot be used here in fp32 \(MPS .*\); choose auto or cpu\.$"):
        device_and_dtype("mps", "fp32")


@pytest.mark.parametrize("device", ["cuda", "cuda:99", "mps", "warp"])
def test_a_device_that_is_not_there_is_refused_with_what_to_choose(monkeypatch, device):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    told = f"'{device}' cannot be used: this PyTorch ({torch.__version__}) sees no such device; choose auto or cpu, or"
    with pytest.raises(MovaError, match=re.escape(told)):
        device_and_dtype(device, "bf16")


@pytest.mark.parametrize("kind", ["cuda", "mps", "xpu"])
def test_memory_goes_back_to_whatever_device_it_is_of(kind, monkeypatch):
    given_back = []
    for name in ("cuda", "mps", "xpu"):
        monkeypatch.setattr(getattr(torch, name), "empty_cache", lambda name=name: given_back.append(name))
    begin(Runtime(torch.device(kind)), "the next part")
    assert given_back == [kind]


def test_what_is_asked_for_is_how_the_model_works():
    usual, low = (layers_for(Runtime(torch.device("cpu"), low_memory=asked))[1] for asked in (False, True))
    assert low.attention is usual.attention and low.norm_and_rotate_ is usual.norm_and_rotate_
    assert (low.value_blocks, low.mlp_blocks) == (LOW_MEMORY.value_blocks, LOW_MEMORY.mlp_blocks)
    assert low.mlp_blocks > usual.mlp_blocks == 1
