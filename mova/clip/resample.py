"""Sound at another sample rate: band-limited interpolation with a windowed sinc, at any two rates, in little memory.

After J. O. Smith, "Digital Audio Resampling": the filter is kept as a table of phases, between which it is read off
linearly. Rates need no common divisor, and nothing is as large as the sound but the sound that comes out.
"""

import math

import torch
from torch import Tensor

ZEROS = 48  # crossings of the sinc on each side
BETA = 9.0  # of the Kaiser window
ROLLOFF = 0.95  # of the lower of the two half rates: where the filter is at a half
PHASES = 1024  # of the table; read off linearly, between two of them it is wrong by (pi / PHASES)^2 / 24, 4e-7
BLOCK = 1 << 20  # numbers at work at once: 4 MB, and a few times that


def resample(waveform: Tensor, old: float, new: float) -> Tensor:
    """[..., N] at `old` samples a second -> float32 [..., ceil(N * new / old)] at `new`; silence is before and after.

    Up to 0.89 of the lower half rate it is what the exact sinc gives, but for 4e-5 of a sine's height; what lies above
    is damped, at the half rate by 54 dB, from 1.02 of it on by 88. Parts of a sample a second are dropped.
    """
    old, new = int(old), int(new)
    if old == new:
        return waveform.float()
    table = filter_table(ROLLOFF * min(1.0, new / old))
    phases, taps = len(table) - 1, table.shape[1]
    rows = waveform.reshape(-1, waveform.shape[-1])
    length = -(-rows.shape[1] * new // old)
    made = torch.empty(len(rows), length)
    size = max(1, BLOCK // (taps * (len(rows) + 2)))
    for first in range(0, length, size):
        at = torch.arange(first, min(first + size, length)) * old  # in 1 / new of a given sample
        phase = (at % new).double() * phases / new
        row = phase.long()
        kernel = torch.lerp(table[row], table[row + 1], (phase - row).float()[:, None])
        begin = at // new - taps // 2 + 1
        part = cut(rows, int(begin[0]), int(begin[-1]) + taps)
        windows = part.unfold(-1, taps, 1)[:, begin - begin[0]]
        made[:, first : first + len(at)] = torch.einsum("rnt,nt->rn", windows, kernel)
    return made.reshape(*waveform.shape[:-1], length).to(waveform.device)


def needed(seconds: float, old: float, new: float) -> int:
    """How many of the given samples the first `seconds` of the result are made of."""
    return math.ceil(seconds * int(old)) + math.ceil(ZEROS / (ROLLOFF * min(1.0, int(new) / int(old)))) + 1


def filter_table(cutoff: float) -> Tensor:
    """Float32 [phases + 1, taps]: the weights of the samples around a place that is phase / phases behind one of them.

    `cutoff` is a share of the given half rate. As many phases to a crossing of the sinc, whatever its width.
    """
    half = math.ceil(ZEROS / cutoff)
    phases = max(1, math.ceil(PHASES * cutoff))
    places = torch.arange(phases + 1, dtype=torch.float64)[:, None] / phases
    distance = (torch.arange(1 - half, half + 1) - places) * cutoff
    inside = (1 - (distance / ZEROS).square()).clamp(min=0).sqrt()
    window = torch.special.i0(BETA * inside) / torch.special.i0(torch.tensor(BETA, dtype=torch.float64))
    return (cutoff * torch.sinc(distance) * window * (distance.abs() <= ZEROS)).float()


def cut(rows: Tensor, first: int, end: int) -> Tensor:
    """Samples first..end of [rows, N] as float32 on the CPU, zeros where there are none."""
    inside = rows[:, max(first, 0) : max(end, 0)].float().cpu()
    before = min(max(-first, 0), end - first)
    return torch.nn.functional.pad(inside, (before, end - first - before - inside.shape[1]))
