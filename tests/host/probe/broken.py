"""Parts that make NaN, or hold it: what a broken kernel, a damaged file or a format that is too small amount to."""

import copy

import comfy.samplers
import torch
from comfy.k_diffusion.sampling import sample_euler


class NanAt:
    """A model whose forward is NaN from this evaluation on (0-based), as a broken attention kernel makes it."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "call": ("INT", {"default": 0})}}

    @classmethod
    def IS_CHANGED(cls, **_):
        return float("nan")

    RETURN_TYPES = ("MODEL",)
    FUNCTION = "run"
    CATEGORY = "tests"

    def run(self, model, call):
        calls = []

        def wrapper(executor, *args, **kwargs):
            video, audio = executor(*args, **kwargs)
            calls.append(1)
            if len(calls) > call:
                audio[0, 0, 0] = float("nan")
            print(f"evaluation {len(calls)}", flush=True)
            return [video, audio]

        model = model.clone()
        model.add_wrapper_with_key("diffusion_model", "probe_nan", wrapper)
        return (model,)


class NanSampler:
    """Euler that loses its latent behind the second step."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    RETURN_TYPES = ("SAMPLER",)
    FUNCTION = "run"
    CATEGORY = "tests"

    def run(self):
        def lose(model, x, sigmas, **kwargs):
            x = sample_euler(model, x, sigmas[:3], **kwargs)
            return sample_euler(model, x / 0, sigmas[2:], **kwargs)

        return (comfy.samplers.KSAMPLER(lose),)


class NanVAE:
    """A VAE that encodes to NaN, as the Wan VAE may in fp16."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"vae": ("VAE",)}}

    RETURN_TYPES = ("VAE",)
    FUNCTION = "run"
    CATEGORY = "tests"

    def run(self, vae):
        encode, vae = vae.encode, copy.copy(vae)
        vae.encode = lambda pixels: encode(pixels) * float("nan")
        return (vae,)


class NanClip:
    """A text encoder whose features are infinite."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"clip": ("CLIP",)}}

    RETURN_TYPES = ("CLIP",)
    FUNCTION = "run"
    CATEGORY = "tests"

    def run(self, clip):
        encode, clip = clip.encode_from_tokens_scheduled, copy.copy(clip)  # the host keeps the one that it gave
        clip.encode_from_tokens_scheduled = lambda tokens: [[encode(tokens)[0][0] / 0, {}]]
        return (clip,)


class NanText:
    """A conditioning whose text, or one of its tensors, holds a NaN."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"conditioning": ("CONDITIONING",), "entry": ("STRING", {"default": "text"})}}

    RETURN_TYPES = ("CONDITIONING",)
    FUNCTION = "run"
    CATEGORY = "tests"

    def run(self, conditioning, entry):
        ((text, entries),) = conditioning
        text, entries = text.clone(), {k: v.clone() if torch.is_tensor(v) else v for k, v in entries.items()}
        (text if entry == "text" else entries[entry]).view(-1)[5] = float("nan")
        return ([[text, entries]],)
