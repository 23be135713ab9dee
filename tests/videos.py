"""Videos whose frames tell their numbers."""

from fractions import Fraction

import av
import numpy as np
import torch

from mova.clip.decoding import File
from mova.clip.media import write_clip

BITS = 8


def numbered(count, height=32, width=48):
    """Frames that have their number in them, in stripes of black and white."""
    bits = torch.arange(count)[:, None] >> torch.arange(BITS) & 1
    stripes = (255 * bits).to(torch.uint8).repeat_interleave(width // BITS, dim=1)
    return stripes[:, None, :, None].expand(-1, height, -1, 3)


def numbers(stretch):
    """Which frames these are."""
    stripes = stretch.frames.mean(dim=(1, 3)).unflatten(1, (BITS, -1)).mean(dim=2)
    return ((stripes > 0.5).int() << torch.arange(BITS)).sum(dim=1).tolist()


def write(path, count, fps=24.0, waveform=None, rate=48000, size=(32, 48)):
    write_clip(path, numbered(count, *size).contiguous(), fps, waveform, rate)
    return File(path)


def write_timed(path, times, lasts=40, form="matroska", offset=0, keys=5):
    """A video whose frame i is shown at times[i], in milliseconds."""
    with av.open(path, "w", format=form) as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "10", "g": str(keys)})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for pixels, time in zip(numbered(len(times)).numpy(), times, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base, frame.duration = time + offset, Fraction(1, 1000), lasts
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return File(path)
