import pytest
import torch
from golden import error

from mova import MovaError
from mova.model.attention import KERNELS, available, choose, onednn_attention, sdpa, xformers_attention

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_agrees_with_plain_attention(name, dtype):
    device = torch.device("cuda" if KERNELS[name].device == "cuda" else "cpu")
    if name not in available(device, dtype) or (device.type == "cuda" and not torch.cuda.is_available()):
        pytest.skip(f"{name} cannot run here in {dtype}: it needs a {device.type} device and {KERNELS[name].package}")
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, length, 256, device=device, dtype=dtype) for length in (600, 130, 130))
    heads = [x.double().unflatten(2, (2, 128)).transpose(1, 2) for x in (q, k, v)]
    scores = (heads[0] @ heads[1].transpose(2, 3) / 128**0.5).softmax(-1)
    wanted = (scores @ heads[2]).transpose(1, 2).flatten(2)
    found = KERNELS[name].attention(q, k, v, 2)
    assert found.shape == q.shape and found.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 5e-3
    assert error(found, wanted) < (5e-2 if name == "sage" else tolerance)


def test_automatic_choice_is_exact_and_fits_the_device():
    assert choose("auto", CPU, torch.float32) in (onednn_attention, sdpa)
    assert choose("auto", CPU, torch.float16) is sdpa
    assert choose("auto", torch.device("cuda"), torch.bfloat16) in (xformers_attention, sdpa)


def test_automatic_choice_passes_over_a_package_that_does_not_run_here(monkeypatch, tmp_path):
    (tmp_path / "xformers").mkdir()
    (tmp_path / "xformers/__init__.py").touch()
    (tmp_path / "xformers/ops.py").write_text("raise OSError('libtorch.so: undefined symbol')")  # of another torch
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(KERNELS, "onednn", KERNELS["onednn"]._replace(device="none"))
    monkeypatch.setitem(KERNELS, "xformers", KERNELS["xformers"]._replace(device="cpu"))
    assert "xformers" in available(CPU, torch.float32)
    assert choose("auto", CPU, torch.float32) is sdpa


def test_an_unknown_kernel_is_refused_with_those_there_are():
    with pytest.raises(MovaError, match="choose auto, sdpa"):
        choose("flash", CPU, torch.float32)


@pytest.mark.parametrize("name", ["xformers", "sage"])
def test_a_kernel_that_cannot_run_here_is_refused_with_the_way_out(name):
    with pytest.raises(MovaError, match=r"needs a cuda device and the package .* choose sdpa"):
        choose(name, CPU, torch.bfloat16)
