"""What a latent of two parts, or sound, or a conditioning for a part of the picture is not for, in our words."""

import pytest
from bench import Bench
from client import refusal
from graphs import numbers, ref
from host_source import Host
from inside import run_inside
from packs import pack_server
from refused import says

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
    sentence = (
        f"The conditioning is for a part of the picture (Conditioning ({name})), but MOVA's is for all of video and "
        "audio; leave that node out."
    )
    found = refusal(server, bench)
    assert says(found, sentence) and len(found) == len(sentence)
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
    sentence = "Leave it out: The sound in audio cannot be read (the video it is from may have none): "
    assert result.error.startswith(sentence)
    assert "\n" not in result.error and "ffmpeg version" not in result.error


SILENT = """
from collections.abc import Mapping
from pack.nodes.host.checks import check_audio


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


REFUSED = """
import operator
import numpy as np
from comfy.nested_tensor import NestedTensor
from pack.mova import MovaError
from pack.nodes.host.checks import check_audio, check_latent_shapes
from pack.nodes.host.nested import AudioVideoLatent
from pack.nodes.latents import MOVACombineLatent


def told(wanted, call, *given, **named):
    try:
        found = call(*given, **named)
    except MovaError as error:
        assert wanted in str(error), f"{error}, not {wanted}"
    else:
        raise AssertionError(f"{found} instead of {wanted}")


def same(found, wanted):
    return type(found) is AudioVideoLatent and all(map(torch.equal, found.tensors, wanted))


def fresh(*sizes):
    return AudioVideoLatent([torch.randn(2, 16, *(sizes or (9, 4, 6))), torch.randn(2, 128, 69)])


latent, other = fresh(), fresh()
video, audio = latent.tensors
PLAIN = "split it with MOVA Separate Latent"
asks = "This node takes latents of one part (it asks for "

# Tensors beside a latent: one number, whatever its shape, or nothing.
for number in torch.tensor(2.0), torch.full((1, 1, 1, 1, 1), 2.0), torch.full((1,), 2.0):
    assert same(latent * number, [video * 2, audio * 2]) and same(torch.mul(latent, number), [video * 2, audio * 2])
    assert same(number * latent, [2 * video, 2 * audio]) and same(number + latent, [2 + video, 2 + audio])
    assert same(number - latent, [2 - video, 2 - audio]) and same(latent / number, [video / 2, audio / 2])
    between = [torch.lerp(*pair, 0.5) for pair in zip(latent.tensors, other.tensors)]
    assert same(torch.lerp(latent, other, number / 4), between)
for shape in (1, 1, 9, 1, 1), (9, 1, 1), (2, 1, 1, 1, 1), (1, 69), (0,), (2, 16, 9, 4, 6):
    tensor = torch.ones(shape)
    for call in operator.mul, operator.add, operator.sub, operator.truediv, torch.mul, torch.add:
        told(PLAIN, call, latent, tensor)
    for call in operator.mul, operator.add, operator.sub:
        told(PLAIN, call, tensor, latent)
    told(PLAIN, torch.lerp, latent, other, tensor)
    told(PLAIN, torch.lerp, latent, other, weight=tensor)
    told(PLAIN, torch.cat, [latent, tensor])
told("do not go together", torch.add, latent, other=fresh(8, 4, 6))
told("cannot be one batch", torch.cat, [latent, fresh(8, 4, 6)])

# Latents of another kind.
for parts in ([video], [video, audio, audio], [video, torch.randn(2, 8, 25, 16)], [video, torch.randn(1, 1, 1, 1)]):
    theirs = NestedTensor(parts)
    for call in operator.add, operator.mul, operator.sub, operator.truediv:
        told("both video and audio" if len(parts) == 2 else PLAIN, call, latent, theirs)
        told("", call, theirs, latent)

# Nothing is written before all of it fits.
before = [part.clone() for part in latent.tensors]
longer = AudioVideoLatent([video, torch.randn(2, 128, 70)])
three = AudioVideoLatent([torch.cat([part, part[:1]]) for part in other.tensors])
for index, value, words in ((slice(None), longer, "do not go together"), (slice(None), three, "do not go together"),
                            (0, other, "do not go together"), (slice(0, 1), video[:1], PLAIN),
                            (0, NestedTensor([video[0]]), PLAIN), (slice(0, 0), other, "do not go together")):
    told(words, latent.__setitem__, index, value)
    assert same(latent, before)
latent[1:2, ...] = other[0:1]
assert same(latent, [torch.cat([a[:1], b[:1]]) for a, b in zip(before, other.tensors)])
latent[:] = AudioVideoLatent([part[:1] for part in before])  # along the batch, as torch does
assert same(latent, [torch.cat([a[:1]] * 2) for a in before])
latent[0] = torch.ones(1, 1)
assert same(latent[0:1], [torch.ones_like(a[:1]) for a in before])

# What is taken of a batch.
latent = other
video, audio = latent.tensors
for index in slice(0, 1), -1, [1, 0], torch.tensor([1]), torch.tensor([True, False]), np.int64(1):
    assert same(latent[index], [video[index], audio[index]]) and same(latent[index, ...], [video[index], audio[index]])
assert len([*iter(latent)]) == 2 and all(same(one, [v, a]) for one, v, a in zip(latent, video, audio))
for index in 5, -3, [0, 2], torch.tensor([7]), [True], torch.ones(3) > 0, slice(None, None, -1):
    told("in a latent of 2 clip(s)", latent.__getitem__, index)
masks = video > 0, torch.ones(2, 1) > 0, torch.zeros(2, 2, dtype=torch.long), True
for index in *masks, None, ..., (..., 0), (0, ..., 0):
    told(PLAIN, latent.__getitem__, index)
second = latent.narrow(0, 1, 1), latent.narrow(0, -1, 1), latent.narrow(0, start=1, length=1)
for narrowed in *second, torch.narrow(latent, 0, 1, 1):
    assert same(narrowed, [video[1:], audio[1:]])
for call in latent.narrow, lambda *given: torch.narrow(latent, *given):
    for given in (0, 1, 2), (0, 3, 0), (0, -3, 1), (0, 0, -1):
        told("in a latent of 2 clip(s)", call, *given)

# Operators without a meaning here, and those with one.
for call in operator.lt, operator.le, operator.gt, operator.ge, operator.pow, operator.mod, operator.floordiv, divmod:
    for pair in (latent, 2), (latent, latent), (2, latent):
        told(asks, call, *pair)
told(asks, operator.truediv, 2, latent)
told(asks, operator.truediv, torch.tensor(2.0), latent)
told(asks, operator.lt, torch.tensor(2.0), latent)
told(asks, latent.chunk, 2)
told(asks, torch.chunk, latent, 2)
assert same(abs(latent), [video.abs(), audio.abs()])
assert latent == latent and latent != latent.clone() and latent in {latent}
assert same(latent.clone(memory_format=torch.contiguous_format), [video, audio])

# Combine Latent, and what samples.
packed = latent.contiguous()
for given in (packed * 0.5, packed * 0.5), (video, packed * 0.5), (packed * 0.5, audio):
    told("A packed latent was changed", MOVACombineLatent.execute, *({"samples": part} for part in given))
two, one = {"samples": video}, {"samples": audio[:1]}
told("The latent has 2 video(s) but 1 audio(s); give both the same batch size.", MOVACombineLatent.execute, two, one)
both = {"samples": packed}
assert same(MOVACombineLatent.execute(both, both).args[0]["samples"], [video, audio])

# Sound.
sound = torch.zeros(1, 1, 3)
for rate in 0, -48000, 10, 10.5, 100_000_001, 2**31 - 1, float("nan"), float("inf"):
    wanted = f"The sound in audio has a sample rate of {rate}, not from 11 to 100000000; load another."
    told(wanted, check_audio, {"waveform": sound, "sample_rate": rate})
for rate in 11, 100_000_000:
    check_audio({"waveform": sound, "sample_rate": rate})
"""


def test_a_latent_of_two_parts_does_what_means_something_for_both_and_says_so_of_the_rest(host_place):
    run_inside(host_place, REFUSED)
