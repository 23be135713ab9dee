"""What of benchmarks/gpu.sh only a GPU reaches, with fakes of what PyTorch tells of one."""

import contextlib
import dataclasses
import threading
from types import SimpleNamespace

import pytest
import torch
from gpu import clock, host, kernels, machine, place
from gpu.parts import profile
from gpu.task import NotMeasured, Task, attempt
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity

GIB = 2**30


@pytest.fixture
def on_gpu():
    """A place whose device is a GPU that is not there."""
    return dataclasses.replace(place.find(rehearse=True, seconds=60), device=torch.device("cuda:0"), rehearsed=False)


class Clock:
    """A GPU's clock and memory, as torch.cuda tells them: each run takes 1.5 s and 3 GiB more than are there."""

    now = 0.0

    def __init__(self, enable_timing=False):
        assert enable_timing

    def record(self):
        self.at = Clock.now
        Clock.now += 1500.0

    def elapsed_time(self, end):
        return end.at - self.at

    def synchronize(self):
        pass


def test_time_and_memory_of_a_gpu_are_its_own(monkeypatch, on_gpu):
    monkeypatch.setattr(torch.cuda, "Event", Clock)
    for name, value in {"memory_allocated": 2**30, "max_memory_allocated": 4 * 2**30}.items():
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    for name in ("synchronize", "reset_peak_memory_stats", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    assert clock.timed(on_gpu, lambda: None, 2) == ([1.5, 1.5], 3.0)
    assert clock.median_seconds(on_gpu, lambda: None) == 1.5
    clock.make_room(on_gpu)


def test_a_profile_is_divided_into_kinds_and_gaps():
    names = {
        "nvjet_tst_192x192_64x4_2x1_v_bz_coopA_TNT": "matrix products",
        "void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<128, cutlass::bfloat16_t>>": "attention",
        "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_128x128x128": "attention",
        "fmha_cutlassF_bf16_aligned_64x128_rf_sm80(PyTorchMemEffAttention::AttentionKernel)": "attention",
        "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64": "matrix products",
        "void at::native::vectorized_elementwise_kernel<4, at::native::GeluCUDAKernelImpl>": "element-wise",
        "void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<c10::BFloat16, float>": "element-wise",
        "triton_poi_fused_addmm_gelu_0": "element-wise",
        "Memcpy DtoD (Device -> Device)": "copies",
    }
    for name, kind in names.items():
        assert profile.Span(name, 0, 1, 1).kind == kind, name
    spans = [("gemm", 0, 3), ("gemm", 2, 5), ("Memset", 7, 8), ("flash", 8, 10), ("add", 12, 13)]
    found = profile.breakdown([profile.Span(name, 1e3 * a, 1e3 * b, 1e3 * (b - a)) for name, a, b in spans])
    kinds = {"attention": 2, "matrix products": 6, "copies": 1, "element-wise": 1}
    assert found == {**kinds, "gaps": 4, "whole": 13}


def test_of_a_gpu_s_profile_the_kernels_count_and_not_the_calls_that_start_them(monkeypatch, on_gpu):
    def event(name, device, start, end):
        return SimpleNamespace(name=name, device_type=device, time_range=SimpleNamespace(start=start, end=end))

    found = [event("cudaLaunchKernel", DeviceType.CPU, 0, 9), event("nvjet_a", DeviceType.CUDA, 10, 14)]

    def fake(activities):
        assert activities == [ProfilerActivity.CUDA]
        return contextlib.nullcontext(SimpleNamespace(events=lambda: found))

    monkeypatch.setattr(profile, "profile", fake)
    monkeypatch.setattr(torch.cuda, "Event", Clock)
    assert profile.spans(on_gpu, lambda: None) == [profile.Span("nvjet_a", 10, 14, 4)]
    del found[1]
    with pytest.raises(RuntimeError, match="no kernels"):
        profile.spans(on_gpu, lambda: None)


def test_all_but_a_limit_of_a_gpu_s_memory_is_taken_and_the_peak_is_what_was_taken_beside(monkeypatch, on_gpu):
    free, taken = [79 * GIB], []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free[0], 80 * GIB))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch, "empty", lambda size, dtype, device: taken.append((size, dtype, device)))
    with host.held_to(on_gpu, 12 * GIB):
        assert taken == [(67 * GIB, torch.uint8, torch.device("cuda:0"))]
    with host.held_to(on_gpu, None):
        assert len(taken) == 1
    with pytest.raises(NotMeasured, match=r"79\.0 GiB"), host.held_to(on_gpu, 90 * GIB):
        pass
    with host.watched(on_gpu) as peak:
        free[0] = 70 * GIB
        threading.Event().wait(0.2)
        free[0] = 75 * GIB
    assert peak == [9.0]


def test_a_server_that_keeps_its_models_is_not_taken_for_an_empty_one(monkeypatch, on_gpu):
    server = SimpleNamespace(run=lambda _: SimpleNamespace(error=None))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (60 * GIB, 80 * GIB))
    assert host.emptied(on_gpu, server, 61 * GIB) and not host.emptied(on_gpu, server, 78 * GIB)
    server.run = lambda _: (_ for _ in ()).throw(ConnectionRefusedError())
    assert not host.emptied(on_gpu, server, 61 * GIB)


def test_a_row_says_that_memory_or_time_is_short(on_gpu):
    def too_large():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    assert attempt(on_gpu, Task("a", too_large)) == {"not_measured": "out of memory"}
    assert "no time left" in attempt(on_gpu, Task("b", lambda: {"s": 1.0}, seconds=70))["not_measured"]
    assert "s is not" in attempt(on_gpu, Task("c", lambda: {"s": float("nan")}))["not_measured"]


def test_on_a_gpu_comfyui_s_own_attention_is_among_the_kernels_where_it_is_installed(monkeypatch, on_gpu):
    monkeypatch.setattr(kernels.importlib.util, "find_spec", lambda name: name == "comfy_kitchen" or None)
    found = {kernel.name: kernel.exact for kernel in kernels.at_hand(on_gpu)}
    assert found == {
        "sdpa": True,
        "sdpa, cuDNN": True,
        "sdpa, flash": True,
        "comfy_kitchen int8": False,
        "sdpa, memory-efficient": True,
    }


@pytest.mark.parametrize(
    ("told", "device", "driver"),
    [
        ("NVIDIA H100 80GB HBM3, 81559 MiB, 580.159.04\n", "NVIDIA H100 80GB HBM3, 81559 MiB", "580.159.04"),
        ("", "a GPU that nvidia-smi does not know", "unknown"),
    ],
)
def test_the_device_is_named_as_its_driver_names_it(monkeypatch, told, device, driver):
    monkeypatch.setattr(machine.subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=told))
    found = machine.facts(rehearse=False)["machine"]
    assert (found["device"], found["driver"]) == (device, driver)
