"""How LoRA files spell their keys, and the one spelling used here: which module, which layer in it, which part."""

import re
from collections.abc import Collection

from ..checkpoint.release import EXPERT_FOLDERS, JOINT

# The module of keys that name none: those of Wan's LoRAs, and of trainers that write a file for each module.
UNNAMED = ""
MODULES = (*EXPERT_FOLDERS, *JOINT)
# As DiffSynth, ai-toolkit and diffusers call the experts.
ALIASES = dict.fromkeys(("transformer_1", "dit1"), EXPERT_FOLDERS[0])
ALIASES |= dict.fromkeys(("video_dit2", "transformer_2", "dit2"), EXPERT_FOLDERS[1])

# What trainers put before a name, and segments that wrappers of modules put into it.
PREFIXES = ("base_model.model.", "diffusion_model.", "transformer.", "unet.", "model.", "module.", "pipe.", "dit.")
FLAT_PREFIX = re.compile(r"lora_unet__?|lora_transformer_(?![12]_)|lora_(?=transformer_[12]_)|lycoris_")
WRAPPERS = {"_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_orig_mod"}
# diffusers' names of Wan's layers. Its blocks count their norms in the order of use: Wan's third is its second; the
# other two have no weights.
DIFFUSERS = {
    "attn1": "self_attn",
    "attn2": "cross_attn",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "o",
    "to_out": "o",
    "add_k_proj": "k_img",
    "add_v_proj": "v_img",
    "norm_added_k": "norm_k_img",
    "norm2": "norm3",
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "condition_embedder.time_proj": "time_projection.1",
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "condition_embedder.text_embedder.linear_2": "text_embedding.2",
    "proj_out": "head.head",
    "scale_shift_table": "modulation",
}
RENAMED = re.compile(rf"(?<![^.])(?:{'|'.join(re.escape(name) for name in DIFFUSERS)})(?![^.])")
# Names with underscores of their own: flat keys (kohya's) have underscores in place of the dots, too.
WORDS = (
    *("video_dit_2", "video_dit", "audio_dit", "dual_tower_bridge", "transformer_1", "transformer_2"),
    *("audio_to_video_conditioners", "video_to_audio_conditioners", "self_attn", "cross_attn", "norm_q", "norm_k"),
    *("y_norm", "patch_embedding", "text_embedding", "time_embedding", "time_projection", "k_img", "v_img"),
    *("norm_k_img", "img_emb", "condition_embedder", "time_embedder", "text_embedder", "image_embedder", "time_proj"),
    *("linear_1", "linear_2", "to_q", "to_k", "to_v", "to_out", "add_k_proj", "add_v_proj", "norm_added_k"),
    *("proj_out", "scale_shift_table", "to_qkv", "to_kv", "to_added_kv"),
)
FLAT = re.compile(rf"(?:{'|'.join(sorted(WORDS, key=len, reverse=True))})(?=_|$)|[^_]+")

DOWN, UP, ALPHA, DORA, DIFF, BIAS = "lora_down.weight", "lora_up.weight", "alpha", "dora_scale", "diff", "diff_b"
LOHA = frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"})
W1, W2 = ({(f"lokr_{w}",), (f"lokr_{w}_a", f"lokr_{w}_b")} for w in ("w1", "w2"))  # whole, or as a product
LOKR = [frozenset(w1 + w2) for w1 in W1 for w2 in W2]
# What makes a change by itself; a bias, alpha, and DoRA's scale may be with it.
CHANGES = [frozenset({DOWN, UP}), frozenset({DIFF}), LOHA, *LOKR]
# Parts known only so that a layer that has them is left out as a whole: without them it would be another change.
UNUSABLE = frozenset({"lora_mid.weight", "hada_t1", "hada_t2", "lokr_t2", "set_weight", "reshape_weight"})
LORA_BIAS = "lora_B.bias"  # the same, in any adapter's name
OTHERS = {  # parts of adapters that are not read: the adapter's name
    **dict.fromkeys(("oft_blocks", "oft_diag", "oft_R", "rescale"), "OFT or BOFT"),
    **dict.fromkeys(("boft_R", "boft_s"), "OFT or BOFT"),
    **dict.fromkeys(("a1", "a2", "b1", "b2"), "GLoRA"),
    **dict.fromkeys(("vera_lambda_b", "vera_lambda_d"), "VeRA"),
    "ia3_l": "IA3",
}
READ = "LoRA, DoRA, LoHa, LoKr and whole differences"

# Behind these may follow an adapter's name and ".weight".
SPELLINGS = {
    DOWN: r"\.lora_A|\.lora_down|_lora\.down|\.lora\.down|\.lora_linear_layer\.down",
    UP: r"\.lora_B|\.lora_up|_lora\.up|\.lora\.up|\.lora_linear_layer\.up",
    DORA: r"\.dora_scale|\.lora_magnitude_vector",
    **{part: rf"\.{part}" for change in (LOHA, *LOKR) for part in change},
    **{part: rf"\.{part}" if len(part) > 2 else rf"\.{part}(?=\.weight$)" for part in OTHERS},
}
PATTERNS = {part: re.compile(rf"(.+?)(?:{ways})(?:\.(?!bias$)[^.]+){{0,2}}") for part, ways in SPELLINGS.items()}
PATTERNS[LORA_BIAS] = re.compile(r"(.+?)\.lora_[AB](?:\.[^.]+)?\.bias")
EXACT = (ALPHA, DIFF, BIAS, *UNUSABLE)


def split_key(key: str) -> tuple[str, str, str] | None:
    """(module or UNNAMED, layer in it, part as ComfyUI spells it), or None if this is no key of a LoRA."""
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
    """The module (UNNAMED if it is not named) and the layer in it, in Wan's names."""
    while prefix := next((p for p in PREFIXES if name.startswith(p)), None):
        name = name.removeprefix(prefix)
    if "." not in name:
        name = ".".join(FLAT.findall(FLAT_PREFIX.sub("", name, count=1)))
    name = ".".join(segment for segment in name.split(".") if segment not in WRAPPERS)
    module, _, rest = name.partition(".")
    module = ALIASES.get(module, module)
    if module in MODULES:
        return module, wan_name(rest) if module != JOINT[1] else rest
    return (JOINT[1], name) if module.endswith("_conditioners") else (UNNAMED, wan_name(name))


def wan_name(name: str) -> str:
    """A layer, or the end of its name, in Wan's spelling. Behind the blocks, diffusers' table is the head's."""
    if name == "scale_shift_table":
        return "head.modulation"
    return RENAMED.sub(lambda found: DIFFUSERS[found[0]], name)


def names_first_expert(key: str) -> bool:
    """Whether a key that names no module is of the first expert if the file has the second one's, too."""
    while prefix := next((p for p in PREFIXES if key.startswith(p)), None):
        if prefix in ("transformer.", "dit."):
            return True
        key = key.removeprefix(prefix)
    return False
