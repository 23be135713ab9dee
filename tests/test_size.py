"""A clip's size and length from a maker's words."""

import pytest

from mova.clip.size import PICTURE, frames_of, sizes, told
from mova.model.presets import PRESETS, PRISM
from mova.sampling.conditioning import check_size, size_of_shape


@pytest.mark.parametrize(
    ("seconds", "frames"), [(0.01, 1), (1, 25), (4, 97), (5, 121), (8, 193), (8.04, 193), (8.1, 193), (8.2, 197)]
)
def test_seconds_become_the_nearest_frames_that_a_clip_can_have(seconds, frames):
    assert frames_of(seconds, 24.0) == frames


def test_each_size_can_be_made_and_has_about_the_pixels_of_its_release():
    assert len(sizes()) == 4 * len({**PRESETS, **PRISM})
    for name, (release, size) in sizes().items():
        if size is None:
            assert name.endswith(PICTURE)
            continue
        check_size(*size, 1)
        assert f"{size[0]} x {size[1]}" in name
        assert size[0] * size[1] == pytest.approx(release.width * release.height, rel=0.03)


@pytest.mark.parametrize("shape", [(768, 768), (1024, 1536), (3000, 1000), (641, 353), (16, 16)])
def test_a_picture_s_shape_is_kept_but_for_the_grid(shape):
    width, height = size_of_shape(*shape, 640 * 352)
    check_size(width, height, 1)
    ratio = width / height / (shape[0] / shape[1])
    assert max(ratio, 1 / ratio) < 1.06 and width * height == pytest.approx(640 * 352, rel=0.06)


def test_the_line_warns_of_clips_longer_than_the_training_only():
    release = PRESETS["MOVA-360p"]
    assert told(640, 352, 193, 24.0, release) == "640 x 352, 193 frames: 8.04 seconds at 24 a second"
    assert "trained on 8 seconds" in told(640, 352, 225, 24.0, release)
    prism = PRISM["Prism 1080p"]
    assert "trained on" not in told(1920, 1072, 289, 24.0, prism)
    assert "trained on 12 seconds" in told(1920, 1072, 313, 24.0, prism)
