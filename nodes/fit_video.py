"""A video that the user has, as frames and sound that MOVA takes."""

from comfy_api.latest import io

from ..mova.clip.stretch import LARGEST, Wanted, take
from ..mova.model.presets import DEFAULT
from .host import notice
from .host.given_video import looked_at, source_of
from .inputs import length_input


class MOVAFitVideo(io.ComfyNode):
    """A stretch of any video: only what is used is decoded, at the size it is used in."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        def side(name: str, default: int) -> io.Int.Input:
            tooltip = "Pixels; cropped from the centre. 0: by the video's shape; both 0: its own size."
            return io.Int.Input(name, default=default, min=0, max=LARGEST, step=16, tooltip=tooltip)

        return io.Schema(
            node_id="MOVAFitVideo",
            display_name="MOVA Fit Video",
            category="MOVA",
            description="A stretch of a video as frames and sound that MOVA takes, whatever its length, rate and size. "
            "Only what is used is decoded.",
            search_aliases=["load video frames", "trim video", "resize video", "foley", "dub"],
            inputs=[
                io.Video.Input("video", tooltip="From Load Video, also trimmed."),
                io.Float.Input(
                    "start", default=0.0, min=0.0, max=1e6, step=0.01, tooltip="Seconds left out before it."
                ),
                length_input("Frames at most; of a shorter video there are as many as it gives, 4 k + 1."),
                side("width", DEFAULT.width),
                side("height", DEFAULT.height),
                io.Float.Input(
                    "fps",
                    default=0.0,
                    min=0.0,
                    max=120.0,
                    step=0.01,
                    optional=True,
                    tooltip="Frames a second; 0: the video's own. MOVA was trained at 24.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="images"),
                io.Audio.Output(display_name="audio"),
                io.Int.Output(display_name="length"),
                io.Float.Output(display_name="fps"),
                io.Int.Output(display_name="width"),
                io.Int.Output(display_name="height"),
                io.Float.Output(display_name="start"),
            ],
        )

    @classmethod
    def execute(cls, video, start: float, length: int, width: int, height: int, fps: float = 0.0) -> io.NodeOutput:
        Wanted(start, length, width, height, fps).check()
        source, window = source_of(video, start, length, fps)
        stretch = take(source, Wanted(start, length, width, height, fps, window), looked_at)
        notice.show("\n".join(stretch.notices))
        count, height, width = stretch.frames.shape[:3]
        audio = {"waveform": stretch.waveform[None], "sample_rate": stretch.sample_rate}
        return io.NodeOutput(stretch.frames, audio, count, stretch.fps, width, height, start)
