"""The video VAE works in tiles where the whole would not fit, and says so."""

import argparse
import dataclasses
from fractions import Fraction

import pytest
import torch
from peakmem import PeakMem
from torch._subclasses.fake_tensor import FakeTensorMode

from mova.checkpoint.release import open_checkpoint
from mova.clip import tiles
from mova.clip.pipeline import decode_video, encode_images
from mova.clip.request import Request
from mova.clip.runtime import Runtime
from mova.commands.generate import add_to
from mova.model import video_vae

FLOAT = Runtime(torch.device("cpu"), torch.float32)
WIDE = Request("a cat", width=272, height=16, frames=5)  # two tiles beside each other


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint):
    return open_checkpoint(tiny_checkpoint)


@pytest.fixture(scope="module")
def latent():
    return torch.randn(1, 16, 2, 2, 34, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def shown(checkpoint, latent):
    """The frames by hand, whole and in tiles: they differ, or nothing is shown here."""
    vae = video_vae.load(checkpoint.root / "video_vae", torch.float32, torch.device("cpu"))
    with torch.inference_mode():
        whole = video_vae.decode(vae, latent)
        vae.enable_tiling()
        tiled = video_vae.decode(vae, latent)
    assert not torch.equal(whole, tiled)
    return {False: whole, True: tiled}


def free_for(checkpoint, monkeypatch, share):
    """So much of what decoding needs is free."""
    vae = video_vae.load(checkpoint.root / "video_vae", torch.float32, torch.device("cpu"))
    needed = tiles.bytes_needed(vae, tiles.DECODING, WIDE.width, WIDE.height, WIDE.frames) * tiles.ROOM
    monkeypatch.setattr(tiles, "free_ram", lambda: needed * share)


def decoded(checkpoint, latent, told, **asked):
    with torch.inference_mode():
        return decode_video(checkpoint, dataclasses.replace(FLOAT, notice=told.append, **asked), latent)


@pytest.mark.parametrize(("share", "asked", "in_tiles"), [
    (Fraction(11, 10), None, False), (Fraction(9, 10), None, True),
    (Fraction(9, 10), False, False), (Fraction(11, 10), True, True),
])  # fmt: skip
def test_tiles_are_chosen_by_what_is_free_unless_the_user_says(
    checkpoint, latent, shown, monkeypatch, share, asked, in_tiles
):
    free_for(checkpoint, monkeypatch, float(share))
    told = []
    assert torch.equal(decoded(checkpoint, latent, told, tiled_vae=asked), shown[in_tiles])
    chosen = in_tiles and asked is None
    assert len(told) == chosen and all("The video VAE works in tiles: of about 0." in line for line in told)


def test_pictures_are_encoded_in_tiles_where_little_is_free(checkpoint, monkeypatch):
    monkeypatch.setattr(tiles, "free_ram", lambda: 0)
    told = []
    asked = dataclasses.replace(FLOAT, tiled_vae=True), dataclasses.replace(FLOAT, notice=told.append)
    with torch.inference_mode():
        wanted, found = (encode_images(checkpoint, WIDE, runtime) for runtime in asked)
    assert torch.equal(found, wanted) and len(told) == 1


@pytest.mark.parametrize("asked", [None, False])
def test_a_full_memory_is_tried_again_in_tiles_unless_the_user_forbids(checkpoint, latent, shown, monkeypatch, asked):
    from diffusers import AutoencoderKLWan  # seconds to import, in every process that collects tests

    real, told = AutoencoderKLWan._decode, []

    def full(self, *args, **kwargs):
        if not self.use_tiling:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(self, *args, **kwargs)

    monkeypatch.setattr(AutoencoderKLWan, "_decode", full)
    if asked is False:
        with pytest.raises(torch.OutOfMemoryError):
            decoded(checkpoint, latent, told, tiled_vae=asked)
        assert not told
        return
    assert torch.equal(decoded(checkpoint, latent, told), shown[True])
    assert told == ["The video VAE works in tiles: the memory was full."]


@pytest.mark.parametrize(("width", "height", "frames"), [(640, 352, 29), (1280, 720, 13)])
def test_what_the_released_vae_needs_is_what_is_counted_and_little_more(width, height, frames):
    from diffusers import AutoencoderKLWan  # seconds to import, in every process that collects tests

    inputs = {
        "encode": (tiles.ENCODING, (1, 3, frames, height, width)),
        "decode": (tiles.DECODING, (1, 16, (frames - 1) // 4 + 1, height // 8, width // 8)),
    }
    with FakeTensorMode(), torch.no_grad():
        vae = AutoencoderKLWan()
        for work, (values, shape) in inputs.items():
            with PeakMem(vae) as memory:
                getattr(vae, work)(torch.empty(shape))
            needed = tiles.bytes_needed(vae, values, width, height, frames)
            assert memory.peak <= needed < 1.1 * memory.peak


@pytest.mark.parametrize(("typed", "meant"), [((), None), (("--tiled-vae",), True), (("--no-tiled-vae",), False)])
def test_the_command_line_leaves_the_choice_open_unless_told(typed, meant):
    commands = argparse.ArgumentParser().add_subparsers()
    add_to(commands)
    options = commands.choices["generate"].parse_args(["--checkpoint", "x", "--prompt", "a", "--out", "b.mp4", *typed])
    assert options.tiled_vae is meant
