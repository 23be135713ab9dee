"""From text, pictures and the clip's size to what the sampler needs."""

import comfy.model_management
import node_helpers
import torch
from comfy_api.latest import io
from PIL import Image
from torch import Tensor

from ..mova import MovaError
from ..mova.model.presets import DEFAULT
from ..mova.sampling.conditioning import (
    SPATIAL_STRIDE,
    TEXT_ONLY_FRAMES,
    audio_latents,
    crop_notice,
    image_condition,
    latent_frames,
)
from ..mova.shorten import short
from .host import finite, notice
from .host.checks import check_clip_size, check_images, check_video_vae, size_fault, video_vae_notice
from .host.nested import AUDIO_CHANNELS, VIDEO_CHANNELS, AudioVideoLatent
from .inputs import fps_input, length_input, side_input

WHITE = (
    "No picture: a white first frame stands in. If the clip stays one flat colour, set text_only_frame to none, or "
    "give a picture."
)


def to_picture(images: Tensor) -> Image.Image:
    """The first of the host's IMAGE [B, H, W, C] in 0..1 as a picture."""
    pixels = (images[0, :, :, :3].clamp(0, 1) * 255).round().to("cpu", torch.uint8)
    return Image.fromarray(pixels.contiguous().numpy())


class MOVAConditioning(io.ComfyNode):
    """The clip's size, pictures and frame rate, written into the conditioning, and an empty latent."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MOVAConditioning",
            display_name="MOVA Conditioning",
            category="MOVA",
            description="Size, length, frame rate and pictures of the clip; also an empty audio-video latent for it.",
            search_aliases=[
                "mova image to video",
                "mova empty latent",
                "first frame",
                "last frame",
                "video with sound",
            ],
            inputs=[
                io.Conditioning.Input("positive", tooltip="From MOVA Text Encode or MOVA Load Conditioning."),
                io.Conditioning.Input("negative", tooltip="From MOVA Text Encode or MOVA Load Conditioning."),
                io.Vae.Input("vae", tooltip="The Wan 2.1 VAE."),
                side_input("width", DEFAULT.width, "Pixels, a multiple of 16: 640 for MOVA-360p, 1280 for MOVA-720p."),
                side_input("height", DEFAULT.height, "Pixels, a multiple of 16: 352 for MOVA-360p, 720 for MOVA-720p."),
                length_input("Frames, 4 k + 1: 193 are 8 seconds at 24 a second."),
                fps_input("Frames a second; trained at 24. Use the same in MOVA Combine Video."),
                io.Int.Input(
                    "batch_size",
                    default=1,
                    min=1,
                    max=64,
                    tooltip="Clips made at once; memory grows with each.",
                    advanced=True,
                ),
                io.Image.Input("start_image", optional=True, tooltip="The first frame; cropped to the clip's aspect."),
                io.Image.Input("end_image", optional=True, tooltip="The last frame; cropped to the clip's aspect."),
                io.Combo.Input(
                    "text_only_frame",
                    options=list(TEXT_ONLY_FRAMES),
                    default=TEXT_ONLY_FRAMES[0],
                    optional=True,
                    tooltip="Without pictures: a white first frame (MOVA's convention), or no frame given.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(display_name="positive"),
                io.Conditioning.Output(display_name="negative"),
                io.Latent.Output(display_name="latent"),
            ],
        )

    @classmethod
    def validate_inputs(cls, width=None, height=None, length=None, fps=None) -> bool | str:
        """Before anything runs; what comes from other nodes is checked in execute."""
        return size_fault(width, height, length, fps) or True

    @classmethod
    def execute(
        cls,
        positive,
        negative,
        vae,
        width: int,
        height: int,
        length: int,
        fps: float,
        batch_size: int,
        start_image=None,
        end_image=None,
        text_only_frame: str = TEXT_ONLY_FRAMES[0],
    ):
        check_clip_size(width, height, length, fps)
        if batch_size < 1:
            raise MovaError(f"batch_size is {short(batch_size)}; it must be 1 or more.")
        check_video_vae(vae)
        notices = [told] if (told := video_vae_notice(vae)) else []
        for images, slot, what in ((start_image, "start_image", "first"), (end_image, "end_image", "last")):
            if images is None:
                continue
            check_images(images, slot)
            finite.check(images[:1], f"The picture in {slot}", "look at the node that made it")
            if text := crop_notice(images.shape[2], images.shape[1], what, width, height):
                notices.append(text)
            if len(images) > 1:
                notices.append(f"Of the {len(images)} pictures in {slot} only the first is used.")
        if start_image is None and end_image is None and text_only_frame == TEXT_ONLY_FRAMES[0]:
            notices.append(WHITE)
        if notices:
            notice.show("\n".join(notices))
        first, last = (None if images is None else to_picture(images) for images in (start_image, end_image))

        def encode(clip: Tensor) -> Tensor:
            """[1, 3, F, H, W] in -1..1 -> latents in the VAE's own scale."""
            return vae.encode(clip[0].permute(1, 2, 3, 0) / 2 + 0.5)

        condition = image_condition(encode, width, height, length, first, last, text_only_frame)
        remedy = "it may overflow in fp16: start ComfyUI with --bf16-vae or --fp32-vae, or load its file again"
        finite.check(condition, "What the VAE in vae made of the pictures", remedy)
        # Wan's entries, in Wan's sense: a mask of 1 where nothing is given.
        entries = {"concat_mask": 1 - condition[:, :4], "concat_latent_image": condition[:, 4:], "frame_rate": fps}
        device = comfy.model_management.intermediate_device()
        grid = latent_frames(length), height // SPATIAL_STRIDE, width // SPATIAL_STRIDE
        video = torch.zeros(batch_size, VIDEO_CHANNELS, *grid, device=device)
        audio = torch.zeros(batch_size, AUDIO_CHANNELS, audio_latents(length, fps), device=device)
        conds = [node_helpers.conditioning_set_values(cond, entries) for cond in (positive, negative)]
        return io.NodeOutput(*conds, {"samples": AudioVideoLatent([video, audio])})
