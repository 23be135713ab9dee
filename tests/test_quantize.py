import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from golden import FIXTURES
from hypothesis import given, settings
from hypothesis import strategies as st

from mova import MovaError
from mova.checkpoint import quantize
from mova.checkpoint.formats import QUANTISED
from mova.checkpoint.header import DTYPE_BITS, TensorInfo
from mova.checkpoint.release import EXPERTS, Checkpoint
from mova.checkpoint.run_config import ScheduleConfig
from mova.checkpoint.weights import Weights
from mova.convert.parts import expert_target
from mova.convert.safetensors_writer import file_size
from mova.model.config import RELEASED

ROOT = Path(__file__).parents[1]
MANIFEST = json.loads((FIXTURES / "checkpoint_manifest.json").read_text())["tensors"]
PART = "high_noise"
LAYER = "blocks.7.ffn.0.weight"
FORMATS = list(QUANTISED)
STORED = {torch.uint8: "U8", torch.int8: "I8", torch.float8_e4m3fn: "F8_E4M3", torch.float32: "F32"}


def weights(rows, columns, seed=0, tails=3.0):
    torch.manual_seed(seed)
    return torch.distributions.StudentT(tails).sample((rows, columns)) * 0.02


@pytest.mark.parametrize("format_name", FORMATS)
@settings(deadline=None, max_examples=25)
@given(st.integers(1, 9), st.integers(1, 4), st.integers(0, 999), st.sampled_from([1.5, 4.0, 100.0]), st.booleans())
def test_a_layer_is_stored_as_announced_and_comes_back_within_the_bound(format_name, rows, columns, seed, tails, zeros):
    w = weights(32 * rows, 256 * columns, seed, tails).bfloat16()
    if zeros:
        w[::2], w[:, ::3] = 0, 0
    stored = quantize.encode(format_name, LAYER, w, "low_noise")
    announced = quantize.layout(format_name, LAYER, tuple(w.shape), "low_noise")
    assert {name: (STORED[t.dtype], tuple(t.shape)) for name, t in stored.items()} == announced
    found = quantize.decode(format_name, LAYER, stored, "low_noise")
    assert found.dtype == torch.float32 and found.shape == w.shape
    assert (found - w.float()).abs().max() <= quantize.error_bound(format_name) * w.float().abs().max() * (1 + 1e-5)


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_layer_of_zeros_stays_zero(format_name):
    stored = quantize.encode(format_name, LAYER, torch.zeros(32, 256), "high_noise")
    assert not quantize.decode(format_name, LAYER, stored, "high_noise").any()


@pytest.mark.parametrize("format_name", FORMATS)
def test_weights_that_are_stored_exactly_stay_as_they_are(format_name):
    signs = torch.where(torch.rand(32, 256, generator=torch.Generator().manual_seed(0)) < 0.5, -0.5, 0.5)
    w = torch.full((32, 256), 0.5) if format_name == "int8" else signs  # rotation spreads signs, not a constant
    stored = quantize.encode(format_name, LAYER, w, "high_noise")
    assert (quantize.decode(format_name, LAYER, stored, "high_noise") - w).abs().max() < 1e-6


@pytest.mark.parametrize("format_name", FORMATS)
def test_encoding_leaves_the_source_alone(format_name):
    w = weights(64, 512)
    before = w.clone()
    quantize.encode(format_name, LAYER, w, "high_noise")
    assert torch.equal(w, before)


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_weights_that_are_no_numbers_are_refused(format_name, bad):
    w = weights(32, 256)
    w[3, 5] = bad
    with pytest.raises(MovaError, match=r"ffn\.0\.weight holds weights that are not finite"):
        quantize.encode(format_name, LAYER, w, "high_noise")


def released():
    """Names and shapes of one released expert with audio tower and bridge."""
    shared = {f"{p}.{name}": shape for p in ("audio_dit", "dual_tower_bridge") for name, shape in MANIFEST[p].items()}
    return {name: tuple(shape) for name, shape in (MANIFEST["video_dit"] | shared).items()}


def test_the_matrices_of_video_blocks_and_bridge_are_quantised_and_nothing_else():
    for format_name in FORMATS:
        few = set(
            json.loads(quantize.metadata(format_name, released(), "high_noise")["_quantization_metadata"])["layers"]
        )
        assert {re.sub(r"\.\d+\.", ".N.", layer) for layer in few} == {
            *(f"blocks.N.{attention}_attn.{p}" for attention in ("self", "cross") for p in "qkvo"),
            *(f"blocks.N.ffn.{i}" for i in (0, 2)),
            *(
                f"dual_tower_bridge.{to}_conditioners.N.inner.{p}"
                for to in ("audio_to_video", "video_to_audio")
                for p in "qkvo"
            ),
        }
        assert len(few) == 40 * 10 + 30 * 8
        for name, shape in released().items():
            kept = quantize.layout(format_name, name, shape, "high_noise") == {name: ("BF16", shape)}
            assert kept == (name.removesuffix(".weight") not in few)


def test_int8_files_hold_the_second_matrix_of_the_video_mlps_in_fp8():
    """One channel 1000 times larger than the others, with weights as much smaller, is still about right."""
    w = weights(64, 512)
    w[:, 7] /= 1000
    name = "blocks.7.ffn.2.weight"
    stored = quantize.encode("int8", name, w, PART)
    assert {key: tensor.dtype for key, tensor in stored.items()} == {
        name: torch.float8_e4m3fn,
        f"{name}_scale": torch.float32,
    }
    x = torch.ones(512)
    x[7] = 1000
    wanted = w @ x
    fp8 = quantize.decode("int8", name, stored, PART) @ x
    int8 = quantize.decode("int8", LAYER, quantize.encode("int8", LAYER, w, PART), PART) @ x
    assert 4 * (fp8 - wanted).norm() < (int8 - wanted).norm()
    layers = json.loads(quantize.metadata("int8", released(), PART)["_quantization_metadata"])["layers"]
    in_fp8 = {layer for layer, told in layers.items() if told == {"format": "float8_e4m3fn"}}
    assert in_fp8 == {f"blocks.{i}.ffn.2" for i in range(40)}
    assert {told["format"] for layer, told in layers.items() if layer not in in_fp8} == {"int8_tensorwise"}


def test_the_text_encoder_keeps_its_embeddings_and_norms():
    shapes = {
        "shared.weight": (256384, 4096),
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": (32, 64),
        "encoder.block.0.layer.0.layer_norm.weight": (4096,),
        "encoder.block.0.layer.0.SelfAttention.q.weight": (4096, 4096),
        "encoder.block.0.layer.1.DenseReluDense.wi_1.weight": (10240, 4096),
        "encoder.block.0.layer.1.DenseReluDense.wo.weight": (4096, 10240),
    }
    found = json.loads(quantize.metadata("fp8_e4m3_scaled", shapes, "text_encoder")["_quantization_metadata"])
    wanted = [name.removesuffix(".weight") for name in list(shapes)[3:]]
    assert found == {"format_version": "1.0", "layers": {name: {"format": "float8_e4m3fn"} for name in wanted}}


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_matrix_that_does_not_divide_into_blocks_stays_as_it_is(format_name):
    w = weights(12, 250)
    assert quantize.layout(format_name, LAYER, (12, 250), "high_noise") == {LAYER: ("BF16", (12, 250))}
    stored = quantize.encode(format_name, LAYER, w, "high_noise")
    assert torch.equal(stored[LAYER], w.bfloat16()) and list(stored) == [LAYER]
    assert torch.equal(quantize.decode(format_name, LAYER, stored, "high_noise"), w.bfloat16().float())


def test_an_unknown_format_or_part_is_told():
    with pytest.raises(MovaError, match="no format called 'fp3'; choose one of fp8_e4m3_scaled, mxfp8, nvfp4, int8"):
        quantize.layout("fp3", LAYER, (32, 256), "high_noise")
    with pytest.raises(MovaError, match="no part called 'vae'; choose one of high_noise, low_noise, text_encoder"):
        quantize.layout("mxfp8", LAYER, (32, 256), "vae")


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is in other units elsewhere, and unknown on Windows")
def test_encoding_takes_little_memory_beside_the_matrix():
    """The result and less than the matrix itself, which has 128 MiB in bf16."""
    script = """
import resource, torch
from mova.checkpoint import quantize
from mova.checkpoint.formats import QUANTISED
w = torch.randn(8192, 8192).bfloat16()
quantize.encode("nvfp4", "blocks.0.ffn.0.weight", w[:256], "high_noise")
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
held = torch.empty(2**28, dtype=torch.uint8).fill_(1); del held  # the peak of making w lies below this
before = peak()
for name in QUANTISED:
    quantize.encode(name, "blocks.0.ffn.0.weight", w, "high_noise")
print(peak() - before)
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert int(found.stdout) < 2 * 2**27


def sizes(format_name):
    """Bytes of the tensors in one released expert's file, and of the whole files of both as they are converted."""
    stored = [s for name, shape in released().items() for s in quantize.layout(format_name, name, shape, PART).values()]
    held = {
        part: Weights(part, {name: TensorInfo("BF16", tuple(shape)) for name, shape in tensors.items()}, {}, {})
        for part, tensors in MANIFEST.items()
    }
    held["video_dit_2"] = held["video_dit"]  # both experts have one shape
    release = Checkpoint(Path("MOVA-360p"), {}, RELEASED, None, ScheduleConfig(), 0.9, held)
    files = [file_size(expert_target(release, part, "MOVA-360p", format_name)) for part in EXPERTS]
    return sum(math.prod(shape) * DTYPE_BITS[dtype] // 8 for dtype, shape in stored), *files


@pytest.mark.parametrize("format_name", FORMATS)
def test_the_documented_sizes_are_those_of_the_code(format_name):
    text = (ROOT / "docs" / "quantization.md").read_text(encoding="utf-8")
    tensors, high, low = sizes(format_name)
    gib = [f"{count / 2**30:.2f} GiB" for count in (high, high + low)]
    assert f"| `{format_name}` | {tensors:,} | {high:,} | {gib[0]} | {gib[1]} |" in text


@pytest.mark.parametrize("format_name", FORMATS)
def test_each_format_is_documented(format_name):
    text = (ROOT / "docs" / "quantization.md").read_text(encoding="utf-8")
    chosen = QUANTISED[format_name]
    assert f"| `{format_name}` | `{chosen.host_name}` | v{chosen.since} |" in text
