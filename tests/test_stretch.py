"""A stretch of a given video: the right frames at the right size with the sound of their time, of any source."""

import io
import math
from fractions import Fraction

import pytest
import torch
from clips import tone
from sentences import refusal
from videos import numbered, numbers, write, write_timed

from mova.clip.decoding import File
from mova.clip.media import write_clip
from mova.clip.memory import Frames
from mova.clip.pick import whole_length
from mova.clip.stretch import Wanted, take

LONG = 193


# How much


@pytest.mark.parametrize("count", [1, 2, 4, 5, 9, 80, 81, 82, 83, 120])
def test_a_source_of_any_length_gives_a_clip_of_4_k_and_1_frames(tmp_path, count):
    stretch = take(write(tmp_path / "a.mp4", count), Wanted(0, LONG))
    kept = (count - 1) // 4 * 4 + 1
    assert numbers(stretch) == list(range(kept)) and stretch.fps == 24
    assert stretch.waveform.shape == (1, kept * 2000)
    left_out = [text for text in stretch.notices if "left out" in text]
    wanted = f"A clip has 4 k + 1 frames: the last {count - kept} of {count} are left out."
    assert left_out == [wanted] * (kept < count)


@pytest.mark.parametrize("wanted", [1, 9, 10, 80])
def test_no_more_frames_than_wanted_are_taken(tmp_path, wanted):
    assert numbers(take(write(tmp_path / "a.mp4", 100), Wanted(0, wanted))) == list(range(whole_length(wanted)))


@pytest.mark.parametrize("start", [0.5, 1.0, 1.01, 95.9 / 24, 99 / 24])
@pytest.mark.parametrize("kind", ["file", "bytes", "memory"])
def test_a_stretch_begins_with_the_frame_nearest_to_its_start(tmp_path, start, kind):
    source = write(tmp_path / "a.mp4", 100)
    if kind == "bytes":
        source = File(io.BytesIO((tmp_path / "a.mp4").read_bytes()))
    if kind == "memory":
        source = Frames(numbered(100).float() / 255, Fraction(24))
    first = round(start * 24)
    stretch = take(source, Wanted(start, 5))
    assert numbers(stretch) == list(range(first, first + whole_length(min(5, 100 - first))))
    assert stretch.notices[0].startswith(f"{len(stretch.frames)} frame") and " of 4.17 s." in stretch.notices[0]


@pytest.mark.parametrize("source", ["file", "memory"])
def test_a_stretch_that_begins_after_the_end_is_refused(tmp_path, source):
    source = write(tmp_path / "a.mp4", 24) if source == "file" else Frames(numbered(24) / 255, Fraction(24))
    assert refusal(take, source, Wanted(1.5, 9)) == (
        "The video ends at 1.00 s, so there is no frame from 1.5 s on; begin earlier."
    )


def test_what_a_trim_left_of_a_video_is_all_there_is(tmp_path):
    source = write(tmp_path / "a.mp4", 100, waveform=tone(200_000))
    trimmed = take(source, Wanted(0.5, LONG, window=(1.0, 1.0 + 20 / 24)))
    assert numbers(trimmed) == list(range(36, 41)) and " of 0.83 s." in trimmed.notices[0]
    assert "ends at 0.83 s" in refusal(take, source, Wanted(1, 9, window=(1.0, 1.0 + 20 / 24)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"start": -1.0}, "start is -1.0;"),
        ({"start": math.nan}, "start is nan;"),
        ({"length": 0}, "length is 0;"),
        ({"width": 1_000_000}, "width is 1000000;"),
        ({"height": -16}, "height is -16;"),
        ({"fps": 500.0}, "fps is 500.0;"),
        ({"fps": math.nan}, "fps is nan;"),
    ],
)
def test_what_no_video_could_give_is_refused(tmp_path, change, words):
    assert words in refusal(take, write(tmp_path / "a.mp4", 5), Wanted(**{"start": 0.0, "length": 9, **change}))


# At which rate


@pytest.mark.parametrize("fps", [12.5, 23.976, 24, 25, 29.97, 60, 120])
def test_a_source_at_a_steady_rate_gives_its_own_frames_one_by_one(tmp_path, fps):
    stretch = take(write(tmp_path / "a.mp4", 50, fps), Wanted(10 / fps, 37))
    assert numbers(stretch) == list(range(10, 47)) and stretch.fps == pytest.approx(fps, abs=1e-3)
    assert len(stretch.notices) == 2  # how much, and that there is no sound


def test_times_rounded_to_milliseconds_are_a_steady_rate(tmp_path):
    source = write_timed(tmp_path / "a.mkv", [round(i * 1000 / 24) for i in range(60)], lasts=42)
    stretch = take(source, Wanted(0.5, 41, fps=24.0))
    assert numbers(stretch) == list(range(12, 53)) and "repeated" not in " ".join(stretch.notices)


def test_a_changing_rate_becomes_a_steady_one_and_each_frame_is_shown_at_its_time(tmp_path):
    times = [0, 40, 80, 400, 410, 420, 440, 1000]  # a pause, a burst, a long one
    stretch = take(write_timed(tmp_path / "a.mkv", times, lasts=40), Wanted(0, 29, fps=25.0))
    shown = [0, 1, *[2] * 8, 3, *[6] * 14, 7]
    assert numbers(stretch) == shown[: whole_length(len(shown))]
    (told,) = (text for text in stretch.notices if "passed over" in text)
    assert told.startswith("For 25 frames a second 20 are repeated, 2 passed over.")


def test_a_stretch_that_begins_in_a_pause_begins_with_what_is_seen_then(tmp_path):
    source = write_timed(tmp_path / "a.mkv", [0, 40, 80, 1000, 1040])
    assert numbers(take(source, Wanted(0.5, 9, fps=25.0))) == [2] * 9


@pytest.mark.parametrize(("own", "fps", "step"), [(48, 24.0, 2), (120, 24.0, 5), (12, 24.0, 0.5)])
def test_another_rate_passes_frames_over_or_repeats_them(tmp_path, own, fps, step):
    stretch = take(write(tmp_path / "a.mp4", 100, own), Wanted(0, 9, fps=fps))
    found = numbers(stretch)
    assert stretch.fps == fps and all(abs(n - i * step) <= 0.5 for i, n in enumerate(found)), found


@pytest.mark.parametrize("own", [240, 480])
def test_a_rate_beyond_what_mova_takes_is_brought_to_120(tmp_path, own):
    stretch = take(write(tmp_path / "a.mp4", 100, own), Wanted(0, 9))
    assert stretch.fps == 120 and numbers(stretch) == [i * own // 120 for i in range(9)]
    assert f"The video has {own} frames a second; MOVA takes it at 120." in stretch.notices


@pytest.mark.parametrize("keys", [5, 250])
@pytest.mark.parametrize("form", ["mp4", "matroska", "mpegts", "flv", "h264"])
def test_a_stretch_is_found_in_any_kind_of_file_also_without_a_key_frame_or_an_index_there(tmp_path, form, keys):
    source = write_timed(tmp_path / "a", [i * 40 for i in range(60)], form=form, keys=keys)
    assert numbers(take(source, Wanted(1, 9))) == list(range(25, 34))


def test_a_video_cut_out_of_a_longer_one_begins_at_its_first_frame(tmp_path):
    source = write_timed(tmp_path / "a.ts", [i * 40 for i in range(60)], form="mpegts", offset=5000)
    assert numbers(take(source, Wanted(0, 9))) == list(range(9))
    assert numbers(take(source, Wanted(1, 9))) == list(range(25, 34))


# At which size


@pytest.mark.parametrize(
    ("wanted", "made"),
    [((0, 0), (96, 64)), ((48, 32), (48, 32)), ((64, 64), (64, 64)), ((48, 0), (48, 32)), ((0, 16), (32, 16))],
)
@pytest.mark.parametrize("kind", ["file", "memory"])
def test_frames_are_scaled_and_cut_from_the_centre(tmp_path, wanted, made, kind):
    frames = torch.zeros(5, 64, 96, 3)
    frames[:, 16:48, 32:64] = 1  # a white square in the centre, which stays one
    source = Frames(frames, Fraction(24))
    if kind == "file":
        write_clip(tmp_path / "a.mp4", (frames * 255).byte(), 24, None, crf=5)
        source = File(tmp_path / "a.mp4")
    stretch = take(source, Wanted(0, 5, *wanted))
    assert stretch.frames.shape == (5, made[1], made[0], 3) and stretch.frames.dtype == torch.float32
    bright = stretch.frames[..., 1] > 0.5
    scale = max(made[0] / 96, made[1] / 64)
    rows, columns = bright[0].any(dim=1).sum(), bright[0].any(dim=0).sum()
    assert abs(rows - 32 * scale) <= 1 and abs(columns - 32 * scale) <= 1
    assert abs(bright[0].nonzero().float().mean(dim=0) - torch.tensor([made[1] - 1, made[0] - 1]) / 2).max() < 1
    scaled = ", scaled from 96x64 to" in stretch.notices[0]
    assert scaled == (made != (96, 64))


def turned(path, degrees):
    """The same MP4 with a matrix in its track's header that says to turn it, as phones write it."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # behind version, times, id, duration, layer and volume
    one = 0x10000
    a, b = {90: (0, one), 180: (-one, 0), 270: (0, -one)}[degrees]
    for index, value in enumerate((a, b, 0, -b, a, 0)):
        data[at + 4 * index : at + 4 * index + 4] = value.to_bytes(4, "big", signed=True)
    path.write_bytes(data)


@pytest.mark.parametrize("degrees", [90, 180, 270])
@pytest.mark.parametrize("wanted", [(0, 0), (32, 48)])
def test_a_picture_is_turned_as_the_file_says(tmp_path, degrees, wanted):
    frames = torch.zeros(5, 64, 96, 3, dtype=torch.uint8)
    frames[:, :32, :48] = 255  # white at the top left
    write_clip(tmp_path / "a.mp4", frames, 24, None)
    turned(tmp_path / "a.mp4", degrees)
    picture = take(File(tmp_path / "a.mp4"), Wanted(0, 5, *wanted)).frames[0, ..., 0]
    if degrees != 180:
        assert picture.shape == ((96, 64) if wanted == (0, 0) else (48, 32))
    height, width = picture.shape
    halves = [slice(0, height // 2), slice(height // 2, None)], [slice(0, width // 2), slice(width // 2, None)]
    corner = {(y, x): picture[halves[0][y], halves[1][x]].mean() > 0.5 for y in (0, 1) for x in (0, 1)}
    where = {90: (0, 1), 180: (1, 1), 270: (1, 0)}[degrees]  # clockwise
    assert [place for place, white in corner.items() if white] == [where]
