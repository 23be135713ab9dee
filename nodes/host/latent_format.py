"""What a MOVA latent is on the host: the Wan VAE's video latents and the audio VAE's, packed into one tensor.

Between nodes, video latents are as the Wan VAE gives them, so that the host's own VAE nodes show them in the right
colours. The model sees them normalised by Wan's channel statistics. The host asks for that change when it has already
packed video and audio to [B, 1, N], so the format remembers the video's grid, which the model tells it at the start of
each sampling (MOVA.extra_conds_shapes).
"""

import comfy.latent_formats
import torch
from comfy.nested_tensor import NestedTensor
from torch import Tensor

from ...mova import MovaError
from .nested import AUDIO_CHANNELS, VIDEO_CHANNELS, AudioVideoLatent


class MovaLatents(comfy.latent_formats.Wan21):
    """Wan's latent format, applied to the video part only."""

    def __init__(self) -> None:
        super().__init__()
        self.latent_channels = AUDIO_CHANNELS  # EasyCache cuts both modalities down to so many channels
        self.grid: tuple[int, int, int] | None = None  # latent frames, height, width of the video being sampled
        self.latent_rgb_factors_reshape = self.frames_of
        self.taesd_decoder_name = None  # the host would feed it the packed latent

    def process_in(self, latent: Tensor | NestedTensor) -> Tensor | NestedTensor:
        """From the VAE's scale to the model's; an all-zero video is an empty one and stays so."""
        return self.change_video(
            latent, lambda video: super(MovaLatents, self).process_in(video) if video.any() else video
        )

    def process_out(self, latent: Tensor | NestedTensor) -> Tensor | NestedTensor:
        """From the model's scale to the VAE's."""
        return self.change_video(latent, super().process_out)

    def change_video(self, latent: Tensor | NestedTensor, change) -> Tensor | NestedTensor:
        """The latent with change(video [B, 16, T, H, W]) in place of its video, whichever form it has."""
        if getattr(latent, "is_nested", False):
            video, *others = latent.unbind()
            return AudioVideoLatent([change(video), *others])
        if latent.ndim == 5:
            return change(latent)
        video = self.video_of(latent)
        return torch.cat([change(video).flatten(1)[:, None], latent[:, :, video[0].numel() :]], dim=2)

    def frames_of(self, latent: Tensor | NestedTensor) -> Tensor:
        """What previewers make pictures of, in the form that each knows: of a packed latent the frames of the first
        clip [T, 16, H, W]; a video [B, 16, T, H, W], and frames of one, as they are."""
        if not getattr(latent, "is_nested", False) and latent.ndim == 3:
            return self.video_of(latent)[0].movedim(1, 0)
        return latent if latent.ndim == 4 else self.video_of(latent)

    def video_of(self, packed: Tensor | NestedTensor) -> Tensor:
        """The video [B, 16, T, H, W] in a nested latent, or one packed to [B, 1, N]."""
        if getattr(packed, "is_nested", False):
            return packed.unbind()[0]
        if packed.ndim == 5:
            return packed
        if packed.ndim != 3 or packed.shape[1] != 1:
            raise MovaError(
                f"MOVA samples audio-video latents, not one of shape {[*packed.shape]}; "
                "take the latent of MOVA Conditioning, or put video and audio together with MOVA Combine Latent."
            )
        if self.grid is None:
            raise MovaError(
                "The conditioning does not say how large the clip is; put MOVA Conditioning between the text and the "
                "sampler."
            )
        t, h, w = self.grid
        size = VIDEO_CHANNELS * t * h * w
        if packed.shape[2] <= size:
            raise MovaError(
                f"The conditioning is for a clip of {t} latent frames of {h} x {w}, but the latent is smaller; give "
                "both the same width, height and length."
            )
        return packed[:, 0, :size].unflatten(1, (VIDEO_CHANNELS, t, h, w))
