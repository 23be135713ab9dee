"""MOVA Joint Sampler keeps what it has done: a run that was stopped goes on with the same bits; nothing piles up."""

import pytest
import torch
from client import ran
from graphs import GIVEN, Graph, ref
from loras import VIDEO, halves, write
from refused import says
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mova.clip.rescue import read_run
from mova.sampling.schedule import low_noise_start, sigmas

STEPS = 5


@pytest.fixture
def folder(server, files):
    place = server.base / "output/mova_runs"
    for path in place.glob("*"):
        path.unlink()
    return place


def run(server, call, sampler="euler", file="mova_high", strength=None, lora=None, **settings):
    """The joint sampler on the golden models, stopped at an evaluation: the result, and where the latent is saved.

    file: of the high-noise expert; strength, lora: of a CFGNorm and a LoRA on it.
    """
    graph = Graph()
    given, high, low = graph.add("ProbeGiven", **GIVEN), graph.model(file), graph.model("mova_low")
    if strength is not None:
        high = ref(graph.add("CFGNorm", model=high, strength=strength))
    if lora is not None:
        high = ref(graph.add("LoraLoaderModelOnly", model=high, lora_name=lora, strength_model=1.0))
    experts = graph.add("ProbeStopAt", high=high, low=low, call=call)
    chosen = ref(graph.add("KSamplerSelect", sampler_name=sampler))
    settings = {"steps": STEPS, "cfg": 1.0, **settings}
    noise = ref(given, 3)
    joint = graph.joint(ref(experts), given, model_low=ref(experts, 1), noise=noise, sampler=chosen, **settings)
    saved = graph.save(ref(joint))
    return server.run(graph.nodes), saved


def latents(server, found):
    result, saved = found
    assert result.error is None, result.error
    return server.tensors(result, saved)


def bits_equal(first, second):
    return all(torch.equal(first[name], second[name]) for name in ("video", "audio"))


@pytest.fixture(scope="module")
def whole(server, files):
    return latents(server, run(server, -1))


def test_a_run_stopped_in_any_step_of_either_expert_goes_on_with_the_same_bits(server, folder, whole):
    switch = low_noise_start(sigmas(STEPS), 0.9)
    assert 0 < switch < STEPS
    for step in range(1, STEPS):  # cfg 1: one evaluation in each step
        stopped, _ = run(server, step)
        assert "stopped by the probe" in stopped.error
        (kept,) = folder.iterdir()
        assert (read_run(kept).step, read_run(kept).steps) == (step, STEPS), "the last finished step is kept"
        assert bits_equal(latents(server, run(server, -1, resume=True)), whole), step
        assert f"{step} of {STEPS} steps are done" in server.logged()
        assert read_run(kept).finished
        kept.unlink()


@pytest.mark.parametrize(
    ("sampler", "call", "more"), [("heun", 5, {}), ("dpm_2", 5, {}), ("euler", 7, {"audio_steps": 3})]
)
def test_samplers_of_more_evaluations_go_on_from_the_step_at_work_or_the_one_before(
    server, folder, sampler, call, more
):
    wanted = latents(server, run(server, -1, sampler, **more))
    next(folder.iterdir()).unlink()
    assert "stopped by the probe" in run(server, call, sampler, **more)[0].error
    (kept,) = folder.iterdir()
    assert read_run(kept).step == 2, "two steps and the first evaluation of the third are done"
    assert bits_equal(latents(server, run(server, -1, sampler, resume=True, **more)), wanted)


def test_a_sampler_with_memory_or_noise_begins_anew_and_is_kept_when_finished(server, folder):
    for sampler in ("dpmpp_2m", "euler_ancestral"):
        assert "stopped by the probe" in run(server, 3, sampler)[0].error
        assert not [*folder.iterdir()]
        wanted = latents(server, run(server, -1, sampler, resume=True))
        assert "No run of these inputs is kept" in server.logged()
        assert bits_equal(latents(server, run(server, 0, sampler, resume=True)), wanted), "no evaluation was needed"
        next(folder.iterdir()).unlink()


def test_a_run_of_other_inputs_is_not_taken_for_this_one(server, folder):
    run(server, 3)
    for settings in ({"cfg": 2.0}, {"video_shift": 4.0}, {"a2v_scale": 0.5}, {"boundary": 0.8}):
        before = server.logged()
        fresh = latents(server, run(server, -1, resume=True, **settings))
        assert "No run of these inputs is kept (the newest one has other " in server.logged()[len(before) :]
        assert bits_equal(latents(server, run(server, -1, **settings)), fresh)


def test_noise_that_a_sampler_draws_itself_is_of_the_seed_also_beside_given_noise(server, folder):
    first, second = (latents(server, run(server, -1, "euler_ancestral", seed=seed, resume=True)) for seed in (1, 2))
    assert not bits_equal(first, second)


def test_another_setting_of_what_is_plugged_into_the_model_is_another_run(server, folder):
    one, other, again = (
        latents(server, run(server, -1, strength=strength, cfg=3.0, resume=True)) for strength in (0.3, 0.9, 0.3)
    )
    assert not bits_equal(one, other)
    assert bits_equal(one, again) and f"{STEPS} of {STEPS} steps are done" in server.logged()


def test_other_weights_of_the_same_sizes_are_another_run(server, folder):
    models = server.base / "models/diffusion_models"
    state = load_file(models / "mova_high.safetensors")
    with safe_open(models / "mova_high.safetensors", "pt") as file:
        metadata = file.metadata()
    merged = {name: value * 1.01 if name.endswith("self_attn.q.weight") else value for name, value in state.items()}
    save_file(merged, models / "mova_merged.safetensors", metadata)
    one, other = (latents(server, run(server, -1, file=name, resume=True)) for name in ("mova_high", "mova_merged"))
    assert not bits_equal(one, other)


def test_a_run_with_a_lora_is_known_again_while_the_lora_is_merged_into_the_loaded_weights(server, folder):
    name = write(server.base, "kept.safetensors", halves(VIDEO, f"diffusion_model.{VIDEO}"))
    one, again = (latents(server, run(server, -1, lora=name, resume=True)) for _ in range(2))
    assert bits_equal(one, again) and f"{STEPS} of {STEPS} steps are done" in server.logged()
    assert not bits_equal(one, latents(server, run(server, -1, resume=True)))


def test_what_nobody_came_back_to_makes_room(server, folder):
    for seed_like in range(7):
        run(server, 2, video_shift=2.0 + seed_like)
    assert len([*folder.iterdir()]) <= 5
    oldest = min(folder.iterdir(), key=lambda path: path.stat().st_mtime)
    run(server, 2, video_shift=4.0, resume=True)
    assert f"Goes on with mova_runs/{oldest.name}" in server.logged(), "it does not make room for itself"


def clip(tail):
    """A graph of the golden models whose frames and sound are of the latent; `tail` adds what is done with it."""
    graph = Graph()
    given, high, low = graph.add("ProbeGiven", **GIVEN), graph.model("mova_high"), graph.model("mova_low")
    joint = graph.joint(high, given, model_low=low, noise=ref(given, 3), steps=3, cfg=1.0)
    tail(graph, ref(joint))
    return graph


def save_clip(graph, latent):
    parts = graph.add("MOVASeparateLatent", latent=latent)
    frames = graph.add("VAEDecode", samples=ref(parts), vae=ref(graph.add("ProbeWanVAE")))
    video = graph.add("MOVACombineVideo", images=ref(frames), fps=24.0)
    graph.add("SaveVideo", video=ref(video), filename_prefix="kept", format="mp4", codec="h264")


def broken_decode(graph, latent):
    audio_vae = graph.add("MOVAAudioVAELoader", vae_name="golden_audio.safetensors")  # of other channels
    sound = graph.add("MOVAAudioDecode", samples=latent, audio_vae=ref(audio_vae))
    graph.add("SaveAudio", audio=ref(sound), filename_prefix="kept")


def test_when_decoding_fails_the_latent_is_kept_until_the_clip_is_saved(server, folder):
    assert server.run(clip(broken_decode).nodes).error
    (kept,) = folder.iterdir()
    assert f"the latent is kept in {kept}" in server.logged()
    graph = Graph()
    loaded = graph.save(ref(graph.add("MOVALoadRun", run=kept.name)), "loaded.safetensors")
    held = server.tensors(ran(server, graph), loaded)
    again = clip(save_clip)  # the sampler's output is cached: the node does not run once more
    saved = again.save(ref("4"), "again.safetensors")
    result = ran(server, again)
    assert bits_equal(held, server.tensors(result, saved))
    assert not [*folder.iterdir()], "the clip is saved"


def test_a_run_that_is_not_finished_is_refused_by_the_loader_with_the_way_out(server, folder):
    run(server, 3)
    (kept,) = folder.iterdir()
    graph = Graph()
    graph.save(ref(graph.add("MOVALoadRun", run=kept.name)))
    error = server.run(graph.nodes).error
    assert says(error, f"is not finished (3 of {STEPS} steps are done); queue its workflow again with resume on.")


@pytest.mark.parametrize("name", ["gone.run.safetensors", "../../models/diffusion_models/mova_high.safetensors"])
def test_no_name_leads_out_of_the_folder(server, files, name):
    graph = Graph()
    graph.save(ref(graph.add("MOVALoadRun", run=name)))
    assert "not in" in server.run(graph.nodes).error or "no kept run" in server.run(graph.nodes).error


def test_the_clip_of_another_workflow_removes_nothing_though_its_nodes_have_the_same_numbers(server, folder):
    graph = Graph()
    given, high = graph.add("ProbeGiven", **GIVEN), graph.model("mova_high")
    sampler = graph.joint(high, given, noise=ref(given, 3), steps=2, cfg=1.0)
    graph.save(ref(sampler))
    ran(server, graph)
    other, size = Graph(), {"width": 32, "height": 32, "batch_size": 5, "color": 0}
    other.nodes[sampler] = {"class_type": "EmptyImage", "inputs": size}
    other.ids = map(str, range(100, 200))
    video = other.add("MOVACombineVideo", images=ref(sampler), fps=24.0)
    other.add("SaveVideo", video=ref(video), filename_prefix="other", format="mp4", codec="h264")
    ran(server, other)
    assert len([*folder.iterdir()]) == 1


def test_finished_runs_of_others_stay_while_stopped_ones_make_room(server, folder, tmp_path):
    """Several servers may share an output folder: what one has finished is not the next one's to clear away."""
    for number in range(3):
        latents(server, run(server, -1, video_shift=16.0 + number))
    for number in range(6):
        run(server, 2, video_shift=2.0 + number)
    kept = [read_run(path) for path in folder.iterdir()]
    assert sum(found.finished for found in kept) == 3 and 4 <= len(kept) - 3 <= 5
