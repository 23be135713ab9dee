"""Long clips and many lines: what Prism was trained on, and more, as far as memory holds."""

import math

import av
import pytest
import torch

from mova.checkpoint.release import open_checkpoint
from mova.clip.media import write_clip
from mova.clip.pipeline import generate
from mova.clip.request import Request
from mova.clip.runtime import Runtime
from mova.model.presets import PRISM
from mova.model.rope import THETA, tower_turn
from mova.sampling.conditioning import audio_latents, latent_frames

LARGE = [*((size.width, size.height, size.frames) for size in PRISM.values()), (1920, 1072, 289), (2560, 1440, 265)]


@pytest.mark.parametrize(("width", "height", "frames"), LARGE)
def test_every_token_has_its_position(width, height, frames):
    Request("a cat", width=width, height=height, frames=frames).check()
    grid = latent_frames(frames), height // 16, width // 16
    axes = tower_turn(grid, 128, torch.device("cpu")).axes
    assert [len(axis) for axis in axes] == [*grid] and sum(axis.shape[1] for axis in axes) == 64
    for length, axis in zip(grid, axes, strict=True):
        angle = (length - 1) * THETA ** -(2 * (axis.shape[1] - 1) / (2 * axis.shape[1]))  # of the last pair
        assert torch.allclose(axis[-1, -1], torch.tensor([math.cos(angle), math.sin(angle)]), atol=1e-6)


# As many lines or frames with a width of one patch, so that the tiny model is at work for a second.
@pytest.mark.parametrize(("width", "height", "frames"), [(16, 1072, 5), (16, 1440, 5), (16, 16, 289)])
def test_a_clip_of_so_many_lines_or_frames_is_made(tiny_checkpoint, width, height, frames):
    request = Request("a cat", width=width, height=height, frames=frames, steps=2)
    made = generate(open_checkpoint(tiny_checkpoint), request, Runtime(torch.device("cpu"), torch.float32))
    assert made.frames.shape == (frames, height, width, 3) and made.frames.float().std() > 1
    assert made.audio_latent.shape[-1] == audio_latents(frames, 24.0)
    assert made.waveform.shape[-1] == 48000 * frames // 24


@pytest.mark.parametrize(("width", "height"), sorted({(width, height) for width, height, _ in LARGE}))
def test_a_clip_of_that_size_is_written_and_read(tmp_path, width, height):
    frames = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    frames[:, -16:] = 255  # the last lines are there
    write_clip(tmp_path / "clip.mp4", frames, 24.0, torch.zeros(1, 4000), 48000, {})
    with av.open(str(tmp_path / "clip.mp4")) as container:
        shown = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert shown.shape == (height, width, 3) and shown[-8:].min() > 200 > 50 > shown[:-24].max()
