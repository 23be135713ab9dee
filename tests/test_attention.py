import pytest
import torch
from golden import error

from mova import MovaError
from mova.attention import KERNELS, available, choose, sdpa


@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_agrees_with_plain_attention(name):
    if name not in available():
        pytest.skip(f"{name} cannot run here: it needs CUDA and its package")
    device, dtype = ("cpu", torch.float32) if name == "sdpa" else ("cuda", torch.bfloat16)
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, length, 256, device=device, dtype=dtype) for length in (70, 130, 130))
    heads = [x.float().unflatten(2, (2, 128)).transpose(1, 2) for x in (q, k, v)]
    scores = (heads[0] @ heads[1].transpose(2, 3) / 128**0.5).softmax(-1)
    wanted = (scores @ heads[2]).transpose(1, 2).flatten(2)
    assert error(KERNELS[name][0](q, k, v, 2), wanted) < (1e-5 if name == "sdpa" else 3e-2)


def test_automatic_choice_is_exact():
    assert choose("auto") in (sdpa, KERNELS["xformers"][0])


def test_an_unknown_or_missing_kernel_is_refused_with_the_way_out():
    with pytest.raises(MovaError, match="choose auto, sdpa"):
        choose("flash")
    for name in set(KERNELS) - set(available()):
        with pytest.raises(MovaError, match="needs a CUDA device"):
            choose(name)
