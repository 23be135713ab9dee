"""Audio-video latents: apart, and together."""

import torch
from comfy_api.latest import io

from ..mova import MovaError
from .host import finite
from .host.checks import check_batches, latent_parts, mask_for
from .host.nested import AudioVideoLatent, from_file


class MOVASeparateLatent(io.ComfyNode):
    """Split an audio-video latent."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MOVASeparateLatent",
            display_name="MOVA Separate Latent",
            category="MOVA",
            description="The video and the audio of an audio-video latent, for VAE Decode and MOVA Audio Decode.",
            search_aliases=["split audio video latent"],
            inputs=[io.Latent.Input("latent", tooltip="The audio-video latent of a MOVA sampler.")],
            outputs=[io.Latent.Output(display_name="video"), io.Latent.Output(display_name="audio")],
        )

    @classmethod
    def execute(cls, latent) -> io.NodeOutput:
        latent = {**latent, "samples": from_file(latent["samples"])}
        others = {key: value for key, value in latent.items() if key != "noise_mask"}
        finite.check_latent(latent_parts(latent), "to be separated")
        video, audio = ({**others, "samples": part} for part in latent_parts(latent))
        mask = latent.get("noise_mask")
        if getattr(mask, "is_nested", False):
            video["noise_mask"], audio["noise_mask"] = mask.unbind()
        elif mask is not None:  # as on the host, a mask that is not nested is the video's
            video["noise_mask"] = mask
        return io.NodeOutput(video, audio)


class MOVACombineLatent(io.ComfyNode):
    """Put a video latent and an audio latent together."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        keep_tip = "Keep the given {} as it is (a noise mask of 0), and make the other for it."
        return io.Schema(
            node_id="MOVACombineLatent",
            display_name="MOVA Combine Latent",
            category="MOVA",
            description="One audio-video latent. Keep one of the two to make sound for a video, or video for a sound.",
            search_aliases=["join audio video latent", "foley", "dub", "lip sync", "video to audio", "audio to video"],
            inputs=[
                io.Latent.Input("video", tooltip="A video latent, or the video of an audio-video latent."),
                io.Latent.Input("audio", tooltip="An audio latent, or the audio of an audio-video latent."),
                io.Boolean.Input("keep_video", default=False, optional=True, tooltip=keep_tip.format("video")),
                io.Boolean.Input("keep_audio", default=False, optional=True, tooltip=keep_tip.format("audio")),
            ],
            outputs=[io.Latent.Output(display_name="latent")],
        )

    @classmethod
    def execute(cls, video, audio, keep_video: bool = False, keep_audio: bool = False) -> io.NodeOutput:
        # From an audio-video latent each slot takes its own part.
        video, audio = part_of(video, 0), part_of(audio, 1)
        parts = [video["samples"], audio["samples"]]
        if any(part.ndim == 3 and part.shape[1] == 1 for part in parts):  # which from_file did not know
            raise MovaError(
                "A packed latent was changed, so that its video and audio cannot be told apart; open it with MOVA "
                "Combine Latent first, and change what that gives."
            )
        if parts[0].ndim != 5 or parts[1].ndim != 3:
            raise MovaError(
                f"MOVA Combine Latent needs a video latent [B, 16, T, H, W] and an audio latent [B, 128, L], not "
                f"{[*parts[0].shape]} and {[*parts[1].shape]}; are the two swapped?"
            )
        check_batches([part.shape for part in parts])
        finite.check_latent(parts, "to be combined")
        made = {**audio, **video, "samples": AudioVideoLatent(parts)}
        made.pop("type", None)  # "audio", which it no longer is
        masks = []
        for latent, keep, modality in ((video, keep_video, "video"), (audio, keep_audio, "audio")):
            shape, mask = latent["samples"].shape, latent.get("noise_mask")
            if keep or mask is None:
                masks.append(torch.full((1, 1, *shape[2:]), 0.0 if keep else 1.0))
            else:
                masks.append(mask_for(mask, shape, modality))
        made.pop("noise_mask", None)
        if keep_video or keep_audio or "noise_mask" in video or "noise_mask" in audio:
            made["noise_mask"] = AudioVideoLatent(masks)
        return io.NodeOutput(made)


def part_of(latent: dict, index: int) -> dict:
    """The video (0) or audio (1) of a latent that may already hold just that."""
    made = {**latent, "samples": from_file(latent["samples"])}
    for key in ("samples", "noise_mask"):
        if getattr(made.get(key), "is_nested", False):
            parts = made[key].unbind()
            if len(parts) <= index:
                raise MovaError("The latent in audio has one part alone, which is its video; connect an audio latent.")
            made[key] = parts[index]
    return made
