"""Pictures, videos and sounds as no workflow hopes for: odd sizes, rates, channels, formats, and damage."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

RATES = (1, 4000, 8000, 11025, 22254, 37800, 40000, 44056, 44101, 48000, 96000, 176400, 192000, 384000)


def pictures(folder: Path) -> list[str]:
    draw = np.random.default_rng(0)

    def pixels(height, width, channels=3, dtype=np.uint8):
        return draw.integers(0, np.iinfo(dtype).max, (height, width, channels), dtype=dtype).squeeze()

    made = {
        "one_pixel.png": Image.fromarray(pixels(1, 1).reshape(1, 1, 3)),
        "odd.png": Image.fromarray(pixels(33, 47)),
        "flat.png": Image.fromarray(pixels(2, 4000)),
        "tall.png": Image.fromarray(pixels(4000, 2)),
        "alpha.png": Image.fromarray(pixels(32, 48, 4)),
        "grey.png": Image.fromarray(pixels(32, 48, 1)),
        "deep.png": Image.fromarray(pixels(32, 48, 1, np.uint16)),
        "palette.gif": Image.fromarray(pixels(32, 48)).quantize(16),
        "cmyk.jpg": Image.fromarray(pixels(32, 48)).convert("CMYK"),
        "bilevel.png": Image.fromarray(pixels(32, 48)).convert("1"),
    }
    for name, picture in made.items():
        picture.save(folder / name)
    frames = [Image.fromarray(pixels(32, 48)) for _ in range(3)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    turned = Image.fromarray(pixels(32, 48))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(folder / "turned.jpg", exif=exif)
    return [*made, "moving.gif", "turned.jpg", *damaged(folder, "odd.png")]


def damaged(folder: Path, name: str) -> list[str]:
    """Half of a file, a file with bytes changed, an empty one, and one that is text."""
    content = (folder / name).read_bytes()
    stem, suffix = name.rsplit(".", 1)
    changed = bytearray(content)
    for place in np.random.default_rng(1).integers(0, len(changed), 20):
        changed[place] ^= 0x55
    versions = {"half": content[: len(content) // 2], "changed": bytes(changed), "empty": b"", "text": b"no medium\n"}
    for what, version in versions.items():
        (folder / f"{stem}_{what}.{suffix}").write_bytes(version)
    return [f"{stem}_{what}.{suffix}" for what in versions]


def video(path: Path, count=12, size=(64, 48), rate=24, codec="libx264", pixel="yuv420p", sound=None, times=None):
    """`sound`: (rate, layout, seconds); `times`: milliseconds of the frames, in place of a rate."""
    width, height = size
    draw = np.random.default_rng(2)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(rate).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = width, height, pixel
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        if sound:
            audio = container.add_stream("aac" if path.suffix == ".mp4" else "flac", rate=sound[0], layout=sound[1])
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(draw.integers(0, 255, (height, width, 3), dtype=np.uint8), "rgb24")
            if times:
                frame.pts, frame.time_base = times[i], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound:
            add_sound(container, audio, *sound)


def add_sound(container, stream, rate, layout, seconds):
    channels = av.AudioLayout(layout).nb_channels
    samples = (8000 * np.sin(np.arange(max(1, round(rate * seconds))) / 20)).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(np.repeat(samples, channels)[None], "s16", layout)
    frame.sample_rate, frame.pts = rate, 0
    resampler = av.AudioResampler(stream.codec_context.format, layout, rate, stream.codec_context.frame_size or 4096)
    for part in [*resampler.resample(frame), *resampler.resample(None)]:
        container.mux(stream.encode(part))
    container.mux(stream.encode(None))


def videos(folder: Path) -> list[str]:
    lossless = {"codec": "ffv1", "pixel": "bgr0"}
    made = {
        "one_frame.mp4": {"count": 1},
        "two_frames.mp4": {"count": 2},
        "long.mp4": {"count": 400, "size": (32, 32)},
        "odd.mkv": {"size": (65, 47), **lossless},
        "tiny.mkv": {"size": (1, 1), **lossless},
        "wide.mkv": {"size": (2000, 8), **lossless},
        "deep.mkv": {"codec": "ffv1", "pixel": "yuv420p10le"},
        "slow.mp4": {"rate": 1},
        "film.mp4": {"rate": Fraction(24000, 1001)},
        "fast.mp4": {"rate": 240, "count": 40},
        "creep.mkv": {"rate": Fraction(1, 3), **lossless},
        "with_sound.mp4": {"sound": (48000, "stereo", 0.5)},
        "short_sound.mp4": {"sound": (8000, "mono", 0.1)},
        "long_sound.mp4": {"sound": (44100, "stereo", 8)},
        "surround.mkv": {"sound": (96000, "7.1", 0.5)},
        "rate_44101.mkv": {"sound": (44101, "stereo", 0.5)},
        "uneven.mkv": {"times": [0, 40, 41, 200, 210, 220, 500, 900, 901, 902, 1000, 1500], **lossless},
        "late.mkv": {"times": [5000 + 40 * i for i in range(12)], **lossless},
    }
    for name, how in made.items():
        video(folder / name, **how)
    with av.open(str(folder / "sound_only.mp4"), "w") as container:
        add_sound(container, container.add_stream("aac", rate=48000, layout="mono"), 48000, "mono", 0.5)
    return [*made, "sound_only.mp4", *damaged(folder, "with_sound.mp4")]


def wav(path: Path, samples: np.ndarray, rate: int) -> None:
    """[samples, channels] of float32 or int16, whatever is in them."""
    data, channels, width = samples.tobytes(), samples.shape[1], samples.itemsize
    kind = 3 if samples.dtype == np.float32 else 1
    form = struct.pack(
        "<HHIIHH", kind, channels, rate, min(rate * channels * width, 2**32 - 1), channels * width, 8 * width
    )
    size = 4 + 8 + len(form) + 8 + len(data)
    head = b"RIFF" + struct.pack("<I", size) + b"WAVEfmt " + struct.pack("<I", len(form)) + form
    path.write_bytes(head + b"data" + struct.pack("<I", len(data)) + data)


def sounds(folder: Path) -> list[str]:
    def tone(samples, channels):
        wave = 8000 * np.sin(np.arange(samples) / 20)
        return np.repeat(wave.astype(np.int16)[:, None], channels, axis=1)

    made = {f"rate_{rate}.wav": (tone(max(1, rate // 4), 2), rate) for rate in RATES}
    made |= {f"channels_{n}.wav": (tone(12000, n), 48000) for n in (1, 3, 4, 5, 6, 7, 8)}
    made |= {
        "none.wav": (tone(0, 2), 48000),
        "one_sample.wav": (tone(1, 1), 48000),
        "minutes.wav": (tone(8000 * 300, 1), 8000),
        "silence.wav": (np.zeros((12000, 2), np.int16), 48000),
        "nan.wav": (np.full((12000, 2), np.nan, np.float32), 48000),
        "infinite.wav": (np.full((12000, 2), np.inf, np.float32), 48000),
        "loud.wav": (np.full((12000, 2), 1e20, np.float32), 48000),
    }
    for name, (samples, rate) in made.items():
        wav(folder / name, samples, rate)
    return [*made, *damaged(folder, "rate_48000.wav")]


def write_odd_media(folder: Path) -> dict[str, list[str]]:
    """All of them, by the host's loader whose files they are."""
    folder.mkdir(parents=True, exist_ok=True)
    return {"LoadImage": pictures(folder), "LoadVideo": videos(folder), "LoadAudio": sounds(folder)}
