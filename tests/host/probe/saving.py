"""Results written where a test reads them."""

import sys

import torch

from .parts import Fresh, saved


class Save(Fresh):
    """Write a latent to the output folder, and say where."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"latent": ("LATENT",), "name": ("STRING", {})}}

    RETURN_TYPES = ()
    OUTPUT_NODE = True

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


class SaveConditioning(Fresh):
    """The tensors of a conditioning, and its other entries as text."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"conditioning": ("CONDITIONING",), "name": ("STRING", {})}}

    RETURN_TYPES = ()
    OUTPUT_NODE = True

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

    def run(self, audio, name):
        rate = torch.tensor(audio["sample_rate"])
        return {"ui": {"tensors": [saved({"waveform": audio["waveform"], "sample_rate": rate}, name)]}}


class Sigmas(Fresh):
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"sigmas": ("SIGMAS",), "name": ("STRING", {})}}

    RETURN_TYPES = ()
    OUTPUT_NODE = True

    def run(self, sigmas, name):
        return {"ui": {"tensors": [saved({"sigmas": sigmas}, name)]}}


class Resample(Fresh):
    """All of a sound at 48 kHz."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"audio": ("AUDIO",)}}

    RETURN_TYPES = ("AUDIO",)

    def run(self, audio):
        (module,) = (module for name, module in sys.modules.items() if name.endswith(".mova.clip.resample"))
        waveform = module.resample(audio["waveform"], audio["sample_rate"], 48000)
        return ({"waveform": waveform, "sample_rate": 48000},)
