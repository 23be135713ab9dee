"""Small language models of the host's own classes that have learnt one text by heart.

The networks, tokenizers and the writing are the host's; sizes are small and weights random, but for those that carry
the text: the embedding of its k-th token is the k-th unit vector, every other token's the 0th, and the first layer's
MLP adds the unit vector after the one it is given. Two tokens that share a vector are as likely as each other, so that
the seed says which is written.
"""

import io
import re
import types

import comfy.model_management
import comfy.sd
import comfy.text_encoders.llama as llama
import comfy.text_encoders.lumina2 as gemma
import comfy.text_encoders.qwen3vl as qwen3vl
import comfy.text_encoders.qwen_image as qwen25vl
import comfy.text_encoders.qwen_vl as qwen_vl
import comfy.text_encoders.wan as wan
import comfy.text_encoders.z_image as qwen3
import sentencepiece
import torch

from .parts import Node
from .stand_ins import TokenizerClip

WIDTH = 32
SIZES = {
    "hidden_size": WIDTH, "intermediate_size": WIDTH, "num_hidden_layers": 3, "num_attention_heads": 1,
    "num_key_value_heads": 1,
}  # fmt: skip
VISION = {"hidden_size": 64, "intermediate_size": 64, "depth": 2, "deepstack_visual_indexes": [0]}
EYES = {
    "num_channels": 3, "hidden_act": "gelu_pytorch_tanh", "hidden_size": 1152, "image_size": 896, "patch_size": 14,
    "intermediate_size": 64, "model_type": "siglip_vision_model", "num_attention_heads": 16, "num_hidden_layers": 1,
}  # fmt: skip
TEXT = 'A red fox runs through deep snow and whispers "Hello there, friend" softly.\n\nThe audio holds quiet wind.'
CHOICE = (" red", " grey", " brown")  # words that the seed chooses between; the host leaves out the last of equals


def qwen3vl_clip(options):
    name = "qwen3vl_4b"
    kept = qwen3vl.QWEN3VL_VISION[name], qwen3vl.QWEN3VL_VISION_COMMON["num_heads"]
    qwen3vl.QWEN3VL_VISION[name], qwen3vl.QWEN3VL_VISION_COMMON["num_heads"] = VISION, 2
    try:
        return built(qwen3vl.te(model_type=name), qwen3vl.tokenizer(model_type=name), SIZES, options), 151645
    finally:
        qwen3vl.QWEN3VL_VISION[name], qwen3vl.QWEN3VL_VISION_COMMON["num_heads"] = kept


def qwen3_clip(options):
    return built(qwen3.te(), qwen3.ZImageTokenizer, SIZES, options), 151645


def gemma3_with_eyes(options):
    kept, llama.Gemma3_4B_Vision_Config.vision_config = llama.Gemma3_4B_Vision_Config.vision_config, EYES
    try:
        return gemma3_clip(options, "gemma3_4b_vision", 262208)  # the token of a picture is the 262144th
    finally:
        llama.Gemma3_4B_Vision_Config.vision_config = kept


def gemma3_clip(options, name="gemma3_4b", words=512):
    """Its tokenizer comes with the file: here a small one."""
    model = io.BytesIO()
    marks = ["<start_of_turn>", *(f"<unused{number}>" for number in range(103))]  # 106 is <end_of_turn>, as in Gemma's
    marks += [word.replace(" ", "▁") for word in (*re.findall(r" ?[^ \n]+|\n\n", TEXT), *CHOICE[1:])]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the quick brown dog jumps over a lazy cat"] * 50), model_writer=model,
        vocab_size=170, hard_vocab_limit=False, user_defined_symbols=marks, pad_id=0, eos_id=1, bos_id=2,
        unk_id=3, minloglevel=2, add_dummy_prefix=False, normalization_rule_name="identity",
        remove_extra_whitespaces=False,
    )  # fmt: skip
    data = {"spiece_model": model.getvalue()}
    sizes = {**SIZES, "vocab_size": words}
    return built(gemma.te(model_type=name), gemma.NTokenizer, sizes, options, data), 106


def built(model, tokenizer, sizes, options, data=None):
    target = types.SimpleNamespace(clip=model, tokenizer=tokenizer, params={})
    options = {
        f"{name}_model_config": sizes
        for name in ("qwen3vl_4b", "qwen3_4b", "gemma3_4b", "gemma3_4b_vision", "qwen25_7b")
    } | options
    return comfy.sd.CLIP(target, tokenizer_data=data or {}, model_options=options)


def qwen25vl_clip(options):
    """Without its eyes, which come in one size only."""
    kept, qwen_vl.Qwen2VLVisionTransformer = qwen_vl.Qwen2VLVisionTransformer, lambda **_: torch.nn.Module()
    try:
        return built(qwen25vl.te(), qwen25vl.QwenImageTokenizer, SIZES, options), 151645
    finally:
        qwen_vl.Qwen2VLVisionTransformer = kept


KINDS = {
    "Qwen2.5-VL": qwen25vl_clip,
    "Qwen3-VL": qwen3vl_clip,
    "Qwen3": qwen3_clip,
    "Gemma 3": gemma3_clip,
    "Gemma 3 with eyes": gemma3_with_eyes,
}


def teach(clip, text, end):
    """Have the model write the text, then its end."""
    torch.manual_seed(0)
    network = next(part.transformer for part in clip.cond_stage_model.modules() if hasattr(part, "transformer"))
    for name, weight in network.named_parameters():
        weight.requires_grad_(False)
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            weight.zero_()
        elif weight.ndim > 1:
            torch.nn.init.normal_(weight, 0.0, 0.02)
        else:
            weight.fill_(0.0 if name.endswith("bias") or adds_one(network, name) else 1.0)
    tokens = ids(clip, text)
    assert len(set(tokens)) == len(tokens) < WIDTH - 1, f"a token comes twice: {tokens}"
    table, layer = network.model.embed_tokens.weight, network.model.layers[0]
    table.zero_()
    table[:, 0] = 1.0
    for place, token in enumerate([*tokens, end], start=1):
        table[token] = 0.0
        table[token, place] = 1.0
    first, *others = (ids(clip, word)[-1] for word in CHOICE)
    table[others] = table[first].clone()
    for weight in (layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight):
        weight.copy_(torch.eye(WIDTH))
    layer.mlp.down_proj.weight.copy_(torch.eye(WIDTH).roll(1, dims=0))
    if hasattr(layer, "post_feedforward_layernorm"):
        layer.post_feedforward_layernorm.weight.fill_(9.0)


def adds_one(network, name):
    return network.model.config.rms_norm_add and name.startswith("model.")


def ids(clip, text):
    """The tokens of a text. Older hosts leave their own template out only where a turn begins."""
    begin = "<start_of_turn>" if isinstance(clip.tokenizer, gemma.NTokenizer) else "<|im_start|>"
    (row,) = next(iter(clip.tokenize(begin + text, llama_template="{}", min_length=1).values()))
    tokens = [token for token, *_ in row]
    return tokens[2 if tokens[0] == 2 else 1 :]  # Gemma's begin with 2


class LanguageModel(Node):
    """`calls` counts what it was asked; the device is the host's, as for a text encoder on a graphics card."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"kind": (list(KINDS),)}, "optional": {"text": ("STRING", {"default": TEXT})}}

    RETURN_TYPES = ("CLIP",)

    def run(self, kind, text=TEXT):
        device = comfy.model_management.get_torch_device()
        clip, end = KINDS[kind]({"load_device": device, "offload_device": torch.device("cpu")})
        teach(clip, text, end)
        return (clip,)


class Encoder(Node):
    """Text encoders of the host's that cannot write: a small UMT5, and what it makes of a file it does not know."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"kind": (["UMT5", "an unknown file"],)}}

    RETURN_TYPES = ("CLIP",)

    def run(self, kind):
        if kind != "UMT5":
            return (comfy.sd.load_text_encoder_state_dicts([{"unknown.weight": torch.zeros(1)}]),)
        sizes = {"d_ff": 64, "d_model": 64, "d_kv": 32, "num_heads": 2, "num_layers": 1, "vocab_size": 64}
        target = types.SimpleNamespace(clip=wan.te(), tokenizer=lambda **_: TokenizerClip().tokenizer, params={})
        return (comfy.sd.CLIP(target, model_options={"umt5xxl_model_config": sizes}),)


class Painted(Node):
    """In place of a sampler of pictures: what it is given is there, and the latent of one picture comes out."""

    @classmethod
    def INPUT_TYPES(cls):
        texts = {"positive": ("CONDITIONING",), "negative": ("CONDITIONING",)}
        return {"required": {"model": ("MODEL",), **texts, "latent_image": ("LATENT",)}}

    RETURN_TYPES = ("LATENT",)

    def run(self, model, positive, negative, latent_image):
        assert positive[0][0].isfinite().all()
        return ({"samples": torch.zeros(1, 16, 1, 4, 6)},)
