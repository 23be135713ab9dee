"""Nodes for the tests only: they bring given tensors into a graph, and tensors out of it."""

import functools
import io
import logging
import os
import sys
import zlib

import comfy.latent_formats
import comfy.ldm.wan.vae
import comfy.model_management
import comfy.nested_tensor
import comfy.sd
import folder_paths
import node_helpers
import sentencepiece
import torch
from comfy.text_encoders.wan import WanT5Tokenizer
from safetensors.torch import load_file, save_file

from .trouble import OneStepMore, Trouble

NestedTensor = comfy.nested_tensor.NestedTensor
load_models_gpu = comfy.model_management.load_models_gpu


@functools.wraps(load_models_gpu)
def noted_load(*args, **kwargs):
    """The host says nothing when weights are asked for that are still loaded."""
    logging.info("[probe] weights are asked for")
    return load_models_gpu(*args, **kwargs)


comfy.model_management.load_models_gpu = noted_load


def tensors(name):
    return load_file(os.path.join(folder_paths.get_input_directory(), name))


def conditioning(text, condition):
    """The golden condition [B, 20, T, H, W] in Wan's conditioning entries."""
    wan = comfy.latent_formats.Wan21()
    entries = {"concat_mask": 1 - condition[:, :4], "concat_latent_image": wan.process_out(condition[:, 4:])}
    return [[text, entries]]


def saved(parts, name):
    """Write tensors to the output folder; what /view needs to find them."""
    parts = {key: part.detach().contiguous().clone() for key, part in parts.items()}
    save_file(parts, os.path.join(folder_paths.get_output_directory(), name))
    return {"filename": name, "type": "output", "subfolder": ""}


class Fresh:
    """Runs each time: files are read anew, and another test may have written over what was saved."""

    CATEGORY = "tests"
    FUNCTION = "run"

    @classmethod
    def IS_CHANGED(cls, **_):
        return float("nan")


class GivenNoise:
    seed = 0

    def __init__(self, *parts):
        self.parts = parts

    def generate_noise(self, latent):
        return NestedTensor(self.parts)


class Given(Fresh):
    """Golden inputs: positive and negative conditioning, an empty latent, and the noise."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"file": ("STRING", {})}}

    RETURN_TYPES = ("CONDITIONING", "CONDITIONING", "LATENT", "NOISE")
    FUNCTION = "run"
    CATEGORY = "tests"

    def run(self, file):
        given = tensors(file)
        video, audio = given["video"], given["audio"]
        noise, condition = video[:, :16], video[:, 16:]
        texts = [conditioning(given[name], condition) for name in ("text", "negative_text")]
        latent = {"samples": NestedTensor([torch.zeros_like(noise), torch.zeros_like(audio)])}
        return *texts, latent, GivenNoise(noise, audio)


class GivenLatent(Fresh):
    """An audio-video latent (tensors video, audio, and video_mask, audio_mask if there) from a file."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"file": ("STRING", {})}}

    RETURN_TYPES = ("LATENT",)
    FUNCTION = "run"
    CATEGORY = "tests"

    def run(self, file):
        given = tensors(file)
        latent = {
            "samples": NestedTensor([given[n] for n in ("video", "audio")]) if "audio" in given else given["video"]
        }
        if "video_mask" in given:
            latent["noise_mask"] = NestedTensor([given["video_mask"], given["audio_mask"]])
        return (latent,)


class Text:
    """Text features of any width."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"width": ("INT", {"default": 4096})}}

    RETURN_TYPES = ("CONDITIONING",)
    FUNCTION = "run"
    CATEGORY = "tests"

    def run(self, width):
        return ([[torch.zeros(1, 20, width), {}]],)


class FrameRate:
    """A conditioning with a frame rate, as MOVA Conditioning writes it."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"conditioning": ("CONDITIONING",), "fps": ("FLOAT", {"default": 24.0})}}

    RETURN_TYPES = ("CONDITIONING",)
    FUNCTION = "run"
    CATEGORY = "tests"

    def run(self, conditioning, fps):
        return (node_helpers.conditioning_set_values(conditioning, {"frame_rate": fps}),)


class Nothing:
    """What a node gives that has nothing to give: a checkpoint without a text encoder, a video without sound."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    RETURN_TYPES = ("MODEL", "CLIP", "VAE", "AUDIO")
    FUNCTION = "run"
    CATEGORY = "tests"

    def run(self):
        return (None,) * 4


class FakeClip:
    """Text features drawn from the text itself, which is noted beside them. Its tokens are words."""

    def tokenize(self, text):
        row = [*text.split(" "), 1]
        return {"umt5xxl": [[(token, 1.0) for token in row + [0] * (512 - len(row))]]}

    def encode_from_tokens_scheduled(self, tokens):
        text = " ".join(token for token, _ in tokens["umt5xxl"][0] if isinstance(token, str))
        generator = torch.Generator().manual_seed(zlib.crc32(text.encode()))
        return [[torch.randn(1, 20, 4096, generator=generator), {"text": text}]]


class Clip:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    RETURN_TYPES = ("CLIP",)
    FUNCTION = "run"
    CATEGORY = "tests"

    def run(self):
        return (FakeClip(),)


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


class WanVAE:
    """The host's Wan 2.1 VAE, small, with random weights."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    RETURN_TYPES = ("VAE",)
    FUNCTION = "run"
    CATEGORY = "tests"

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


class Images(Fresh):
    """IMAGE or AUDIO from a file."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"file": ("STRING", {}), "sample_rate": ("INT", {"default": 48000})}}

    RETURN_TYPES = ("IMAGE", "AUDIO")
    FUNCTION = "run"
    CATEGORY = "tests"

    def run(self, file, sample_rate):
        given = tensors(file)
        return given.get("images"), {"waveform": given.get("waveform"), "sample_rate": sample_rate}


class SaveConditioning(Fresh):
    """The tensors of a conditioning, and its other entries as text."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"conditioning": ("CONDITIONING",), "name": ("STRING", {})}}

    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION = "run"
    CATEGORY = "tests"

    def run(self, conditioning, name):
        ((text, entries),) = conditioning
        parts = {"text_features": text} | {k: v for k, v in entries.items() if torch.is_tensor(v)}
        others = {k: v for k, v in entries.items() if k not in parts}
        return {"ui": {"tensors": [saved(parts, name)], "entries": [others]}}


class SaveAudio(Fresh):
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"audio": ("AUDIO",), "name": ("STRING", {})}}

    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION = "run"
    CATEGORY = "tests"

    def run(self, audio, name):
        rate = torch.tensor(audio["sample_rate"])
        return {"ui": {"tensors": [saved({"waveform": audio["waveform"], "sample_rate": rate}, name)]}}


class Resample(Fresh):
    """All of a sound at 48 kHz."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"audio": ("AUDIO",)}}

    RETURN_TYPES = ("AUDIO",)
    FUNCTION = "run"
    CATEGORY = "tests"

    def run(self, audio):
        (module,) = (module for name, module in sys.modules.items() if name.endswith(".mova.clip.resample"))
        waveform = module.resample(audio["waveform"], audio["sample_rate"], 48000)
        return ({"waveform": waveform, "sample_rate": 48000},)


class Sigmas(Fresh):
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"sigmas": ("SIGMAS",), "name": ("STRING", {})}}

    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION = "run"
    CATEGORY = "tests"

    def run(self, sigmas, name):
        return {"ui": {"tensors": [saved({"sigmas": sigmas}, name)]}}


class Patch:
    """What packs plug into a model: replaced blocks, another attention."""

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": ("MODEL",),
                "what": (["call", "skip", "attention", "half attention", "pre cfg", "cfg", "post cfg"],),
            }
        }

    RETURN_TYPES = ("MODEL",)
    FUNCTION = "run"
    CATEGORY = "tests"

    def run(self, model, what):
        model = model.clone()

        def replace(args, extra):
            if what == "skip":
                return {"img": args["img"]}
            before = args["img"].clone()
            out = extra["original_block"](args)
            assert torch.equal(args["img"], before), "the block must leave its input alone"
            return {"img": out["img"]}

        def attention(function, *args, **kwargs):
            return function(*args, **kwargs) * (0.5 if what == "half attention" else 1)

        def half(args):
            return args["conds_out"] if what == "pre cfg" else args["denoised" if what == "post cfg" else "cond"] / 2

        if "cfg" in what:
            getattr(model, f"set_model_sampler_{what.replace(' ', '_')}_function")(half)
        elif "attention" in what:
            model.model_options["transformer_options"]["optimized_attention_override"] = attention
        else:
            model.set_model_patch_replace(replace, "dit", "double_block", 1)
        return (model,)


class Forward:
    """One forward of the diffusion model as it is."""

    @classmethod
    def INPUT_TYPES(cls):
        numbers = {name: ("FLOAT", {"default": 1.0}) for name in ("timestep", "a2v_scale", "v2a_scale")}
        return {"required": {"model": ("MODEL",), "file": ("STRING", {}), **numbers}}

    RETURN_TYPES = ("LATENT",)
    FUNCTION = "run"
    CATEGORY = "tests"

    def run(self, model, file, timestep, a2v_scale, v2a_scale):
        given = tensors(file)
        comfy.model_management.load_models_gpu([model])
        video, dtype = given["video"], model.model.get_dtype_inference()
        out = model.model.diffusion_model(
            [video[:, :16].to(dtype), given["audio"].to(dtype)],
            torch.tensor([timestep]),
            context=given["text"].to(dtype),
            condition=video[:, 16:].to(dtype),
            a2v_scale=a2v_scale,
            v2a_scale=v2a_scale,
        )
        return ({"samples": NestedTensor([part.float() for part in out])},)


class Save(Fresh):
    """Write a latent to the output folder, and say where."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"latent": ("LATENT",), "name": ("STRING", {})}}

    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION = "run"
    CATEGORY = "tests"

    def run(self, latent, name):
        samples = latent["samples"]
        parts = (
            dict(zip(("video", "audio"), samples.unbind(), strict=True)) if samples.is_nested else {"samples": samples}
        )
        mask = latent.get("noise_mask")
        if mask is not None:
            masks = mask.unbind() if getattr(mask, "is_nested", False) else [mask]
            parts |= {f"mask{i}": part for i, part in enumerate(masks)}
        return {"ui": {"tensors": [saved(parts, name)], "keys": sorted(latent)}}


class About(Fresh):
    """What the host has made of a model file."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}}

    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION = "run"
    CATEGORY = "tests"

    def run(self, model):
        inner = model.model
        about = {
            "family": type(inner).__name__,
            "dtype": str(inner.get_dtype()),
            "expert": getattr(inner, "expert", None),
            "shift": inner.model_sampling.shift,
            "linear": type(inner.diffusion_model.blocks[0].self_attn.q).__qualname__,
            "memory_factor": inner.memory_usage_factor,
            "tables": getattr(inner.diffusion_model, "last_rotations", None) is not None,
        }
        return {"ui": {"about": [about]}}


NODES = (
    Trouble,
    OneStepMore,
    Given,
    GivenLatent,
    Text,
    FrameRate,
    Nothing,
    Clip,
    Tokenizer,
    WanVAE,
    HunyuanVAE,
    Images,
    Sigmas,
    Patch,
    Forward,
    Save,
    SaveConditioning,
    SaveAudio,
    Resample,
    About,
)
NODE_CLASS_MAPPINGS = {f"Probe{cls.__name__}": cls for cls in NODES}
