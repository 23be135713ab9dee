"""The contact sheet: frames in a row over the waveform of the whole clip."""

import math

import pytest
import torch
from PIL import Image

from mova.clip import contact_sheet
from mova.clip.contact_sheet import write_contact_sheet
from mova.errors import MovaError

WAVE = (0x5F, 0xB3, 0xA8)


def coloured_frames(count, height=36, width=64):
    """Flat frames: red grows with time, so that a pixel of a thumbnail tells which frame it shows."""
    frames = torch.zeros(count, height, width, 3, dtype=torch.uint8)
    frames[..., 0] = torch.linspace(100, 250, count).round()[:, None, None]
    return frames


def tone(seconds, channels=1, rate=48000):
    wave = torch.sin(2 * math.pi * 4000 * torch.arange(round(seconds * rate)) / rate)
    return wave.expand(channels, -1).clone()


def sheet(tmp_path, *args, **kwargs):
    write_contact_sheet(tmp_path / "sheet.png", *args, **kwargs)
    assert [item.name for item in tmp_path.iterdir()] == ["sheet.png"]
    with Image.open(tmp_path / "sheet.png") as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        return image.copy()


def thumbnails(image):
    """The red values of the row of pure-red thumbnails, from left to right, and the width of each."""
    row = [image.getpixel((x, contact_sheet.MARGIN + 2)) for x in range(image.width)]
    runs = []
    for red, green, blue in row:
        shown = red if green == blue == 0 else None
        if runs and runs[-1][0] == shown:
            runs[-1][1] += 1
        else:
            runs.append([shown, 1])
    return [tuple(run) for run in runs if run[0] is not None]


def wave_columns(image):
    """How many pixels of every column have the waveform's colour."""
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(image.height, image.width, 3)
    return (pixels == torch.tensor(WAVE, dtype=torch.uint8)).all(-1).sum(0)


@pytest.mark.parametrize(("count", "indices"), [(193, [0, 48, 96, 144, 192]), (3, [0, 1, 2])])
def test_the_frames_shown_are_even_with_the_first_and_the_last(tmp_path, count, indices):
    frames = coloured_frames(count)
    image = sheet(tmp_path, frames, tone(count / 24), 48000)
    found = thumbnails(image)
    assert [red for red, _ in found] == [int(frames[index, 0, 0, 0]) for index in indices]
    assert max(width for _, width in found) - min(width for _, width in found) == 0


@pytest.mark.parametrize(("height", "width"), [(64, 36), (36, 64), (10, 2000), (2000, 10)])
def test_frames_keep_their_shape_and_stay_inside_the_margins(tmp_path, height, width):
    image = sheet(tmp_path, coloured_frames(9, height, width), tone(9 / 24), 48000)
    left = [image.getpixel((x, y)) for x in range(contact_sheet.MARGIN - 1) for y in range(0, image.height - 60)]
    assert set(left) == {(0x17, 0x18, 0x1B)}
    pictures = contact_sheet.thumbnail(torch.zeros(height, width, 3, dtype=torch.uint8), 5)
    assert pictures.width / pictures.height == pytest.approx(width / height, rel=0.5)


def test_one_frame_makes_a_sheet(tmp_path):
    image = sheet(tmp_path, coloured_frames(1), tone(1 / 24), 48000)
    assert len(thumbnails(image)) == 1


def test_silence_is_a_flat_line_over_the_whole_axis(tmp_path):
    image = sheet(tmp_path, coloured_frames(25), torch.zeros(1, 50_000), 48000)
    heights = wave_columns(image)[contact_sheet.MARGIN : image.width - contact_sheet.MARGIN + 1]
    assert heights.max() == 1 and (heights == 1).sum() >= len(heights) - 5  # the marks of five frames cover a pixel


@pytest.mark.parametrize("channels", [1, 2])
def test_the_waveform_shows_when_and_how_loud_the_sound_is(tmp_path, channels):
    waveform = tone(2.0, channels)
    waveform[:, :48_000] = 0
    waveform[:, 72_000:] *= 0.5
    image = sheet(tmp_path, coloured_frames(48), waveform, 48000)
    heights = wave_columns(image)[contact_sheet.MARGIN : image.width - contact_sheet.MARGIN].float()
    middle, fifth = len(heights) // 2, len(heights) // 5
    silent, loud, half = heights[: middle - 2], heights[middle + 2 :], heights[-fifth:]
    assert silent.median() == 1 and silent.max() == 1
    assert loud.max() > 0.9 * contact_sheet.WAVE_HEIGHT
    assert half.median() == pytest.approx(loud.max().item() / 2, abs=3)


def test_a_click_of_one_sample_is_seen(tmp_path):
    waveform = torch.zeros(1, 48_000 * 8)
    waveform[0, 100_003] = 1.0
    image = sheet(tmp_path, coloured_frames(193), waveform, 48000)
    assert wave_columns(image).max() > 0.4 * contact_sheet.WAVE_HEIGHT


def test_sound_of_fewer_samples_than_pixels_is_drawn(tmp_path):
    image = sheet(tmp_path, coloured_frames(1), torch.ones(1, 3), 48000)
    assert wave_columns(image).max() >= 1


@pytest.mark.parametrize(
    ("duration", "step"),
    [(0.0417, 0.005), (1.0, 0.1), (1.04, 0.2), (8.04, 1.0), (10.0, 1.0), (60.0, 10.0), (200.0, 20.0)],
)
def test_the_time_axis_has_round_steps_and_room_for_the_numbers(duration, step):
    assert contact_sheet.tick_step(duration) == pytest.approx(step)


def test_nothing_to_show_is_refused(tmp_path):
    for frames, waveform in ((coloured_frames(0), tone(1)), (coloured_frames(2), torch.zeros(1, 0))):
        with pytest.raises(MovaError, match=r"sheet\.png"):
            write_contact_sheet(tmp_path / "sheet.png", frames, waveform, 48000)
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_no_file_and_keeps_the_old_one(tmp_path, monkeypatch):
    (tmp_path / "sheet.png").write_bytes(b"old")

    def stop(self, target, **options):
        target.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        write_contact_sheet(tmp_path / "sheet.png", coloured_frames(2), tone(0.1), 48000)
    assert [item.name for item in tmp_path.iterdir()] == ["sheet.png"]
    assert (tmp_path / "sheet.png").read_bytes() == b"old"


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(MovaError, match="could not be written"):
        write_contact_sheet(tmp_path / "no" / "sheet.png", coloured_frames(2), tone(0.1), 48000)
