"""MOVA Fit Video: of each kind of VIDEO that ComfyUI has, the frames and the sound that ComfyUI itself would give."""

import pytest
from inside import run_inside

START = """
import io, json, math
from fractions import Fraction
from pathlib import Path
from comfy_api.latest import InputImpl, Types
from pack.mova.clip.media import write_clip
from pack.nodes.fit_video import MOVAFitVideo
from pack.nodes.host import notice

told = []
notice.show = lambda text: told.extend(text.splitlines())
folder = Path(arguments[0])


def write(path, frames, height, width, fps=24.0, sound=True):
    ramp = torch.linspace(0, 200, width).expand(frames, height, width) + 4 * (torch.arange(frames)[:, None, None] % 13)
    pixels = torch.stack([ramp, ramp.flip(2), ramp.roll(7, 1)], -1).to(torch.uint8)
    tone = torch.sin(torch.arange(round(frames / fps * 48000)) * 0.005)[None] * torch.linspace(0.2, 1, 2)[:, None]
    write_clip(path, pixels, fps, tone if sound else None)
    return str(path)


def fit(video, start=0.0, length=193, width=0, height=0, fps=0.0):
    told.clear()
    return MOVAFitVideo.execute(video, start, length, width, height, fps).args
"""

SAME = """
for size in (64, 96), (62, 50):
    file = InputImpl.VideoFromFile(write(folder / "a.mp4", 60, *size))
    kinds = {"a file": file, "trimmed": file.as_trimmed(1.0, 1.0), "the end": file.as_trimmed(-1.0, 0.0)}
    kinds["in memory"] = InputImpl.VideoFromComponents(file.get_components())
    kinds["bytes"] = InputImpl.VideoFromFile(io.BytesIO((folder / "a.mp4").read_bytes()))
    kinds["bytes trimmed"] = kinds["bytes"].as_trimmed(1.0, 1.0)
    for name, video in kinds.items():
        theirs = video.get_components()
        images, audio, length, fps, width, height, _ = fit(video)
        assert length == len(images) == (len(theirs.images) - 1) // 4 * 4 + 1, (name, length, len(theirs.images))
        assert (height, width) == images.shape[1:3] == theirs.images.shape[1:3] and fps == 24, name
        assert float((images - theirs.images[:length]).abs().max()) < 6 / 255, (name, size)
        assert float((images - theirs.images[:length]).mean().abs()) < 1 / 255, (name, size)
        assert audio["sample_rate"] == theirs.audio["sample_rate"] == 48000
        heard, wanted = audio["waveform"], theirs.audio["waveform"]
        assert heard.shape == (1, 2, length * 2000), name
        common = min(heard.shape[-1], wanted.shape[-1]) - 2048
        assert common > 0 and float((heard - wanted[..., : heard.shape[-1]])[..., 2048:common].abs().max()) < 0.02, name
"""


EDITED = """
class Edited(InputImpl.VideoFromFile):
    # As a newer host's, of which a crop is waiting for the frames.
    def has_pending_frame_edits(self):
        return True

    def as_trimmed(self, start_time, duration, strict_duration=True):
        trimmed = super().as_trimmed(start_time, duration, strict_duration)
        whole = trimmed.get_components()
        self.decoded = len(whole.images)
        parts = Types.VideoComponents(
            images=whole.images[:, 8:40, 16:64], audio=whole.audio, frame_rate=whole.frame_rate
        )
        return InputImpl.VideoFromComponents(parts)


video = Edited(write(folder / "a.mp4", 200, 64, 96))
images, audio, length, *_ = fit(video, start=2.0, length=9)
wanted, _, _, *_ = fit(InputImpl.VideoFromFile(str(folder / "a.mp4")), start=2.0, length=9)
assert images.shape == (9, 32, 48, 3) and video.decoded < 60
assert float((images - wanted[:, 8:40, 16:64]).abs().max()) < 6 / 255
assert audio["waveform"].shape == (1, 2, 18000)
"""


def test_frames_and_sound_are_those_that_the_host_decodes_of_each_kind_of_video(host_place, tmp_path):
    """Also of a file whose frames a newer host is yet to crop, which is left to it."""
    run_inside(host_place, START + SAME + EDITED, str(tmp_path))


TOLD = """
def refused(words, *given, **more):
    try:
        fit(*given, **more)
    except Exception as error:
        assert type(error).__name__ == "MovaError" and words in str(error), error
        assert len(str(error).splitlines()) == 1
    else:
        raise AssertionError(words)


video = InputImpl.VideoFromFile(write(folder / "a.mp4", 80, 64, 96, sound=False))
images, audio, *_ = fit(video, width=48, height=32)
assert images.shape == (77, 32, 48, 3) and not audio["waveform"].any()
assert told == [
    "77 frames from 0 s on, 3.21 of 3.33 s, scaled from 96x64 to 48x32.",
    "A clip has 4 k + 1 frames: the last 3 of 80 are left out.",
    "The video has no sound there; silence stands for it.",
], told
fit(video, length=9, width=32, height=96)
assert any("of the video's picture (96 x 64) is cropped away" in text for text in told), told
refused("There is no video in video; connect Load Video.", None)
refused("The video ends at 3.33 s, so there is no frame from 5 s on; begin earlier.", video, start=5.0)
refused("length is -3;", video, length=-3)
refused("width is 1000000;", video, width=1000000)
refused("fps is nan;", video, fps=math.nan)
(folder / "no.mp4").write_bytes(b"nothing" * 1000)
refused("The video cannot be read (", InputImpl.VideoFromFile(str(folder / "no.mp4")))
refused("Frame 1 of the video holds NaN", InputImpl.VideoFromComponents(Types.VideoComponents(
    images=torch.full((5, 8, 8, 3), math.nan)[:1].expand(5, -1, -1, -1).index_fill(0, torch.tensor([0]), 0.0),
    audio=None, frame_rate=Fraction(24))))
"""


MEMORY = """
def more(work):
    # MiB that it takes at its peak; Linux forgets the peak before.
    before = (Path("/proc/self/clear_refs").write_text("5"), memory("VmRSS"))[1]
    work()
    return memory("VmHWM") - before


def memory(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


frame = torch.zeros(1, 360, 640, 3, dtype=torch.uint8)
write_clip(folder / "long.mp4", frame.expand(600, -1, -1, -1), 24.0, None)
video = InputImpl.VideoFromFile(str(folder / "long.mp4"))
fit(InputImpl.VideoFromFile(write(folder / "short.mp4", 9, 64, 96)))
print(more(lambda: fit(video, start=10.0, length=9, width=640, height=352)))
"""


@pytest.mark.skipif("sys.platform != 'linux'", reason="needs Linux: /proc counts a process's memory there")
def test_it_says_what_it_used_and_changed_and_takes_no_memory_for_the_rest(host_place, tmp_path):
    """Nine frames of 640 x 352 are 23 MiB in float32; all 600 of the source, which the host's nodes decode, 1.6 GB."""
    assert float(run_inside(host_place, START + TOLD + MEMORY, str(tmp_path)).splitlines()[-1]) < 150
