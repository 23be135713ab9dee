"""Sound at another sample rate, by whichever resampler is at hand: ComfyUI brought torchaudio along up to v0.36."""

import math
from collections.abc import Callable
from fractions import Fraction

import torch
from torch import Tensor

Resample = Callable[[Tensor, int, int], Tensor]

# Both sinc resamplers make a filter for each of their output phases, 44100 to 48000 Hz 160 of 147 taps and a few more.
# 44057 to 48000 would be 48000 of 44057: 17 GB. ffmpeg makes no more than 1024 and reads the others off between them.
LARGEST_BANK = 1 << 20  # phases times taps


def resample(waveform: Tensor, old: int, new: int) -> Tensor:
    """[B, C, N] float at `old` samples a second -> [B, C, ceil(N * new / old)] at `new`."""
    old, new = int(old), int(new)  # other packs count in floats
    if old == new:
        return waveform
    divisor = math.gcd(old, new)
    bank = (old // divisor) * (new // divisor)
    way = ffmpeg if bank > LARGEST_BANK else torchaudios() or the_host_s() or ffmpeg
    return way(waveform, old, new)


def torchaudios() -> Resample | None:
    """torchaudio's, if it is there and fits this torch."""
    try:
        from torchaudio.functional import resample
    except (ImportError, OSError, RuntimeError):  # the latter two: its compiled parts are for another torch
        return None
    return resample


def the_host_s() -> Resample | None:
    """The same windowed sinc, which ComfyUI has itself since it does without torchaudio."""
    try:
        from comfy.audio import resample
    except ImportError:
        return None
    return resample


def ffmpeg(waveform: Tensor, old: int, new: int) -> Tensor:
    """PyAV's, which ComfyUI needs in any version. Its passband ends a little lower: 0.97 of the half rate, not 0.99."""
    length = math.ceil(waveform.shape[-1] * new / old)
    rows = [one_channel(row, old, new, length) for row in waveform.float().flatten(0, -2)]
    return torch.stack(rows).view(*waveform.shape[:-1], length).to(waveform)


def one_channel(samples: Tensor, old: int, new: int, length: int) -> Tensor:
    """[N] -> [length]."""
    import av  # not at the start of ComfyUI, for which it is a long import

    # A second of silence (a whole number of samples at any rate) on both sides, as the others take it to be there:
    # ffmpeg would mirror what is at the ends, and give nothing at all of a handful of samples.
    padded = torch.nn.functional.pad(samples, (old, old))
    frame = av.AudioFrame.from_ndarray(padded[None].cpu().numpy(), format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = old, 0, Fraction(1, old)
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=new)
    made = [part.to_ndarray()[0] for given in (frame, None) for part in resampler.resample(given)]
    return torch.cat([torch.from_numpy(part) for part in made])[new : new + length]
