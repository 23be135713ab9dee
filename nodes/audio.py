"""Sound: from AUDIO to latents and back."""

from pathlib import Path

import folder_paths
import torch
from comfy_api.latest import io

from ..mova import MovaError
from ..mova.clip.fit import check_sound
from ..mova.clip.resample import needed, resample
from ..mova.sampling.conditioning import audio_samples
from . import released
from .host import finite
from .host.checks import audio_of, check_audio, check_audio_vae, check_clip_size, size_fault
from .inputs import file_fault, fps_input, length_input


def audio_vaes() -> list[str]:
    """Files, and the audio_vae of each release."""
    return [*folder_paths.get_filename_list("vae"), *released.parts("audio_vae")]


class MOVAAudioVAELoader(io.ComfyNode):
    """Load MOVA's audio VAE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MOVAAudioVAELoader",
            display_name="MOVA Audio VAE Loader",
            category="MOVA",
            description="MOVA's audio VAE, from models/vae or from a released MOVA folder in models/diffusion_models.",
            search_aliases=["load mova audio vae", "dac"],
            inputs=[io.Combo.Input("vae_name", options=audio_vaes(), tooltip="A file, or the audio_vae of a release.")],
            outputs=[io.Vae.Output(display_name="audio_vae")],
        )

    @classmethod
    def validate_inputs(cls, vae_name: str | None = None) -> bool | str:
        """Before anything runs; a name from another node (None) is checked in execute."""
        return vae_name is None or file_fault("vae_name", vae_name, audio_vaes()) or True

    @classmethod
    def execute(cls, vae_name: str) -> io.NodeOutput:
        from .host.audio_vae import load

        if fault := file_fault("vae_name", vae_name, audio_vaes()):
            raise MovaError(fault)

        if vae_name in released.parts("audio_vae"):
            return io.NodeOutput(load(released.path(vae_name)))
        return io.NodeOutput(load(Path(folder_paths.get_full_path_or_raise("vae", vae_name))))


class MOVAAudioDecode(io.ComfyNode):
    """Latents to sound."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MOVAAudioDecode",
            display_name="MOVA Audio Decode",
            category="MOVA",
            description="The sound of an audio latent, or of the audio in an audio-video latent.",
            search_aliases=["latent to audio", "sound"],
            inputs=[
                io.Latent.Input("samples", tooltip="Audio or audio-video."),
                io.Vae.Input("audio_vae", tooltip="From MOVA Audio VAE Loader."),
            ],
            outputs=[io.Audio.Output()],
        )

    @classmethod
    def execute(cls, samples, audio_vae) -> io.NodeOutput:
        check_audio_vae(audio_vae)
        latent = audio_of(samples["samples"], audio_vae.latent_channels)
        waveform = audio_vae.decode(latent).movedim(-1, 1)
        finite.check(waveform, "The sound that the audio VAE made", "load its file again, or download it again")
        return io.NodeOutput({"waveform": waveform, "sample_rate": audio_vae.audio_sample_rate})


class MOVAAudioEncode(io.ComfyNode):
    """Sound to latents of a clip's length."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MOVAAudioEncode",
            display_name="MOVA Audio Encode",
            category="MOVA",
            description="Sound as an audio latent, resampled, mixed to mono, and cut or padded to the clip's length.",
            search_aliases=["audio to latent", "lip sync", "talking", "video for a sound"],
            inputs=[
                io.Audio.Input("audio", tooltip="Any sound; to begin later in it, use Trim Audio Duration before."),
                io.Vae.Input("audio_vae", tooltip="From MOVA Audio VAE Loader."),
                length_input("Frames of the clip, as in MOVA Conditioning."),
                fps_input("Frames a second, as in MOVA Conditioning: 24."),
            ],
            outputs=[io.Latent.Output()],
        )

    @classmethod
    def validate_inputs(cls, length=None, fps=None) -> bool | str:
        """Before anything runs; what comes from other nodes is checked in execute."""
        return size_fault(length=length, fps=fps) or True

    @classmethod
    def execute(cls, audio, audio_vae, length: int, fps: float) -> io.NodeOutput:
        check_clip_size(length=length, fps=fps)
        check_audio_vae(audio_vae)
        check_audio(audio)
        rate = audio_vae.audio_sample_rate
        # Cut before the work, for it may be an hour of music.
        waveform = audio["waveform"][..., : needed(length / fps, audio["sample_rate"], rate)]
        check_sound(waveform, audio["sample_rate"])
        waveform = waveform.float().mean(dim=1, keepdim=True)
        waveform = resample(waveform, audio["sample_rate"], rate)
        samples, hop = audio_samples(length, fps, rate), audio_vae.downscale_ratio
        waveform = torch.nn.functional.pad(waveform, (0, samples - waveform.shape[-1]))  # a negative padding cuts
        waveform = torch.nn.functional.pad(waveform, (0, -samples % hop))  # a VAE of the host's own would cut instead
        return io.NodeOutput({"samples": audio_vae.encode(waveform.movedim(1, -1)), "type": "audio"})
