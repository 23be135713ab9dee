"""The clip: frames and sound as the host's VIDEO."""

import torch
from comfy_api.latest import InputImpl, Types, io
from torch import Tensor

from ..mova.clip.media import fit_audio, frame_rate
from ..mova.sampling.conditioning import check_fps
from .host.checks import check_audio, check_images, size_fault
from .inputs import fps_input


def fit_clips(waveform: Tensor, frames: int, fps: float, sample_rate: int) -> Tensor:
    """Sounds [B, channels, N] of B clips that follow each other in the frames, as one of their length [1, channels, N].

    If the frames cannot be as many clips, the first sound is for all frames, as in the host's nodes.
    """
    if frames % len(waveform):
        waveform = waveform[:1]
    clips = fit_audio(waveform, frames // len(waveform), fps, sample_rate)
    # Fitted once more, so that roundings of the clips do not add up.
    return fit_audio(torch.cat(tuple(clips), dim=-1)[None], frames, fps, sample_rate)


class MOVACombineVideo(io.ComfyNode):
    """Frames and sound of the same length."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MOVACombineVideo",
            display_name="MOVA Combine Video",
            category="MOVA",
            description="Frames and sound as a video; the sound is cut or padded to the exact length of the frames.",
            search_aliases=["create video with audio", "mux"],
            inputs=[
                io.Image.Input("images", tooltip="Frames, from VAE Decode."),
                fps_input("Frames a second, as in MOVA Conditioning: 24."),
                io.Audio.Input("audio", optional=True, tooltip="Without it the video is silent."),
            ],
            outputs=[io.Video.Output()],
        )

    @classmethod
    def validate_inputs(cls, fps=None) -> bool | str:
        """Before anything runs; what comes from another node is checked in execute."""
        return size_fault(fps=fps) or True

    @classmethod
    def execute(cls, images, fps: float, audio=None) -> io.NodeOutput:
        check_fps(fps)
        check_images(images, "images")
        rate = frame_rate(fps)
        if audio is not None:
            check_audio(audio)
            waveform, sample_rate = audio["waveform"], audio["sample_rate"]
            fitted = fit_clips(waveform, len(images), float(rate), sample_rate)
            audio = {"waveform": fitted, "sample_rate": sample_rate}
        components = Types.VideoComponents(images=images, audio=audio, frame_rate=rate)
        return io.NodeOutput(InputImpl.VideoFromComponents(components))
