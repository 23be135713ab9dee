"""Conditionings for a part of the picture, and sound that is not there: told before any weight is loaded."""

import pytest
from bench import Bench
from client import refusal
from graphs import numbers, ref
from host_source import Host
from inside import run_inside
from packs import pack_server

PARTS = {
    "ConditioningSetArea": ({"width": 64, "height": 64, "x": 0, "y": 0, "strength": 1.0}, "Set Area"),
    "ConditioningSetAreaPercentage": ({"width": 0.5, "height": 0.5, "x": 0, "y": 0, "strength": 1.0}, "Set Area"),
    "ConditioningSetMask": ({"strength": 1.0, "set_cond_area": "default"}, "Set Mask"),
}


@pytest.mark.parametrize("node", PARTS)
@pytest.mark.parametrize("way", ["ksampler", "joint", "guider"])
def test_a_conditioning_for_a_part_of_the_picture_is_refused_before_weights_are_loaded(server, files, node, way):
    bench = Bench(server)
    inputs, name = PARTS[node]
    if node == "ConditioningSetMask":
        inputs = {**inputs, "mask": ref(bench.add("SolidMask", value=1.0, width=96, height=64))}
    positive = ref(bench.add(node, conditioning=ref(bench.given), **inputs))
    if way == "guider":
        conds = {"positive": positive, "negative": ref(bench.given, 1), "cfg": 2.0}
        guider = ref(bench.add("MOVAGuider", model=bench.plain_model, **conds))
        sigmas = ref(bench.add("MOVAScheduler", steps=2, shift=5.0, denoise=1.0))
        sampler = bench.custom(guider, sigmas, ref(bench.given, 3), ref(bench.given, 2))
    else:
        sampler = getattr(bench, way)(bench.plain_model, bench.given)
        bench.nodes[sampler]["inputs"]["positive"] = positive
    bench.save(ref(sampler))
    before = len(server.logged())
    assert refusal(server, bench) == (
        f"The conditioning is for a part of the picture (Conditioning ({name})), but MOVA's is for all of video and "
        "audio; leave that node out."
    )
    assert "weights are asked for" not in server.logged()[before:]


@pytest.fixture(scope="module")
def vhs(host_place, tmp_path_factory):
    from small_workflows import write_media

    with pack_server(host_place, tmp_path_factory.mktemp("silent"), "ComfyUI-VideoHelperSuite") as server:
        write_media(server.base)  # a clip without sound
        yield server


def loaded(bench):
    cut = {"frame_load_cap": 9, "skip_first_frames": 0, "select_every_nth": 1, "force_rate": 0}
    return bench.add("VHS_LoadVideo", video="small.mp4", custom_width=0, custom_height=0, format="None", **cut)


@pytest.mark.parametrize("what", ["encode", "combine"])
def test_a_silent_clip_of_video_helper_suite_is_told_in_one_sentence(host_place, vhs, what):
    bench = Bench(vhs)
    clip = loaded(bench)
    if what == "encode":
        made = bench.add("MOVAAudioEncode", audio=ref(clip, 2), audio_vae=bench.audio_vae(), length=9, fps=24.0)
        bench.save(ref(made))
    else:
        video = ref(bench.add("MOVACombineVideo", images=ref(clip), fps=24.0, audio=ref(clip, 2)))
        bench.add("SaveVideo", video=video, filename_prefix="silent", format="auto", codec="auto")
    result = vhs.run(bench.nodes)
    if Host(host_place[0]).version >= (0, 33):  # opens the sound itself, when the clip is loaded: nothing of ours runs
        assert result.node == clip and result.error.startswith("VHS failed to extract audio from ")
        return
    assert result.node == (made if what == "encode" else video[0])
    assert result.error.startswith("The sound in audio cannot be read (the video it is from may have none): ")
    assert (
        result.error.endswith("; leave it out.") and "\n" not in result.error and "ffmpeg version" not in result.error
    )


SILENT = """
from collections.abc import Mapping
from pack.nodes.checks import check_audio


class Lazy(Mapping):
    def __getitem__(self, key):
        raise Exception("failed to extract audio from clip.mp4:\\nffmpeg version 9\\n  built with gcc")

    __iter__ = __len__ = None


try:
    check_audio(Lazy())
except Exception as error:
    print(error)
"""


def test_sound_that_cannot_be_read_when_it_is_asked_for_is_told_in_one_sentence(host_place):
    assert run_inside(host_place, SILENT) == (
        "The sound in audio cannot be read (the video it is from may have none): 'failed to extract audio from "
        "clip.mp4:'; leave it out.\n"
    )


def test_a_clip_with_sound_of_video_helper_suite_is_encoded(vhs):
    """So that the sentence is told of silent clips alone."""
    import av

    path = vhs.base / "input/small.mp4"
    tone = numbers("tone", 1, 4410).clamp(-1, 1) * 0.1
    with av.open(str(path), "w") as file:
        pictures = file.add_stream("mpeg4", rate=24)
        pictures.width, pictures.height, pictures.pix_fmt = 96, 64, "yuv420p"
        sound = file.add_stream("aac", rate=44100, layout="mono")
        for i in range(12):
            frame = av.VideoFrame(96, 64, "yuv420p")
            frame.pts = i
            file.mux(pictures.encode(frame))
        samples = av.AudioFrame.from_ndarray(tone.numpy(), format="fltp", layout="mono")
        samples.sample_rate, samples.pts = 44100, 0
        file.mux([*sound.encode(samples), *sound.encode(None), *pictures.encode(None)])
    bench = Bench(vhs)
    made = bench.add("MOVAAudioEncode", audio=ref(loaded(bench), 2), audio_vae=bench.audio_vae(), length=9, fps=24.0)
    (found,) = bench.results(ref(made))
    assert found["samples"].shape == (1, 128, 19)
