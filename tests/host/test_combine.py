"""What MOVA Combine Video gives can be saved by ComfyUI's own encoders, whatever sound and frames it was given."""

import json

from inside import run_inside

SAVED = """
import io, json
import av
from pack.nodes.host import notice
from pack.nodes.video import MOVACombineVideo

told = []
notice.show = lambda text: told.extend(text.splitlines())


def saved(images, sound=None, rate=48000):
    # What is in the file that Save Video's encoder writes, and what the node said.
    told.clear()
    audio = None if sound is None else {"waveform": sound, "sample_rate": rate}
    video = MOVACombineVideo.execute(images, 24.0, audio).args[0]
    notices = list(told)
    file = io.BytesIO()
    video.save_to(file)
    file.seek(0)
    with av.open(file) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(container.streams.video[0])]
    found = {"frames": len(frames), "size": frames[0].shape[:2], "mean": float(frames[0].mean()), "told": notices}
    if sound is None:
        return found
    file.seek(0)
    with av.open(file) as container:
        stream = container.streams.audio[0]
        seconds = sum(frame.samples for frame in container.decode(stream)) / stream.rate
        return {**found, "rate": stream.rate, "channels": stream.channels, "seconds": seconds}


grey = torch.full((24, 32, 48, 3), 0.5)
rates = 48000, 44100, 40000, 176400, 192000, 384000, 37800, 44056, 22254, 6000, 4000, 44101
found = {f"{rate} Hz": saved(grey, 0.1 * torch.randn(1, 2, rate), rate) for rate in rates}
found |= {f"{n} channels": saved(grey, 0.1 * torch.randn(1, n, 48000)) for n in range(1, 10)}
found["half a sound"] = saved(grey, 0.1 * torch.randn(1, 2, 20000), 40000.0)
found["transparent"] = saved(torch.cat([grey * 0, grey[..., :1] * 0], -1))
found["solid"] = saved(torch.cat([grey * 0, grey[..., :1] * 0 + 1], -1))
found["odd"] = saved(grey[:, :31, :47])
found["one pixel"] = saved(grey[:, :1, :1])
print(json.dumps(found))
"""


def test_any_sound_and_any_frames_can_be_saved_and_what_was_done_is_said(host_place):
    found = json.loads(run_inside(host_place, SAVED).splitlines()[-1])
    for name, clip in found.items():
        assert clip["frames"] == 24, name
        if "rate" in clip:
            assert abs(clip["seconds"] - 1) < 2 * 1024 / clip["rate"], (name, clip)
    for given, fitting in (
        (48000, 48000), (44100, 44100), (40000, 44100), (176400, 96000), (192000, 96000), (384000, 96000),
        (37800, 44100), (44056, 44100), (22254, 24000), (6000, 7350), (4000, 7350), (44101, 48000),
    ):  # fmt: skip
        clip = found[f"{given} Hz"]
        told = [f"The sound is resampled from {given} to {fitting} Hz, which AAC has."]
        assert clip["rate"] == fitting and clip["channels"] == 2 and clip["told"] == told * (given != fitting), clip
    heard = [found[f"{n} channels"]["channels"] for n in range(1, 10)]
    assert heard == [1, 2, 2, 2, 2, 6, 2, 2, 1]
    assert [bool(found[f"{n} channels"]["told"]) for n in range(1, 10)] == [n not in (1, 2, 6) for n in range(1, 10)]
    assert found["half a sound"]["rate"] == 44100
    assert found["transparent"]["mean"] > 250 and "put on white" in found["transparent"]["told"][0]
    assert found["solid"]["mean"] < 5 and not found["solid"]["told"]
    assert found["odd"]["size"] == [30, 46] and "47x31 are made 46x30" in found["odd"]["told"][0]
    assert found["one pixel"]["size"] == [2, 2]
