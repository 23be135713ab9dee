"""What counts interrupts and looks at the memory of many runs (make interrupts, make many-runs) sees what is wrong."""

import sys

import pytest
from clips import moving_frames, tone

if sys.platform != "linux":
    pytest.skip("needs Linux: /proc counts a process's memory there", allow_module_level=True)

import many_runs
from interrupts import LATENTS, Moment, counted, faults_of_the_next, left_alone, not_whole, tried
from many_runs import Reading, growth
from small_workflows import write_media

from mova.clip.media import write_clip

NAME = "mova_2_text_to_video_with_sound"


@pytest.fixture(scope="module")
def place(server, files):
    for path in (server.base / "output/mova_runs").glob("*"):
        path.unlink()
    write_media(server.base)
    return server


@pytest.fixture(scope="module")
def alone(place):
    return left_alone(place, NAME)


def test_a_run_is_interrupted_in_a_step_and_goes_on_and_what_would_be_wrong_is_told(place, alone):
    moments, wanted = alone
    (sampler,) = {moment.node for moment in moments if moment.step == 5}
    assert [moment.step for moment in moments if moment.node == sampler] == [0, 1, 2, 3, 4, 5, 6]
    found = tried(place, NAME, Moment(sampler, 4), wanted)
    assert found["heard"] and found["at"] == "MOVAJointSampler" and not found["faults"], found
    assert "MOVAJointSampler, step 4: 1 pressed, 1 ended the run" in counted([found])
    others = {part: tensor + 1 for part, tensor in wanted.items()}
    kept = place.base / "output/mova_runs/other.run.safetensors"
    kept.write_bytes(b"no run")
    faults = [*faults_of_the_next(place, NAME, others, set())]
    kept.unlink()
    assert "the next run's latents are others" in faults and any("is kept behind" in fault for fault in faults)


def test_a_file_that_is_not_whole_is_told(tmp_path):
    clip = tmp_path / "clip.mp4"
    write_clip(clip, moving_frames(9), 24, tone(18000))
    assert not_whole(clip) == ""
    clip.write_bytes(clip.read_bytes()[:-100])
    assert "is cut off" in not_whole(clip)
    write_clip(clip, moving_frames(5), 24, tone(10000))
    assert not_whole(clip) == "5 frames, sound: True"
    for name in (".a.mova-00000000.part", "cut.conditioning.safetensors", "mova_runs/cut.run.safetensors"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"cut")
        assert not_whole(path), name
    assert not_whole(tmp_path / LATENTS) == ""


def test_growth_is_of_the_largest_reading_and_a_run_that_fails_ends_the_count(place, monkeypatch):
    readings = [Reading(n, memory, 0, 0) for n, memory in ((100, 1000), (150, 1030), (200, 1000))]
    assert growth(readings) == pytest.approx(0.03)
    many_runs.run(place, 1, core=True)
    monkeypatch.setattr(many_runs, "of_core_nodes", lambda number: {"1": {"class_type": "SaveVideo", "inputs": {}}})
    with pytest.raises(SystemExit, match=r"run 1 .* failed"):
        many_runs.run(place, 1, core=True)
