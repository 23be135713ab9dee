"""A pack for the measured ComfyUI: random conditioning and an empty latent, as MOVA Conditioning makes them."""

import comfy.model_management
import comfy.nested_tensor
import torch


class Given:
    """Sizes of the latents, not of the pictures."""

    CATEGORY = "benchmarks"
    FUNCTION = "run"
    RETURN_TYPES = ("CONDITIONING", "CONDITIONING", "LATENT")

    @classmethod
    def INPUT_TYPES(cls):
        names = "frames", "height", "width", "audio_length", "text_dim"
        return {"required": {name: ("INT", {"max": 2**20}) for name in names}}

    def run(self, frames, height, width, audio_length, text_dim):
        given = {
            "concat_mask": torch.ones(1, 1, frames, height, width),
            "concat_latent_image": torch.randn(1, 16, frames, height, width),
            "frame_rate": 24.0,
        }
        text = [[torch.randn(1, 512, text_dim), given]]
        parts = [torch.zeros(1, 16, frames, height, width), torch.zeros(1, 128, audio_length)]
        return text, text, {"samples": comfy.nested_tensor.NestedTensor(parts)}


class Free:
    """Takes all models off the device. In a run, as the host itself does it: /free does it outside of one."""

    CATEGORY = "benchmarks"
    FUNCTION = "run"
    RETURN_TYPES = ()
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    @classmethod
    def IS_CHANGED(cls):
        return float("nan")

    def run(self):
        comfy.model_management.unload_all_models()
        comfy.model_management.soft_empty_cache()
        return {}


class End:
    """The run's end: nothing is written."""

    CATEGORY = "benchmarks"
    FUNCTION = "run"
    RETURN_TYPES = ()
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"latent": ("LATENT",)}}

    def run(self, latent):
        finite = all(bool(torch.isfinite(part).all()) for part in latent["samples"].unbind())
        return {"ui": {"finite": [finite]}}


NODE_CLASS_MAPPINGS = {"BenchmarkGiven": Given, "BenchmarkFree": Free, "BenchmarkEnd": End}
