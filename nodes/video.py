"""The clip: frames and sound as the host's VIDEO."""

from comfy_api.latest import InputImpl, Types, io

from ..mova import MovaError
from ..mova.conditioning import check_fps
from ..mova.media import fit_audio, frame_rate


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
                io.Image.Input("images"),
                io.Float.Input("fps", default=24.0, min=1.0, max=120.0, step=0.01),
                io.Audio.Input("audio", optional=True),
            ],
            outputs=[io.Video.Output()],
        )

    @classmethod
    def execute(cls, images, fps: float, audio=None) -> io.NodeOutput:
        check_fps(fps)
        rate = frame_rate(fps)
        if audio is not None:
            waveform, sample_rate = audio["waveform"], audio["sample_rate"]
            if waveform.ndim != 3 or not waveform.shape[0]:
                raise MovaError(f"The audio has the shape {[*waveform.shape]}, not [batch, channels, samples].")
            fitted = fit_audio(waveform[:1], len(images), float(rate), sample_rate)  # as the host's nodes: the first
            audio = {"waveform": fitted, "sample_rate": sample_rate}
        components = Types.VideoComponents(images=images, audio=audio, frame_rate=rate)
        return io.NodeOutput(InputImpl.VideoFromComponents(components))
