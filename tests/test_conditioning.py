import re

import numpy as np
import pytest
import torch
from golden import expected
from PIL import Image

from mova import MovaError
from mova.sampling.conditioning import (
    audio_latents,
    check_fps,
    check_size,
    condition_mask,
    crop_and_resize,
    crop_notice,
    image_condition,
    image_tensor,
)

MASKS = expected("condition_mask")


def encode(clip):
    """Stands where the video VAE is: what each latent frame's first frame looks like, at an eighth of the size."""
    assert clip.shape[1] == 3 and clip.shape[2] % 4 == 1
    return clip.mean(1, keepdim=True)[:, :, ::4, ::8, ::8].expand(-1, 16, -1, -1, -1)


@pytest.mark.parametrize("name", MASKS)
def test_masks_are_the_published_ones(name):
    kind, frames = name.split(".")
    found = condition_mask(int(frames), *MASKS[name].shape[-2:], last=kind == "first_last")
    assert torch.equal(found, MASKS[name])


def test_lengths_are_the_released_ones():
    assert audio_latents(193, 24) == 403
    assert audio_latents(1, 24) == 3


@pytest.mark.parametrize("size", [(400, 200), (200, 400), (333, 77), (16, 16), (4000, 3000), (1, 500)])
def test_a_picture_of_any_shape_fills_the_frame_from_its_centre(size):
    picture = Image.new("RGB", size, "red")
    assert crop_and_resize(picture, 64, 32).size == (64, 32)
    assert np.asarray(crop_and_resize(picture, 64, 32)).reshape(-1, 3).min(axis=0).tolist() == [255, 0, 0]


def test_the_centre_is_kept():
    pixels = np.zeros((40, 160, 3), np.uint8)
    pixels[:, 60:100] = 255
    assert np.asarray(crop_and_resize(Image.fromarray(pixels), 32, 32)).min() == 255


def test_it_is_said_if_much_of_a_picture_is_cropped_away_and_the_size_it_names_crops_little():
    told = crop_notice(720, 1280, "last", 640, 352)
    assert told.startswith("69% of the last picture (720 x 1280) is cropped away; for all of it take width ")
    width, height = map(int, re.findall(r"\d+", told)[-2:])
    assert crop_notice(720, 1280, "last", width, height) is None and crop_notice(640, 427, "first", 640, 352) is None


def test_pixels_run_from_minus_one_to_one():
    picture = Image.fromarray(np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8).repeat(16, 0).repeat(8, 1))
    found = image_tensor(picture, 16, 16)
    assert found.shape == (3, 16, 16)
    assert found[:, :, 0].eq(-1).all() and found[:, :, -1].eq(1).all()


def test_first_and_last_pictures_stand_at_the_ends_and_the_rest_is_unknown():
    white, black = Image.new("RGB", (64, 64), "white"), Image.new("RGB", (64, 64), "black")
    found = image_condition(encode, 64, 32, 13, first=white, last=black)
    assert found.shape == (1, 20, 4, 4, 8)
    mask, latent = found[:, :4], found[:, 4:]
    assert mask[:, :, 0].eq(1).all() and mask[:, :, 1:3].eq(0).all()
    assert mask[:, :3, 3].eq(0).all() and mask[:, 3, 3].eq(1).all()
    assert latent[:, :, 0].eq(1).all() and latent[:, :, 1:3].eq(0).all() and latent[:, :, 3].eq(-1).all()


def test_without_a_picture_the_first_frame_is_white_or_nothing_is_given():
    white = image_condition(encode, 32, 32, 5)
    assert white[:, :4, 0].eq(1).all() and white[:, 4:, 0].eq(1).all()
    none = image_condition(encode, 32, 32, 5, text_only_frame="none")
    assert none.eq(0).all()


def test_a_last_picture_alone_leaves_the_first_frame_free():
    found = image_condition(encode, 32, 32, 5, last=Image.new("RGB", (8, 8), "white"))
    assert found[:, :4, 0].eq(0).all() and found[:, 3, 1].eq(1).all()


@pytest.mark.parametrize(
    ("size", "named"),
    [
        ((640, 360, 193), "height 360 .* 352"),
        ((650, 352, 193), "width 650 .* 656"),
        ((3, 352, 193), "width 3 .* 16"),
        ((640, 352, 192), "192 frames .* 189 or 193"),
        ((640, 352, 0), "0 frames .* 1\\."),
        ((640, 352, 2), "2 frames .* 1 or 5"),
    ],
)
def test_a_size_off_the_grid_is_refused_with_the_nearest_valid_one(size, named):
    with pytest.raises(MovaError, match=named):
        check_size(*size)


@pytest.mark.parametrize("fps", [0, -24, float("nan"), 1000])
def test_a_frame_rate_out_of_range_is_refused(fps):
    with pytest.raises(MovaError, match="frame rate"):
        check_fps(fps)


def test_a_clip_of_one_frame_has_no_end_image():
    with pytest.raises(MovaError, match="one frame"):
        image_condition(encode, 32, 32, 1, last=Image.new("RGB", (8, 8)))
