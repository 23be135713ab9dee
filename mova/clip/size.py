"""The size and length of a clip from what a video maker says: a release, a shape, seconds."""

from ..model.presets import DEFAULT, PRESETS, PRISM, Preset
from ..sampling.conditioning import TEMPORAL_STRIDE, size_of_shape

PICTURE = "the picture's shape"


def shapes(release: Preset) -> dict[str, tuple[int, int] | None]:
    """Sizes of a release by the names of their shapes: as many pixels as it was trained on; None: a picture's."""
    pixels = release.width * release.height
    return {
        "wide": (release.width, release.height),
        "upright": (release.height, release.width),
        "square": size_of_shape(1, 1, pixels),
        PICTURE: None,
    }


def sizes() -> dict[str, tuple[Preset, tuple[int, int] | None]]:
    """All that can be chosen, as it is shown: "MOVA-360p wide, 640 x 352"."""
    found: dict[str, tuple[Preset, tuple[int, int] | None]] = {}
    for name, release in {**PRESETS, **PRISM}.items():
        for shape, size in shapes(release).items():
            found[f"{name} {shape}" + (f", {size[0]} x {size[1]}" if size else "")] = release, size
    return found


def frames_of(seconds: float, fps: float) -> int:
    """The number of frames 4 k + 1 that comes nearest to a length."""
    return max(0, round((seconds * fps - 1) / TEMPORAL_STRIDE)) * TEMPORAL_STRIDE + 1


def told(width: int, height: int, frames: int, fps: float, release: Preset) -> str:
    """The clip in a line, and what it means if it is longer than the release was trained on."""
    line = f"{width} x {height}, {frames} frames: {frames / fps:.2f} seconds at {fps:g} a second"
    longest = (release.longest or release.frames) / release.fps
    if frames / fps > longest + 0.5:
        line += f"; trained on {longest:.0f} seconds, longer clips may fall apart"
    if release.shift != DEFAULT.shift:
        line += f"; set video_shift {release.shift:g} and audio_shift {release.audio_shift:g} on the sampler"
    return line
