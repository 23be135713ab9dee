"""MOVA Joint Sampler keeps what it has done: a run that was stopped goes on with the same bits; nothing piles up."""

import pytest
import torch
from client import ran
from graphs import GIVEN, Graph, ref

from mova.clip.rescue import read_run
from mova.sampling.schedule import low_noise_start, sigmas

STEPS = 5


@pytest.fixture
def folder(server, files):
    place = server.base / "output/mova_runs"
    for path in place.glob("*"):
        path.unlink()
    return place


def run(server, call, sampler="euler", more=(), **settings):
    """The joint sampler on the golden models, stopped at an evaluation: the result, and where the latent is saved."""
    graph = Graph()
    given, high, low = graph.add("ProbeGiven", **GIVEN), graph.model("mova_high"), graph.model("mova_low")
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


@pytest.mark.parametrize(("sampler", "call"), [("heun", 5), ("dpm_2", 5)])
def test_samplers_of_two_evaluations_go_on_from_the_step_at_work_or_the_one_before(server, folder, sampler, call):
    wanted = latents(server, run(server, -1, sampler))
    next(folder.iterdir()).unlink()
    assert "stopped by the probe" in run(server, call, sampler)[0].error
    (kept,) = folder.iterdir()
    assert read_run(kept).step in (1, 2)
    assert bits_equal(latents(server, run(server, -1, sampler, resume=True)), wanted)


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


def test_what_nobody_came_back_to_makes_room(server, folder):
    for seed_like in range(7):
        run(server, 2, video_shift=2.0 + seed_like)
    assert len([*folder.iterdir()]) <= 5


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
    assert f"is not finished (3 of {STEPS} steps are done); queue its workflow again with resume on." in error


@pytest.mark.parametrize("name", ["gone.run.safetensors", "../../models/diffusion_models/mova_high.safetensors"])
def test_no_name_leads_out_of_the_folder(server, files, name):
    graph = Graph()
    graph.save(ref(graph.add("MOVALoadRun", run=name)))
    assert "not in" in server.run(graph.nodes).error or "no kept run" in server.run(graph.nodes).error
