"""The latent of video and audio in nodes that are made for a latent of one part, of ComfyUI and of other packs."""

import pytest
import torch
from bench import AUDIO, VIDEO, Bench, differ
from client import refusal
from graphs import numbers, ref
from inside import run_inside
from packs import pack_server
from refused import says

PLAIN = "split it with MOVA Separate Latent, and join it again with MOVA Combine Latent."
WAYS = "our node", "KSampler", "LTXVConcatAVLatent"


def two(bench, way="our node", batch=2, name="one"):
    """A latent of a batch, as `way` gives it, and the same as a reference."""
    parts = {"video": numbers(f"{name}v", batch, *VIDEO[1:]), "audio": numbers(f"{name}a", batch, *AUDIO[1:])}
    given = bench.latent(**parts) if name == "one" else named(bench, name, parts)
    if way == "KSampler":
        return bench.sample(bench.plain_model, latent=given, steps=1, denoise=0.5)
    video, audio = bench.both_parts(given)
    if way == "LTXVConcatAVLatent":
        return ref(bench.add(way, video_latent=video, audio_latent=audio))
    return bench.together(video, audio)


def named(bench, name, parts):
    from safetensors.torch import save_file

    save_file(parts, bench.server.base / f"input/{name}.safetensors")
    return ref(bench.add("ProbeGivenLatent", file=f"{name}.safetensors"))


def same(found, wanted):
    return all(torch.equal(found[name], wanted[name]) for name in ("video", "audio"))


@pytest.mark.parametrize("way", WAYS)
def test_nodes_that_work_along_the_batch_do_so_with_both_parts(server, files, way):
    bench = Bench(server)
    latent = two(bench, way)
    repeated = ref(bench.add("RepeatLatentBatch", samples=latent, amount=2))
    second = ref(bench.add("LatentFromBatch", samples=latent, batch_index=1, length=1))
    joined = ref(bench.add("LatentBatch", samples1=latent, samples2=second))
    seeds = ref(bench.add("LatentBatchSeedBehavior", samples=latent, seed_behavior="fixed"))
    given, repeated, second, joined, seeds = bench.results(latent, repeated, second, joined, seeds)
    both = {name: torch.cat([given[name]] * 2) for name in given}
    assert same(repeated, both) and same(seeds, given)
    assert same(second, {name: part[1:] for name, part in given.items()})
    assert same(joined, {name: torch.cat([part, part[1:]]) for name, part in given.items()})


@pytest.mark.parametrize("way", WAYS)
def test_arithmetic_is_done_with_both_parts(server, files, way):
    bench = Bench(server)
    one, other = two(bench, way, 1), two(bench, "our node", 1, "other")
    nodes = {
        "LatentAdd": ({}, lambda a, b: a + b),
        "LatentSubtract": ({}, lambda a, b: a - b),
        "LatentInterpolate": ({"ratio": 0.3}, between),
        "LatentBlend": ({"blend_factor": 0.25}, lambda a, b: a * 0.25 + b * 0.75),
    }
    made = [ref(bench.add(n, samples1=one, samples2=other, **inputs)) for n, (inputs, _) in nodes.items()]
    half = ref(bench.add("LatentMultiply", samples=one, multiplier=0.5))
    a, b, half, *found = bench.results(one, other, half, *made)
    assert same(half, {name: part * 0.5 for name, part in a.items()})
    for latent, (_, function) in zip(found, nodes.values(), strict=True):
        assert differ(latent, {name: function(a[name], b[name]) for name in a}) < 1e-5


def between(one, other, ratio=0.3):
    """Of one direction between two over the channels, and of a length between theirs."""
    lengths = [part.norm(dim=1, keepdim=True) for part in (one, other)]
    direction = one / lengths[0] * ratio + other / lengths[1] * (1 - ratio)
    return direction / direction.norm(dim=1, keepdim=True) * (lengths[0] * ratio + lengths[1] * (1 - ratio))


def test_a_latent_is_pasted_whole_or_trimmed_by_nothing(server, files):
    bench = Bench(server)
    one, other = two(bench, batch=1), two(bench, batch=1, name="other")
    pasted = ref(bench.add("LatentComposite", samples_to=one, samples_from=other, x=0, y=0, feather=0))
    replaced = ref(bench.add("ReplaceVideoLatentFrames", destination=one, source=other, index=0))
    trimmed = ref(bench.add("TrimVideoLatent", samples=one, trim_amount=0))
    one, other, *made, trimmed = bench.results(one, other, pasted, replaced, trimmed)
    assert all(same(latent, other) for latent in made) and same(trimmed, one)


REFUSED = {
    "LatentCut": {"dim": "t", "index": 0, "amount": 1},
    "LatentCutToBatch": {"dim": "t", "slice_size": 1},
    "LatentFlip": {"flip_method": "x-axis: vertically"},
    "LatentRotate": {"rotation": "90 degrees"},
    "LatentUpscale": {"upscale_method": "bilinear", "width": 192, "height": 128, "crop": "disabled"},
    "LatentUpscaleBy": {"upscale_method": "bilinear", "scale_by": 2.0},
    "TrimVideoLatent": {"trim_amount": 1},
    "RebatchLatents": {"batch_size": 1},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("node", REFUSED)
def test_what_has_no_meaning_for_the_sound_is_refused_in_our_words(server, files, node, way):
    bench = Bench(server)
    slot = "latents" if node == "RebatchLatents" else "samples"
    bench.save(ref(bench.add(node, **{slot: two(bench, way, 1)}, **REFUSED[node])))
    found = refusal(server, bench)
    assert found.startswith("This node takes latents of one part (it asks for ") and found.endswith(PLAIN)


def test_a_crop_is_refused_in_our_words(server, files):
    bench = Bench(server)
    tall = {"video": numbers("tall", 1, 16, 3, 16, 12), "audio": numbers("ta", *AUDIO)}
    bench.save(ref(bench.add("LatentCrop", samples=named(bench, "tall", tall), width=64, height=64, x=0, y=0)))
    assert refusal(server, bench).endswith(PLAIN)


TWO_LATENTS = {
    "LatentConcat": ({"dim": "t"}, "samples1", "samples2"),
    "LatentComposite": ({"x": 8, "y": 0, "feather": 8}, "samples_to", "samples_from"),
    "LatentCompositeMasked": ({"x": 8, "y": 0, "resize_source": False}, "destination", "source"),
}


@pytest.mark.parametrize("node", TWO_LATENTS)
def test_what_joins_two_latents_in_space_or_time_is_refused_in_our_words(server, files, node):
    bench = Bench(server)
    inputs, *slots = TWO_LATENTS[node]
    latents = dict(zip(slots, (two(bench, batch=1), two(bench, "KSampler", 1)), strict=True))
    bench.save(ref(bench.add(node, **latents, **inputs)))
    assert refusal(server, bench).endswith(PLAIN)


@pytest.mark.parametrize("operation", ["LatentOperationTonemapReinhard", "LatentOperationSharpen"])
def test_operations_on_pictures_are_refused_in_our_words(server, files, operation):
    bench = Bench(server)
    settings = {"multiplier": 1.0} if "Tonemap" in operation else {"sharpen_radius": 1, "sigma": 1.0, "alpha": 0.1}
    made = ref(bench.add(operation, **settings))
    bench.save(ref(bench.add("LatentApplyOperation", samples=two(bench, batch=1), operation=made)))
    assert refusal(server, bench).endswith(PLAIN)


@pytest.mark.parametrize("node", ["LatentAdd", "LatentInterpolate", "LatentBatch", "ReplaceVideoLatentFrames"])
@pytest.mark.parametrize("first", ["both", "video"])
def test_a_latent_of_one_part_does_not_go_with_one_of_two(server, files, node, first):
    bench = Bench(server)
    latents = [two(bench, batch=1), bench.video(bench.latent())]
    slots = ("destination", "source") if node == "ReplaceVideoLatentFrames" else ("samples1", "samples2")
    more = {"LatentInterpolate": {"ratio": 0.5}, "ReplaceVideoLatentFrames": {"index": 0}}.get(node, {})
    bench.save(
        ref(bench.add(node, **dict(zip(slots, latents if first == "both" else latents[::-1], strict=True)), **more))
    )
    found = refusal(server, bench)
    assert "MOVA Separate Latent" in found or "give both video and audio" in found


def test_sounds_of_two_lengths_do_not_go_together(server, files):
    bench = Bench(server)
    longer = named(bench, "longer", {"video": numbers("lv", *VIDEO), "audio": numbers("la", 1, 128, 12)})
    bench.save(ref(bench.add("LatentAdd", samples1=two(bench, batch=1), samples2=longer)))
    assert refusal(server, bench) == (
        "Latents of the sizes [1, 128, 11] and [1, 128, 12] do not go together; give both video and audio, of the same "
        "size, length and batch."
    )


@pytest.mark.parametrize("way", ["ksampler", "joint"])
def test_a_loaded_latent_is_sampled_behind_combine_latent_and_refused_before(server, files, way):
    bench = Bench(server)
    node = bench.add("SaveLatent", samples=two(bench), filename_prefix="latents/batch")
    name = "{subfolder}/{filename} [output]".format(**bench.run().outputs[node]["latents"][0])
    bench = Bench(server)
    loaded, sample = ref(bench.add("LoadLatent", latent=name)), getattr(bench, way)
    settings = {"steps": 2, "denoise": 0.5}
    combined = [sample(bench.plain_model, bench.given, one, **settings)
                for one in (bench.together(loaded, loaded), two(bench))]  # fmt: skip
    found, wanted = bench.results(*map(ref, combined))
    assert differ(found, wanted) == 0
    bench = Bench(server)
    bench.save(ref(getattr(bench, way)(bench.plain_model, bench.given, ref(bench.add("LoadLatent", latent=name)))))
    sentence = (
        "The latent of video and audio is packed into one tensor, as Save Latent keeps it; connect it to both "
        "inputs of MOVA Combine Latent, and take that."
    )
    found = refusal(server, bench)
    assert says(found, sentence) and len(found) == len(sentence)


INSIDE = """
import copy
from comfy.nested_tensor import NestedTensor
from pack.nodes.host.nested import AudioVideoLatent, adopt, from_file

for _ in range(2):
    adopt()
video, audio = torch.randn(2, 16, 3, 4, 6), torch.randn(2, 128, 19).bfloat16()
latent = NestedTensor([video, audio])
for ours in latent, latent.to(torch.float64), copy.copy(latent), copy.deepcopy(latent), latent.clone(), 2 * latent - 1:
    assert type(ours) is AudioVideoLatent and len(ours.tensors) == 2 and ours
assert torch.equal((1 - latent).tensors[0], 1 - video)
latent[0] = AudioVideoLatent([video[1], audio[1]])
assert torch.equal(latent.tensors[0][0], video[1]) and torch.equal(latent.tensors[1][0], audio[1])
latent[:, :, :] = 0.0
assert not latent.tensors[1].any()
for wrong in (lambda: latent.__setitem__((slice(None), slice(None), 0), 0.0), lambda: len(latent),
              lambda: latent[..., 0], lambda: video + latent, lambda: latent + torch.ones(7),
              lambda: torch.flip(latent, [2]),
              lambda: latent.movedim(1, 0), lambda: torch.cat([latent, video])):
    try:
        wrong()
    except Exception as error:
        assert "MOVA Separate Latent" in str(error) or "give both video and audio" in str(error), error
    else:
        raise AssertionError("not refused")

# Other models' latents of two parts, and masks, are the host's as they were.
for others in ([video, torch.randn(1, 8, 25, 16)], [video[:, :1], audio[:, :1]], [video], [audio, video]):
    theirs = NestedTensor(others)
    assert type(theirs) is NestedTensor and type(theirs * 2) is NestedTensor and not hasattr(theirs, "reshape")

# Both parts in one tensor, and what only looks like it.
latent = NestedTensor([video, audio])
saved = latent.contiguous()
assert type(saved) is torch.Tensor and saved.is_contiguous() and saved.dtype == torch.float32
found = from_file(saved)
assert all(torch.equal(a, b.float()) for a, b in zip(found.tensors, (video, audio)))
damaged = saved.clone()
damaged[0, 0, 2] = float("nan")
for other in damaged, saved[:, :, :-1], saved[:, :, 1:], torch.randn(1, 1, 50), video, audio, latent:
    assert from_file(other) is other
"""


def test_a_latent_that_the_host_makes_is_ours_and_those_of_other_models_stay_as_they_are(host_place):
    run_inside(host_place, INSIDE)


@pytest.fixture(scope="module")
def vhs(host_place, tmp_path_factory):
    with pack_server(host_place, tmp_path_factory.mktemp("vhs"), "ComfyUI-VideoHelperSuite") as server:
        yield server


@pytest.mark.parametrize("way", ["our node", "KSampler"])
def test_video_helper_suite_counts_the_clips_of_a_latent(vhs, way):
    bench = Bench(vhs)
    count = ref(bench.add("VHS_GetLatentCount", latents=two(bench, way)))
    shown = bench.add("PreviewAny", source=count)
    assert bench.run().outputs[shown]["text"] == ["2"]


VHS = {
    "VHS_SplitLatents": {"latents": {}, "split_index": 1},
    "VHS_SelectEveryNthLatent": {"latents": {}, "select_every_nth": 2, "skip_first_latents": 0},
    "VHS_DuplicateLatents": {"latents": {}, "multiply_by": 2},
    "VHS_SelectLatents": {"latent": {}, "indexes": "0", "err_if_missing": True, "err_if_empty": True},
    "VHS_MergeLatents": {"latents_A": {}, "latents_B": {}, "merge_strategy": "match A",
                         "scale_method": "nearest-exact", "crop": "disabled"},
}  # fmt: skip


@pytest.mark.parametrize("way", ["our node", "KSampler"])
@pytest.mark.parametrize("node", VHS)
def test_video_helper_suite_s_nodes_for_latents_are_refused_in_our_words(vhs, node, way):
    """They pass over what is not torch's own Tensor: without a word, all of the latent would come back."""
    bench = Bench(vhs)
    latent = two(bench, way)
    inputs = {name: latent if value == {} else value for name, value in VHS[node].items()}
    bench.save(ref(bench.add(node, **inputs)))
    assert refusal(vhs, bench).endswith(PLAIN)
