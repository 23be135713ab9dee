"""What the command line makes of a LoRA is, bit for bit in float32, what ComfyUI's own patching makes."""

from inside import run_inside

SAME = """
import comfy.lora
from pack.mova.lora.merge import merged
from pack.mova.lora.reading import Lora

torch.manual_seed(0)


def parts(kind, rows, columns):
    pair = {"lora_down.weight": torch.randn(4, columns), "lora_up.weight": torch.randn(rows, 4)}
    lokr = {"lokr_w1": torch.randn(8, 4), "lokr_w2": torch.randn(rows // 8, columns // 4)}
    return {
        "pair": pair,
        "pair in bf16": {name: part.bfloat16() for name, part in pair.items()},
        "difference": {"diff": torch.randn(rows, columns)},
        "loha": {f"hada_w{i}_{x}": torch.randn(*((rows, 3) if x == "a" else (3, columns))) for i in "12" for x in "ab"},
        "lokr": lokr,
        "lokr in factors": {
            "lokr_w1_a": torch.randn(8, 2), "lokr_w1_b": torch.randn(2, 4),
            "lokr_w2_a": torch.randn(rows // 8, 2), "lokr_w2_b": torch.randn(2, columns // 4),
        },
        "dora by row": {**pair, "dora_scale": torch.rand(rows, 1) + 0.5},
        "dora by column": {**pair, "dora_scale": torch.rand(1, columns) + 0.5},
        "dora of lokr": {**lokr, "dora_scale": torch.rand(rows, 1) + 0.5},
    }[kind]


kinds = ("pair", "pair in bf16", "difference", "loha", "lokr", "lokr in factors", "dora by row", "dora by column")
given = torch.randn(48, 64)
tried = 0
for kind in (*kinds, "dora of lokr"):
    for alpha in (None, 3.0):
        for strength in (1.0, 0.7, -2.0):
            loras = [Lora("a key", parts(name, 48, 64), alpha) for name in (kind, "pair")]
            wanted = given.clone()
            for lora in loras:
                named = {f"layer.{part}": tensor for part, tensor in lora.parts.items()}
                if alpha is not None:
                    named["layer.alpha"] = torch.tensor(alpha, dtype=torch.float64)
                (patch,) = comfy.lora.load_lora(named, {"layer": "layer.weight"}).values()
                wanted = comfy.lora.calculate_weight([(strength, patch, 1.0, None, None)], wanted, "layer.weight")
            assert not torch.equal(wanted, given)
            found = merged(given, [(lora, strength) for lora in loras])
            assert torch.equal(found, wanted), (kind, alpha, strength, (found - wanted).abs().max())
            tried += 1
print(tried)
"""


def test_every_kind_of_change_is_the_host_s_bit_for_bit(host_place):
    assert int(run_inside(host_place, SAME).split()[-1]) == 54
