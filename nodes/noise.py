"""Noise for one half of an audio-video latent."""

from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from .host.checks import unbound
from .host.nested import AudioVideoLatent


class VideoNoise:
    """As a NOISE of the host's, with zeros for the audio."""

    def __init__(self, noise: Any) -> None:
        self.noise, self.seed = noise, noise.seed

    def generate_noise(self, latent: dict[str, Any]) -> Tensor | AudioVideoLatent:
        made = self.noise.generate_noise(latent)
        if not getattr(made, "is_nested", False):
            return made  # of a latent of one part, which the sampler refuses
        video, *others = unbound(made)
        return AudioVideoLatent([video, *(torch.zeros_like(part) for part in others)])


class MOVAVideoNoise(io.ComfyNode):
    """Noise for the video alone."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MOVAVideoNoise",
            display_name="MOVA Video Noise",
            category="MOVA",
            description="Noise for the video alone: in a second stage the picture is begun anew in another size, and "
            "the sound goes on from where the first stage left it.",
            search_aliases=["two stages", "hires fix", "upscale", "second pass", "renoise"],
            inputs=[io.Noise.Input("noise", tooltip="From RandomNoise.")],
            outputs=[io.Noise.Output()],
        )

    @classmethod
    def execute(cls, noise) -> io.NodeOutput:
        return io.NodeOutput(VideoNoise(noise))
