"""How LoRA files spell their keys, and the one spelling used here: which module, which layer in it, which part."""

import re
from collections.abc import Collection

from ..checkpoint.release import EXPERT_FOLDERS, JOINT

BARE = ""  # the module of keys that name none: those of Wan's LoRAs, and of trainers that write a file for each module
MODULES = (*EXPERT_FOLDERS, *JOINT)
ALIASES = {"video_dit2": EXPERT_FOLDERS[1]}  # as DiffSynth calls it

# What trainers put before a name, and segments that wrappers of modules put into it.
PREFIXES = ("base_model.model.", "diffusion_model.", "transformer.", "model.", "module.", "pipe.")
FLAT_PREFIXES = ("lora_unet__", "lora_unet_", "lora_transformer_", "lycoris_")
WRAPPERS = {"_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_orig_mod"}
# Names with underscores of their own: flat keys (kohya's) have underscores in place of the dots, too.
WORDS = (
    *("video_dit_2", "video_dit", "audio_dit", "dual_tower_bridge"),
    *("audio_to_video_conditioners", "video_to_audio_conditioners", "self_attn", "cross_attn", "norm_q", "norm_k"),
    *("y_norm", "patch_embedding", "text_embedding", "time_embedding", "time_projection"),
)
FLAT = re.compile("|".join((*WORDS, "[^_]+")))

DOWN, UP, ALPHA, DORA, DIFF, BIAS = "lora_down.weight", "lora_up.weight", "alpha", "dora_scale", "diff", "diff_b"
LOHA = frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"})
W1, W2 = ({(f"lokr_{w}",), (f"lokr_{w}_a", f"lokr_{w}_b")} for w in ("w1", "w2"))  # whole, or as a product
LOKR = [frozenset(w1 + w2) for w1 in W1 for w2 in W2]
# What makes a change by itself; a bias, alpha, and DoRA's scale may be with it.
CHANGES = [frozenset({DOWN, UP}), frozenset({DIFF}), LOHA, *LOKR]
# Parts known only so that a layer that has them is left out as a whole: without them it would be another change.
UNUSABLE = frozenset({"lora_mid.weight", "hada_t1", "hada_t2", "lokr_t2", "set_weight", "reshape_weight"})
LORA_BIAS = "lora_B.bias"  # the same, in any adapter's name

# Behind these may follow an adapter's name and ".weight".
SPELLINGS = {
    DOWN: r"\.lora_A|\.lora_down|_lora\.down|\.lora\.down|\.lora_linear_layer\.down",
    UP: r"\.lora_B|\.lora_up|_lora\.up|\.lora\.up|\.lora_linear_layer\.up",
    DORA: r"\.dora_scale|\.lora_magnitude_vector",
}
PATTERNS = {part: re.compile(rf"(.+?)(?:{ways})(?:\.(?!bias$)[^.]+){{0,2}}") for part, ways in SPELLINGS.items()}
PATTERNS[LORA_BIAS] = re.compile(r"(.+?)\.lora_[AB](?:\.[^.]+)?\.bias")
EXACT = (ALPHA, BIAS, *UNUSABLE, *{part for change in CHANGES[1:] for part in change})


def split_key(key: str) -> tuple[str, str, str] | None:
    """(module or BARE, layer in it, part as ComfyUI spells it), or None if this is no key of a LoRA."""
    if key.endswith(".diff_m"):  # of the modulation in a block
        return *split_name(key.removesuffix(".diff_m") + ".modulation"), DIFF
    for part in EXACT:
        if key.endswith(f".{part}"):
            return *split_name(key.removesuffix(f".{part}")), part
    for part, pattern in PATTERNS.items():
        if found := pattern.fullmatch(key):
            return *split_name(found[1]), part
    return None


def is_complete(parts: Collection[str]) -> bool:
    """Whether these parts of a layer make a change."""
    main = frozenset(parts) - {ALPHA, DORA, BIAS}
    return main in CHANGES or (not main and BIAS in parts)


def split_name(name: str) -> tuple[str, str]:
    """The module (BARE if it is not named) and the layer in it, in Wan's names."""
    while prefix := next((p for p in PREFIXES if name.startswith(p)), None):
        name = name.removeprefix(prefix)
    if "." not in name:
        prefix = next((p for p in FLAT_PREFIXES if name.startswith(p)), "")
        name = ".".join(FLAT.findall(name.removeprefix(prefix)))
    name = ".".join(segment for segment in name.split(".") if segment not in WRAPPERS)
    module, _, rest = name.partition(".")
    module = ALIASES.get(module, module)
    if module in MODULES:
        return module, rest
    return JOINT[1] if module.endswith("_conditioners") else BARE, name
