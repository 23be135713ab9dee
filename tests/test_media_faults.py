"""Clips that are not finished, and files that are no clips."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from clips import listing, moving_frames, read_clip, tone
from PIL import Image
from sentences import refusal

import mova
from mova.clip import media, reading

# Nothing half-written


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
@pytest.mark.parametrize("at", ["encode", "rename"])
def test_an_interruption_leaves_no_file_and_keeps_the_old_one(tmp_path, monkeypatch, error, at):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"the old clip")
    make_frame, seen = media.video_frame, []

    def stop_at_the_third(picture, index, rate):
        seen.append(listing(tmp_path))
        if index == 2:
            raise error
        return make_frame(picture, index, rate)

    def stop(source, target):
        seen.append(listing(tmp_path))
        raise error

    if at == "encode":
        monkeypatch.setattr(media, "video_frame", stop_at_the_third)
    else:
        monkeypatch.setattr(media.os, "replace", stop)
    with pytest.raises(error):
        media.write_clip(path, moving_frames(5), 24, tone(10_000))
    monkeypatch.undo()
    assert len(seen[-1]) == 2  # the temporary file was there, in the same folder
    assert listing(tmp_path) == ["clip.mp4"] and path.read_bytes() == b"the old clip"


def test_a_new_clip_replaces_the_old_one(tmp_path):
    media.write_clip(tmp_path / "a.mp4", moving_frames(5), 24, tone(10_000))
    media.write_clip(tmp_path / "a.mp4", moving_frames(3), 12.5, None)
    info = reading.read_clip_info(tmp_path / "a.mp4")
    assert (info.frames, info.fps, info.audio_codec) == (3, 12.5, None)


def test_a_folder_that_vanished_is_named(tmp_path):
    text = refusal(media.write_clip, tmp_path / "gone" / "a.mp4", moving_frames(2), 24, None)
    assert str(tmp_path / "gone" / "a.mp4") in text
    assert listing(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: RLIMIT_FSIZE stands in for a full disk")
def test_a_full_disk_gives_one_sentence_and_leaves_nothing(tmp_path):
    # Limits at the first bytes, in the middle and just before the end: encoding, trailer and index can all hit them.
    script = """
        import os, resource, signal, sys
        from pathlib import Path
        import torch
        from mova.clip import media, reading
        from mova.errors import MovaError

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        path = Path(sys.argv[1]) / "clip.mp4"
        torch.manual_seed(0)
        clip = (path, torch.randint(0, 256, (8, 64, 64, 3), dtype=torch.uint8), 24, torch.rand(1, 16000) - 0.5)
        media.write_clip(*clip)
        old = path.read_bytes()
        for limit in (1, 100, len(old) // 2, len(old) - 100):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            try:
                media.write_clip(*clip)
            except MovaError as error:
                print(error)
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            assert os.listdir(path.parent) == ["clip.mp4"] and path.read_bytes() == old, limit
    """
    environment = os.environ | {"PYTHONPATH": str(Path(mova.__file__).parents[1])}
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    sentence = (
        f"{tmp_path / 'clip.mp4'} could not be written (File too large); check that its folder exists and has room."
    )
    assert done.stdout.splitlines() == [sentence] * 4


# Reading what is not a clip


@pytest.mark.parametrize("read", [reading.read_clip_info, read_clip])
def test_what_is_not_a_clip_is_named(tmp_path, read):
    (tmp_path / "text.mp4").write_text("#EXTM3U\nhttp://example.com/a.ts\n")
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.png")
    assert f"{tmp_path / 'no.mp4'} does not exist" in refusal(read, tmp_path / "no.mp4")
    assert f"{tmp_path} is a folder" in refusal(read, tmp_path)
    assert f"{tmp_path / 'text.mp4'} is not an MP4 clip" in refusal(read, tmp_path / "text.mp4")
    assert f"{tmp_path / 'picture.png'} " in refusal(read, tmp_path / "picture.png")


@pytest.mark.parametrize("read", [reading.read_clip_info, read_clip])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.95])
def test_a_truncated_clip_is_named(tmp_path, read, kept):
    path = tmp_path / "a.mp4"
    media.write_clip(path, torch.randint(0, 256, (8, 64, 64, 3), dtype=torch.uint8), 24, None)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    assert str(path) in refusal(read, path)


@pytest.mark.skipif(not shutil.which("ffprobe"), reason="needs ffprobe on the PATH")
def test_ffprobe_sees_the_same_clip(tmp_path):
    path = tmp_path / "a.mp4"
    media.write_clip(path, moving_frames(49), 23.976, tone(100_000, channels=2), settings={"prompt": "海"})
    command = ["ffprobe", "-v", "error", "-show_streams", "-show_format", "-of", "json", str(path)]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    video, audio = found["streams"]
    assert (video["codec_name"], video["pix_fmt"], video["nb_frames"]) == ("h264", "yuv420p", "49")
    assert (video["r_frame_rate"], video["avg_frame_rate"]) == ("24000/1001", "24000/1001")
    colours = [video[key] for key in ("color_range", "color_space", "color_transfer", "color_primaries")]
    assert colours == ["tv", "bt709", "bt709", "bt709"]
    assert (audio["codec_name"], audio["sample_rate"], audio["channels"]) == ("aac", "48000", 2)
    for stream in found["streams"]:
        assert float(stream["start_time"]) == 0
        assert float(stream["duration"]) == pytest.approx(49 * 1001 / 24000, abs=0.002)
    assert json.loads(found["format"]["tags"]["comment"]) == {"prompt": "海"}
