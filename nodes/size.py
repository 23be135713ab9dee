"""The size and length of the clip in a maker's words."""

from comfy_api.latest import io

from ..mova import MovaError
from ..mova.clip.size import PICTURE, frames_of, sizes, told
from ..mova.sampling.conditioning import check_fps, size_of_shape
from ..mova.shorten import short
from .host import notice
from .host.checks import check_images
from .inputs import fps_input

LONGEST = 600.0  # seconds
SIZES = sizes()


def seconds_fault(seconds: float) -> str | None:
    """What is wrong with a length, or None."""
    if 0 < seconds <= LONGEST:  # false for NaN too
        return None
    return f"The length is {short(seconds)} seconds; give more than 0, and {LONGEST:g} at most."


class MOVASize(io.ComfyNode):
    """Release and shape, seconds and frame rate -> width, height, length, fps."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MOVASize",
            display_name="MOVA Size",
            category="MOVA",
            description="Size, length and frame rate of the clip: a release and a shape, and seconds.",
            search_aliases=["mova resolution", "aspect ratio", "seconds", "video length", "upright video", "portrait"],
            inputs=[
                io.Combo.Input(
                    "size",
                    options=list(SIZES),
                    default=next(iter(SIZES)),
                    tooltip="As many pixels as the release was trained on. The picture's shape: nothing is cropped.",
                ),
                io.Float.Input(
                    "seconds",
                    default=4.0,
                    min=0.05,
                    max=LONGEST,
                    step=0.1,
                    tooltip="Length of the clip; it becomes the nearest 4 k + 1 frames. MOVA was trained on 8 seconds.",
                ),
                fps_input("Frames a second; MOVA was trained at 24."),
                io.Image.Input(
                    "picture", optional=True, tooltip="The first picture, if the clip is to have its shape."
                ),
            ],
            outputs=[
                io.Int.Output(display_name="width"),
                io.Int.Output(display_name="height"),
                io.Int.Output(display_name="length"),
                io.Float.Output(display_name="fps"),
            ],
        )

    @classmethod
    def execute(cls, size: str, seconds: float, fps: float, picture=None) -> io.NodeOutput:
        if fault := seconds_fault(seconds):
            raise MovaError(fault)
        check_fps(fps)
        release, found = SIZES[size]
        if found is None:
            if picture is None:
                raise MovaError(f"Connect a picture, or choose another size: {short(size)} is as {PICTURE}.")
            check_images(picture, "picture")
            found = size_of_shape(picture.shape[2], picture.shape[1], release.width * release.height)
        length = frames_of(seconds, fps)
        notice.show(told(*found, length, fps, release))
        return io.NodeOutput(*found, length, fps)
