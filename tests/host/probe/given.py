"""Given inputs: latents, conditioning, noise, pictures and sounds from files, and what holds nothing."""

import node_helpers
import torch

from .parts import Fresh, NestedTensor, Node, conditioning, tensors


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

    def run(self, file):
        given = tensors(file)
        video, audio = given["video"], given["audio"]
        noise, condition = video[:, :16], video[:, 16:]
        texts = [conditioning(given[name], condition) for name in ("text", "negative_text")]
        if "audio_text" in given:
            texts[0][0][1]["mova_audio_text"] = given["audio_text"]
        latent = {"samples": NestedTensor([torch.zeros_like(noise), torch.zeros_like(audio)])}
        return *texts, latent, GivenNoise(noise, audio)


class Cached(Given):
    """The same, and not run again while the file has this name."""

    @classmethod
    def IS_CHANGED(cls, **_):
        return 0


class GivenLatent(Fresh):
    """An audio-video latent (tensors video, audio, and video_mask, audio_mask if there) from a file."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"file": ("STRING", {})}}

    RETURN_TYPES = ("LATENT",)

    def run(self, file):
        given = tensors(file)
        latent = {
            "samples": NestedTensor([given[n] for n in ("video", "audio")]) if "audio" in given else given["video"]
        }
        if "video_mask" in given:
            latent["noise_mask"] = NestedTensor([given["video_mask"], given["audio_mask"]])
        return (latent,)


class Text(Node):
    """Text features of any width."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"width": ("INT", {"default": 4096})}}

    RETURN_TYPES = ("CONDITIONING",)

    def run(self, width):
        return ([[torch.zeros(1, 20, width), {}]],)


class FrameRate(Node):
    """A conditioning with a frame rate, as MOVA Conditioning writes it."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"conditioning": ("CONDITIONING",), "fps": ("FLOAT", {"default": 24.0})}}

    RETURN_TYPES = ("CONDITIONING",)

    def run(self, conditioning, fps):
        return (node_helpers.conditioning_set_values(conditioning, {"frame_rate": fps}),)


class Nothing(Node):
    """What a node gives that has nothing to give: a checkpoint without a text encoder, a video without sound."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    RETURN_TYPES = ("MODEL", "CLIP", "VAE", "AUDIO")

    def run(self):
        return (None,) * 4


class Images(Fresh):
    """IMAGE or AUDIO from a file."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"file": ("STRING", {}), "sample_rate": ("INT", {"default": 48000})}}

    RETURN_TYPES = ("IMAGE", "AUDIO")

    def run(self, file, sample_rate):
        given = tensors(file)
        return given.get("images"), {"waveform": given.get("waveform"), "sample_rate": sample_rate}
