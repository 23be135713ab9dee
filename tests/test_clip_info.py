"""`info` counts the frames of a clip that are shown, whatever else other programs have put into its file."""

import shutil
import subprocess
from fractions import Fraction

import av
import pytest
from clips import moving_frames, read_clip, tone
from sentences import refusal

from mova.clip import media, reading


@pytest.fixture
def clip(tmp_path):
    media.write_clip(tmp_path / "clip.mp4", moving_frames(48), 24, tone(96_000))
    return tmp_path / "clip.mp4"


def copied(source, target, options=None, shift=0.0, chapters=False):
    """The same packets in another file, as programs write it that do not encode anew; `shift` in seconds."""
    with av.open(source) as given, av.open(target, "w", options=options or {}) as made:
        if chapters:
            half = {"start": 0, "end": 1000, "time_base": Fraction(1, 1000), "metadata": {"title": "one"}}
            made.set_chapters([half | {"id": 1}, half | {"id": 2, "start": 1000, "end": 2000}])
        streams = {stream.index: made.add_stream_from_template(stream) for stream in given.streams}
        for packet in given.demux():
            if packet.dts is None:
                continue
            moved = round(shift / packet.time_base)
            packet.pts, packet.dts = packet.pts - moved, packet.dts - moved
            packet.stream = streams[packet.stream.index]
            made.mux(packet)
    return target


def decoded(path):
    with av.open(path) as container:
        return sum(1 for _ in container.decode(video=0))


def told(path):
    """Frames, seconds and rate, as `info` says them; they must be those that are decoded."""
    info = reading.read_clip_info(path)
    frames, waveform, *_ = read_clip(path)
    assert info.frames == decoded(path) == len(frames) and waveform is not None
    return info.frames, round(info.duration_s, 3), info.fps


def test_frames_that_an_edit_list_passes_over_at_the_start_are_not_counted(clip, tmp_path):
    cut = copied(clip, tmp_path / "cut.mp4", shift=0.5)
    with av.open(cut) as container:
        assert container.streams.video[0].frames == 48, "they are in the file"
    assert told(cut) == (36, 1.5, 24)


def test_frames_behind_the_end_of_an_edit_list_are_not_counted(clip, tmp_path):
    data = bytearray(clip.read_bytes())
    at = (
        data.index(b"elst") + 12
    )  # behind name, version and the number of entries: the first one's length, 1000 a second
    assert int.from_bytes(data[at : at + 4], "big") == 2000
    data[at : at + 4] = (1000).to_bytes(4, "big")
    (tmp_path / "short.mp4").write_bytes(data)
    frames, *_ = told(tmp_path / "short.mp4")
    assert 24 <= frames <= 27  # players show a frame or two more, as they are stored in another order


@pytest.mark.parametrize("flags", ["frag_keyframe+empty_moov", "dash", "frag_every_frame+empty_moov+default_base_moof"])
def test_a_fragmented_clip_has_no_count_and_is_counted(clip, tmp_path, flags):
    assert told(copied(clip, tmp_path / "parts.mp4", {"movflags": flags})) == (48, 2.0, 24)


def test_chapters_are_not_missing_pieces(clip, tmp_path):
    assert told(copied(clip, tmp_path / "chapters.mp4", chapters=True)) == (48, 2.0, 24)


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg on the PATH, for PyAV writes no subtitles")
def test_subtitles_are_not_missing_pieces(clip, tmp_path):
    (tmp_path / "words.srt").write_text(
        "1\n00:00:00,500 --> 00:00:01,000\nhello\n\n2\n00:00:01,500 --> 00:00:01,900\nyou\n"
    )
    command = ["ffmpeg", "-v", "error", "-i", clip, "-i", "words.srt", "-c", "copy", "-c:s", "mov_text", "said.mp4"]
    subprocess.run(command, check=True, cwd=tmp_path)
    assert told(tmp_path / "said.mp4") == (48, 2.0, 24)


@pytest.mark.parametrize("flags", ["faststart", "frag_keyframe+empty_moov"])
def test_a_clip_that_is_cut_off_says_how_much_is_missing(clip, tmp_path, flags):
    path = copied(clip, tmp_path / "parts.mp4", {"movflags": flags})
    if flags == "faststart":
        path = clip
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 4] if flags == "faststart" else whole[: whole.rindex(b"mdat") + 20])
    missing = reading.missing_bytes(path)
    assert missing > 0
    for read in (reading.read_clip_info, read_clip):
        assert f"{path} is cut off: its last {missing} bytes are missing;" in refusal(read, path)
