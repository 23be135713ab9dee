"""The clip: frames and sound as the host's VIDEO."""

from comfy_api.latest import InputImpl, Types, io

from ..mova.clip.fit import fit
from ..mova.clip.media import frame_rate
from ..mova.sampling.conditioning import check_fps
from .host import notice
from .host.checks import check_audio, check_images, size_fault
from .inputs import fps_input


class MOVACombineVideo(io.ComfyNode):
    """Frames and sound of the same length."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MOVACombineVideo",
            display_name="MOVA Combine Video",
            category="MOVA",
            description="Frames and sound as a video, made to fit what MP4 can hold. The sound is cut or padded to the "
            "exact length of the frames.",
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
        sound = (None, 0) if audio is None else (audio["waveform"], audio["sample_rate"])
        fitted = fit(images, *sound, rate)
        if fitted.notices:
            notice.show("\n".join(fitted.notices))
        if audio is not None:
            audio = {"waveform": fitted.waveform, "sample_rate": fitted.sample_rate}
        components = Types.VideoComponents(images=fitted.frames, audio=audio, frame_rate=rate)
        return io.NodeOutput(InputImpl.VideoFromComponents(components))
