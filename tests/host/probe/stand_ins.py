"""Stand-ins for the models that ComfyUI knows in their released size only: text encoders and VAEs."""

import io
import zlib

import comfy.ldm.wan.vae
import comfy.sd
import sentencepiece
import torch
from comfy.text_encoders.wan import WanT5Tokenizer

from .parts import Node


class FakeClip:
    """Text features drawn from the text itself, which is noted beside them. Its tokens are words."""

    def tokenize(self, text):
        row = [*text.split(" "), 1]
        return {"umt5xxl": [[(token, 1.0) for token in row + [0] * (512 - len(row))]]}

    def encode_from_tokens_scheduled(self, tokens):
        text = " ".join(token for token, _ in tokens["umt5xxl"][0] if isinstance(token, str))
        generator = torch.Generator().manual_seed(zlib.crc32(text.encode()))
        return [[torch.randn(1, 20, 4096, generator=generator), {"text": text}]]


class Clip(Node):
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    RETURN_TYPES = ("CLIP",)

    def run(self):
        return (FakeClip(),)


class CountedClip(FakeClip):
    """How many texts it has encoded stands beside each."""

    encoded = 0

    def encode_from_tokens_scheduled(self, tokens):
        self.encoded += 1
        ((features, entries),) = super().encode_from_tokens_scheduled(tokens)
        return [[features, {**entries, "encoded": self.encoded}]]


class CountingClip(Clip):
    def run(self):
        return (CountedClip(),)


class Size(Node):
    """As MOVA Size, of a clip of 9 frames of 48 x 32."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    RETURN_TYPES = ("INT", "INT", "INT", "FLOAT")
    RETURN_NAMES = ("width", "height", "length", "fps")

    def run(self):
        return (48, 32, 9, 24.0)


class TokenizerClip:
    """The host's own UMT5 tokenizer, with a small vocabulary; in place of features, what would be encoded."""

    def __init__(self):
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["a red rocket (large) lifts off", "the woman says it is going to rain"] * 50),
            model_writer=model, vocab_size=60, hard_vocab_limit=False, pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
            minloglevel=2,
        )  # fmt: skip
        model = model.getvalue()
        self.tokenizer = WanT5Tokenizer(tokenizer_data={"spiece_model": model})
        self.pieces = sentencepiece.SentencePieceProcessor(model_proto=model)

    def tokenize(self, text):
        return self.tokenizer.tokenize_with_weights(text) | {"whole": self.pieces.encode(text, add_eos=True)}

    def encode_from_tokens_scheduled(self, tokens):
        ((*row,),) = tokens["umt5xxl"]
        ids, weights = [int(token) for token, _ in row], [weight for _, weight in row]
        return [[torch.zeros(1, 20, 4096), {"tokens": ids, "weights": weights, "whole": tokens["whole"]}]]


class Tokenizer(Clip):
    def run(self):
        return (TokenizerClip(),)


class WanVAE(Node):
    """The host's Wan 2.1 VAE, small, with random weights."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    RETURN_TYPES = ("VAE",)

    def run(self):
        torch.manual_seed(0)
        sizes = {"dim": 8, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_scales": []}
        model = comfy.ldm.wan.vae.WanVAE(**sizes, temperal_downsample=[False, True, True])
        for parameter in model.parameters():  # the host's layers leave their weights uninitialised
            scale = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1
            torch.nn.init.normal_(parameter, 1.0 if parameter.ndim == 4 else 0.0, scale)
        return (comfy.sd.VAE(sd=model.state_dict()),)


class HunyuanVAE(WanVAE):
    """A VAE of another model, which looks like Wan's from outside; its latents here are zeros."""

    def run(self):
        (vae,) = super().run()
        vae.first_stage_model = AutoencodingEngine()
        vae.encode = lambda pixels: torch.zeros(1, 16, (len(pixels) - 1) // 4 + 1, *(n // 8 for n in pixels.shape[1:3]))
        return (vae,)


class AutoencodingEngine(torch.nn.Module):
    """Called as the host calls HunyuanVideo's VAE."""


class Anything(Node):
    """An object of the kind that is asked for, by a type that fits every input."""

    MADE = {  # noqa: RUF012
        "a text": "text",
        "a number": 7,
        "a list": [1, "two"],
        "a dict": {"samples": "none"},
        "a tensor": torch.zeros(2, 3),
    }

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"what": (list(cls.MADE),)}}

    RETURN_TYPES = ("*",)

    def run(self, what):
        return (self.MADE[what],)
