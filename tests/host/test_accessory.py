"""What only shows a run may fail in any way: the run goes on, makes the same latents, and the log has one line."""

import itertools

import pytest
import torch
from graphs import GIVEN, Graph, ref

seeds = itertools.count(5000)  # no run is another's cached one


def joint(graph, given, latent, seed, **more):
    models = graph.model("mova_high"), graph.model("mova_low")
    return graph.joint(models[0], given, latent, model_low=models[1], seed=seed, **more)


def guided(graph, given, latent, seed):
    conds = {"positive": ref(given), "negative": ref(given, 1)}
    guider = graph.add("MOVAGuider", model=graph.model("mova_high"), cfg=2.0, bridge_cfg=1.5, **conds)
    sigmas = graph.add("MOVAScheduler", steps=3, shift=5.0, denoise=1.0)
    return graph.custom(ref(guider), ref(sigmas), ref(graph.add("RandomNoise", noise_seed=seed)), latent)


def core(graph, given, latent, seed):
    """With nodes of ComfyUI's alone, the loader too."""
    return graph.ksampler(graph.model("mova_high"), given, latent, seed=seed)


def core_custom(graph, given, latent, seed):
    conds = {"positive": ref(given), "negative": ref(given, 1)}
    guider = graph.add("CFGGuider", model=graph.model("mova_high"), cfg=2.0, **conds)
    sigmas = graph.add("MOVAScheduler", steps=3, shift=5.0, denoise=1.0)
    return graph.custom(ref(guider), ref(sigmas), ref(graph.add("RandomNoise", noise_seed=seed)), latent)


def run(server, sample, what, seed):
    """The latents of a run in which `what` fails, its previews, and what the pack's lines in the log say."""
    graph = Graph()
    given = graph.add("ProbeGiven", **GIVEN)
    latent = ref(graph.add("ProbeTrouble", latent=ref(given, 2), what=what))
    saved = graph.save(ref(sample(graph, given, latent, seed)), f"trouble_{what}.safetensors")
    before = len(server.logged())
    result = server.run(graph.nodes)
    lines = [line for line in server.logged()[before:].splitlines() if "[MOVA]" in line]
    assert result.error is None, result.error
    return server.tensors(result, saved), result.previews, [line for line in lines if "goes on without" in line]


@pytest.fixture
def mended(server, files):
    yield
    run(server, core, "nothing", next(seeds))


@pytest.mark.parametrize("what", ["previewer", "progress"])
@pytest.mark.parametrize("sample", [joint, guided, core, core_custom])
def test_a_preview_or_a_progress_bar_that_fails_does_not_end_a_run(server, files, mended, sample, what):
    seed = next(seeds)
    found, _, lines = run(server, sample, what, seed)
    told_by_the_preview = sample is joint and what == "previewer"  # which shows the latent's colours instead
    assert len(lines) == (not told_by_the_preview), lines
    assert "a fault of another pack" in "".join(lines) or told_by_the_preview
    wanted, previews, none = run(server, sample, "nothing", seed)
    assert previews and none == []
    assert all(torch.equal(found[name], wanted[name]) for name in ("video", "audio"))


def test_a_notice_that_cannot_be_shown_does_not_end_a_run(server, files, mended):
    def sample(graph, given, latent, seed):  # without the second expert a notice is shown
        return graph.joint(graph.model("mova_high"), given, latent, seed=seed)

    _, _, lines = run(server, sample, "notice", next(seeds))
    assert len(lines) == 1 and "A notice failed" in lines[0]


def test_a_sampler_that_reports_one_step_too_many_does_not_end_a_run(server, files):
    def sample(graph, given, latent, seed):
        return joint(graph, given, latent, seed, sampler=ref(graph.add("ProbeOneStepMore")))

    seed = next(seeds)
    found, previews, lines = run(server, sample, "nothing", seed)
    wanted, fewer, _ = run(server, joint, "nothing", seed)
    assert lines == [] and len(previews) == len(fewer) + 2, "one more for each expert"
    assert all(torch.equal(found[name], wanted[name]) for name in ("video", "audio"))
