"""MOVA Step Cache on a real run: what is left out is counted where the model is called."""

import re

import torch
from client import ran
from golden import error
from graphs import GIVEN, Graph, ref


def runs(server, *caches, **settings):
    """Latents and the sampler's notices of a run for each cache's inputs; None: without."""
    graph = Graph()
    given = graph.add("ProbeGiven", **GIVEN)
    samplers, saved = [], []
    for cache in caches:
        models = [graph.model("mova_high"), graph.model("mova_low")]
        if cache is not None:
            node = graph.add("MOVAStepCache", model_high=models[0], model_low=models[1], **cache)
            models = [ref(node), ref(node, 1)]
        settings = {"steps": 12, "cfg": 2.0, **settings}
        samplers.append(graph.joint(models[0], given, model_low=models[1], noise=ref(given, 3), **settings))
        saved.append(graph.save(ref(samplers[-1]), f"{len(saved)}.safetensors"))
    result = ran(server, graph)
    told = ["\n".join(text for node, text in result.notices if node == sampler) for sampler in samplers]
    return [(server.tensors(result, node), text) for node, text in zip(saved, told, strict=True)]


def cache(video, audio, alone=False):
    return {"video_threshold": video, "audio_threshold": audio, "audio_alone": alone}


def counted(text):
    """Steps reused, and all, of both experts."""
    found = re.findall(r"Step cache: (\d+) of (\d+) steps reused", text)
    return [tuple(map(int, pair)) for pair in dict.fromkeys(found)]


def test_with_thresholds_of_0_it_is_the_run_without_and_with_others_steps_are_left_out(server, files):
    (plain, _), (never, none), (some, told) = runs(server, None, cache(0.0, 0.0), cache(0.5, 0.5))
    assert all(torch.equal(plain[name], never[name]) for name in ("video", "audio"))
    assert counted(none) and all(reused == 0 for reused, _ in counted(none))
    assert any(reused > 0 for reused, _ in counted(told)) and all(
        reused <= steps - 2 for reused, steps in counted(told)
    )
    assert 0 < error(some["video"], plain["video"]) < 1 and 0 < error(some["audio"], plain["audio"]) < 1


def test_what_the_audio_does_not_allow_is_not_left_out_or_computed_alone(server, files):
    (plain, _), (strict, none), (alone, told) = runs(server, None, cache(5.0, 0.0), cache(5.0, 0.0, True))
    assert all(torch.equal(plain[name], strict[name]) for name in ("video", "audio"))
    assert all(reused == 0 for reused, _ in counted(none))
    assert "with the audio computed alone" in told
    assert error(alone["audio"], plain["audio"]) > 0 and error(alone["video"], plain["video"]) > 0


def test_a_threshold_that_is_none_is_told_before_the_weights_load(server, files):
    graph = Graph()
    node = graph.add("MOVAStepCache", model_high=graph.model("mova_high"), **cache(-1.0, 0.1))
    graph.save(ref(graph.joint(ref(node), graph.add("ProbeGiven", **GIVEN))))
    told = server.run(graph.nodes)
    assert told.error and "video_threshold" in told.error
