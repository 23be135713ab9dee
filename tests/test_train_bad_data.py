"""Media and captions as they lie on people's disks: what can be used is, all else is named with the reason."""

import os
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from clips import moving_frames, tone
from PIL import Image
from videos import write_timed

from mova.checkpoint.release import open_checkpoint
from mova.clip.media import write_clip
from mova.clip.runtime import Runtime
from mova.train.cache import Cache
from mova.train.media import Shapes
from mova.train.prepare import PARTS, prepare

SHAPES = Shapes([(48, 32), (32, 48)], [5, 9])
CPU = Runtime(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def encoders(tiny_checkpoint):
    return open_checkpoint(tiny_checkpoint, PARTS)


def video(path, count=12, fps=24.0, size=(32, 48), sound=None, rate=48000):
    write_clip(path, moving_frames(count, *size), fps, sound, rate)
    return path


def encoded(path, codec, form=None, size=(48, 32), fmt="yuv420p", count=12, rate=24, rotate=None):
    with av.open(path, "w", format=form) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, fmt
        for number in range(count):
            pixels = np.full((size[1], size[0], 3), 10 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


def sound_only(path):
    with av.open(path, "w") as container:
        stream = container.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone(48000).numpy(), "fltp", "mono")
        frame.sample_rate, frame.time_base, frame.pts = 48000, Fraction(1, 48000), 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def whole(path):
    return video(path).read_bytes()


def cut(path, share):
    content = whole(path)
    path.write_bytes(content[: int(len(content) * share)])


def damaged(path):
    content = bytearray(whole(path))
    middle = len(content) // 3
    content[middle : middle + 200] = os.urandom(200)
    path.write_bytes(bytes(content))


def without_index(path):
    content = whole(path)
    path.write_bytes(content.replace(b"moov", b"free"))


# Each writes a file; in a folder that is used, what should be told of it: None where it can be trained on.
BAD = {
    "empty.mp4": (lambda path: path.write_bytes(b""), "cannot be read"),
    "zeros.mp4": (lambda path: path.write_bytes(bytes(5000)), "cannot be read"),
    "noise.mp4": (lambda path: path.write_bytes(os.urandom(5000)), "cannot be read"),
    "text.mp4": (lambda path: path.write_text("Not Found"), "cannot be read"),
    "web_page.mp4": (lambda path: path.write_text("<!DOCTYPE html><html></html>"), "cannot be read"),
    "lfs.mp4": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\nsize 9\n"), "cannot be read"),
    "head_only.mp4": (lambda path: cut(path, 0.05), "load another"),
    "sound_only.mp4": (sound_only, "has no picture, only sound"),
    "too_short.mp4": (lambda path: video(path, 3), "has 1 frames at 24 a second, and the shortest to train on is 5"),
    "one_frame.mp4": (lambda path: video(path, 1), "has 1 frames"),
    "slow.mp4": (lambda path: encoded(path, "libx264", count=2, rate=24), "has 1 frames"),
    "playlist.ts": (lambda path: path.write_text("#EXTM3U\n#EXTINF:1,\nhttp://localhost:9/x.ts\n"), "cannot be read"),
    "picture.gif": (lambda path: Image.new("RGB", (48, 32)).save(path), "has 1 frames"),
    "picture.mp4": (lambda path: Image.new("RGB", (48, 32)).save(path, "PNG"), "frame"),
}
ODD = {
    "index_called_free.mp4": without_index,  # which FFmpeg finds
    "fast.mp4": lambda path: video(path, 60, 120.0),
    "film.mp4": lambda path: video(path, 24, 23.976),
    "odd_size.mkv": lambda path: encoded(path, "ffv1", size=(51, 33), fmt="yuv444p"),
    "huge_shape.mp4": lambda path: video(path, 9, size=(32, 480)),
    "grey.mkv": lambda path: encoded(path, "ffv1", fmt="gray"),
    "ten_bits.mkv": lambda path: encoded(path, "ffv1", fmt="yuv420p10le"),
    "moving.gif": lambda path: encoded(path, "gif", fmt="rgb8", count=20, rate=10),
    "old.avi": lambda path: encoded(path, "mpeg4"),
    "flash.flv": lambda path: encoded(path, "flv1", "flv"),
    "stream.ts": lambda path: encoded(path, "mpeg2video", "mpegts", rate=25),
    "jpegs.mov": lambda path: encoded(path, "mjpeg", fmt="yuvj420p"),
    "uneven.mkv": lambda path: write_timed(path, [0, 15, 90, 200, 205, 320, 400, 555]),
    "late.mkv": lambda path: write_timed(path, range(0, 600, 40), offset=5000),
    "surround.mp4": lambda path: video(path, sound=tone(24000, channels=6)),
    "telephone.mp4": lambda path: video(path, sound=tone(4000, 8000), rate=8000),
    "short_sound.mp4": lambda path: video(path, sound=tone(2000)),
    "silence.mp4": lambda path: video(path, sound=torch.zeros(1, 24000)),
    "CAPITALS.MP4": lambda path: encoded(path, "libx264", "mp4"),
    "name with blanks, 漢字.mp4": video,
}
CAPTIONS = {
    "blank": (b"  \n", "its caption is empty"),
    "latin": ("Bärenhöhle".encode("latin-1"), "is not UTF-8 text"),
    "utf16": ("a bear".encode("utf-16"), "is not UTF-8 text"),
    "zero": (b"a\0bear", "is not plain text"),
    "long": (b"a bear " * 20000, "bytes, which no caption has"),
    "none": (None, "has no caption"),
}
FINE_CAPTIONS = {
    "marked": "\ufeffA bear",
    "lines": "A bear.\r\nIt growls.\r\n",
    "chinese": "一只熊",
    "emoji": "a bear 🐻",
    "many_words": "bear " * 2000,
}


def test_each_odd_file_is_used_or_named(encoders, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    wanted = {}
    for name, (write, told) in BAD.items():
        write(data / name)
        (data / name).with_suffix(".txt").write_text("a caption")
        wanted[name] = told
    used = set(ODD) | {f"{name}.mp4" for name in FINE_CAPTIONS}
    for name, write in ODD.items():
        write(data / name)
        (data / name).with_suffix(".txt").write_text("a caption")
    for name, (content, told) in CAPTIONS.items():
        video(data / f"{name}.mp4")
        wanted[f"{name}.mp4"] = told
        if content is not None:
            (data / f"{name}.txt").write_bytes(content)
    for name, text in FINE_CAPTIONS.items():
        video(data / f"{name}.mp4")
        (data / f"{name}.txt").write_text(text, encoding="utf-8", newline="")
    (data / "lonely.txt").write_text("a caption")
    (data / "notes.pdf").write_bytes(b"%PDF")
    (data / "more").mkdir()
    (data / "folder.mp4").mkdir()
    wanted |= {
        "lonely.txt": "is a caption without a clip",
        "notes.pdf": "is no clip",
        "more": "is a folder",
        "folder.mp4": "is a folder",
    }
    assert len(wanted) + len(used) >= 40
    notices = []
    made = prepare(encoders, data, tmp_path / "cache", SHAPES, Runtime(CPU.device, CPU.dtype, notice=notices.append))
    assert {entry.name for entry in made.entries} == used, made.skipped.reasons
    assert made.skipped.reasons.keys() == wanted.keys()
    for name, told in wanted.items():
        assert told in made.skipped.reasons[name], (name, made.skipped.reasons[name])
        assert made.skipped.reasons[name].isprintable()
    cache = Cache(tmp_path / "cache")
    told = {entry.name: cache.told(entry.clip) for entry in made.entries}
    assert {name for name in told if told[name]["sound"]} == {
        "surround.mp4",
        "telephone.mp4",
        "short_sound.mp4",
    }
    for entry in made.entries:
        item = cache.item(entry.clip)
        assert all(latent.isfinite().all() for latent in (item.video, item.audio, item.condition))
        assert item.video.shape[2] in (2, 3)
    assert any("all beyond the first 512 are left out" in notice for notice in notices)
    assert any("cropped away" in notice and "huge_shape" in notice for notice in notices)


def test_a_damaged_or_cut_clip_is_named_or_what_is_whole_of_it_is_used(encoders, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    damaged(data / "damaged.mp4")
    for share in (0.3, 0.6, 0.9):
        cut(data / f"cut_{share}.mp4", share)
    video(data / "whole.mp4")
    for file in list(data.iterdir()):
        file.with_suffix(".txt").write_text("a caption")
    made = prepare(encoders, data, tmp_path / "cache", SHAPES, CPU)
    named = {entry.name for entry in made.entries} | set(made.skipped.reasons)
    assert named == {file.name for file in data.glob("*.mp4")}
    assert "whole.mp4" in {entry.name for entry in made.entries}
