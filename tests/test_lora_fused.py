"""Layers that were fused before training are taken apart; adapters of other kinds are named."""

import pytest
import torch
from golden import drawn
from lora_files import SHAPES, saved
from sentences import refusal

from mova.lora.describe import describe_lora
from mova.lora.fit import fit, left_out
from mova.lora.merge import merged
from mova.lora.names import split_key
from mova.lora.reading import Lora, read_lora

Q, FFN = "blocks.0.self_attn.q", "blocks.1.ffn.0"
TO_Q, PROJ = "blocks.0.attn1.to_q", "blocks.1.ffn.net.0.proj"


def pair(key, layer, rank=4):
    rows, columns = SHAPES[f"{layer}.weight"]
    return {f"{key}.lora_A.weight": torch.zeros(rank, columns), f"{key}.lora_B.weight": torch.zeros(rows, rank)}


FUSED_Q = "transformer.blocks.0.attn1.to_qkv"
SELF = [f"blocks.0.self_attn.{name}" for name in "qkv"]
CROSS = [f"blocks.0.cross_attn.{name}" for name in "kv"]


def drawn_parts(**shapes):
    return {part.replace("__", "."): torch.from_numpy(drawn(part, shape)).float() for part, shape in shapes.items()}


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("kind", ["lora", "dora", "loha", "lokr", "lokr product", "diff"])
@pytest.mark.parametrize(("fused", "singles"), [("attn1.to_qkv", SELF), ("attn2.to_kv", CROSS)])
def test_a_fused_layer_changes_the_single_ones_as_it_would_change_them_together(tmp_path, fused, singles, kind, flat):
    """SimpleTuner's fused_qkv_projections."""
    count, (rows, columns) = len(singles), SHAPES[f"{Q}.weight"]
    all_rows = rows * count
    parts = {
        "lora": {"lora_A__weight": (4, columns), "lora_B__weight": (all_rows, 4)},
        "dora": {
            "lora_A__weight": (4, columns),
            "lora_B__weight": (all_rows, 4),
            "lora_magnitude_vector": (all_rows,),
        },
        "loha": {"hada_w1_a": (all_rows, 2), "hada_w1_b": (2, columns)}
        | {"hada_w2_a": (all_rows, 2), "hada_w2_b": (2, columns)},
        "lokr": {"lokr_w1": (count * 2, 4), "lokr_w2": (rows // 2, columns // 4)},
        "lokr product": {"lokr_w1_a": (count * 2, 2), "lokr_w1_b": (2, 4), "lokr_w2": (rows // 2, columns // 4)},
        "diff": {"diff": (all_rows, columns), "diff_b": (all_rows,)},
    }[kind]
    name = f"lycoris_blocks_0_{fused.replace('.', '_')}" if flat else f"transformer.blocks.0.{fused}"
    tensors = {f"{name}.{part}": tensor for part, tensor in drawn_parts(**parts).items()}
    if kind != "diff":
        tensors[f"{name}.alpha"] = torch.tensor(2.0)
    file = read_lora(saved(tmp_path / "fused.safetensors", tensors))
    fitted, found = fit(file, SHAPES)
    assert list(fitted[""]) == singles and not (found.absent or found.misfits or file.unknown or file.incomplete)
    weight = torch.from_numpy(drawn("weight", (all_rows, columns))).float()
    read = {split_key(key)[2]: tensor for key, tensor in tensors.items()}
    alpha = float(read.pop("alpha")) if "alpha" in read else None
    if "dora_scale" in read:
        read["dora_scale"] = read["dora_scale"][:, None]
    bias = read.pop("diff_b", None)
    whole = Lora("fused", read, alpha)
    wanted = merged(weight, [(whole, 0.7)]).chunk(count)
    for i, layer in enumerate(singles):
        lora = fitted[""][layer]
        made = merged(weight.chunk(count)[i], [(lora, 0.7)])
        assert torch.allclose(made, wanted[i], atol=1e-5), layer
        assert bias is None or torch.equal(lora.parts["diff_b"], bias.chunk(count)[i])


def test_a_fused_layer_that_cannot_be_taken_apart_is_left_out_and_named(tmp_path):
    rows, columns = SHAPES[f"{Q}.weight"]
    kron = {f"{FUSED_Q}.lokr_w1": torch.zeros(4, 4), f"{FUSED_Q}.lokr_w2": torch.zeros(3 * rows // 4, columns // 4)}
    fitted, found = fit(read_lora(saved(tmp_path / "l.safetensors", kron | pair(f"transformer.{PROJ}", FFN))), SHAPES)
    assert list(fitted[""]) == [FFN] and found.absent == [f"{FUSED_Q}.lokr_w1"]


def test_a_file_with_a_fused_layer_and_its_single_ones_is_refused(tmp_path):
    rows, columns = SHAPES[f"{Q}.weight"]
    fused = {f"{FUSED_Q}.lora_A.weight": torch.zeros(4, columns), f"{FUSED_Q}.lora_B.weight": torch.zeros(3 * rows, 4)}
    for tensors in (fused | pair(f"transformer.{TO_Q}", Q), pair(f"transformer.{TO_Q}", Q) | fused):
        message = refusal(read_lora, saved(tmp_path / "l.safetensors", tensors))
        assert "and the same layer once more; save one of both in a file." in message


# ---- adapters that are not read

ROWS, COLUMNS = SHAPES[f"{Q}.weight"]
ADAPTERS = [
    ("OFT or BOFT", {"oft_blocks": (8, ROWS // 8, ROWS // 8), "rescale": (ROWS, 1), "alpha": ()}),
    ("OFT or BOFT", {"oft_diag": (8, ROWS // 8, ROWS // 8)}),
    ("OFT or BOFT", {"oft_R.weight": (8, 28)}),
    ("OFT or BOFT", {"boft_R.default": (1, 8, 4, 4), "boft_s.default": (ROWS, 1)}),
    ("GLoRA", {f"{part}.weight": (4, COLUMNS) for part in ("a1", "a2", "b1", "b2")}),
    ("VeRA", {"vera_lambda_b": (ROWS,), "vera_lambda_d": (4,)}),
    ("IA3", {"ia3_l": (ROWS, 1)}),
]


@pytest.mark.parametrize(("kind", "shapes"), ADAPTERS)
def test_an_adapter_that_is_not_read_is_named(tmp_path, kind, shapes):
    tensors = {f"lycoris_blocks_0_attn1_to_q.{part}": torch.ones(shape) for part, shape in shapes.items()}
    message = refusal(read_lora, saved(tmp_path / "o.safetensors", tensors))
    assert f"o.safetensors holds {kind} ('lycoris_blocks_0_attn1_to_q." in message
    assert "what can be read is LoRA, DoRA, LoHa, LoKr and whole differences; choose such a file." in message
    file = read_lora(saved(tmp_path / "both.safetensors", tensors | pair(f"transformer.{PROJ}", FFN)))
    fitted, found = fit(file, SHAPES)
    assert list(fitted[""]) == [FFN]
    (line,) = left_out(file, found.absent, found.misfits)
    assert line.startswith(f"{len(tensors)} keys are left out, as they are {kind}'s, and what can be read is LoRA")
    assert any(f"keys of {kind}, which is not read" in line for line in describe_lora(tmp_path / "both.safetensors"))
