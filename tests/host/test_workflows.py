"""The shipped workflows: their files are up to date, ComfyUI offers them, and they run but for models and size."""

import itertools
import json
import re
from pathlib import Path
from urllib.parse import quote

import pytest
import torch
from clips import read_clip
from small_workflows import NAMES, make_small, small_inputs, write_media

from authoring.build import canvas_form
from authoring.to_api import MUTED, to_api
from authoring.zh import ENGLISH
from mova.clip.media import write_clip
from mova.clip.reading import read_clip_info
from mova.tools.info import node_settings

ROOT = Path(__file__).parents[2]
STALE = "this file is not what it is made from: run python -m authoring.build"

FOLEY, TALKING = "mova_4_foley_sound_for_a_video", "mova_5_talking_video_for_a_sound"
LOW_MEMORY, FAST, TWO_STAGES = "mova_6_low_memory", "mova_11_fast", "mova_12_two_stages"
SIZES = {FOLEY: (96, 64), TWO_STAGES: (96, 64)}  # the given frames are saved as they were; the second stage's

seeds = itertools.count(1000)


@pytest.fixture(scope="module")
def definitions(server):
    return server.get_json("/object_info")


@pytest.fixture(scope="module")
def media(server, files):
    write_media(server.base)
    return server.base / "input"


def read(name, folder="."):
    return json.loads((ROOT / "workflows" / folder / f"{name}.json").read_text(encoding="utf-8"))


def small(name):
    return made_small(read(name, "api"))


def made_small(workflow):
    """An API form with small models and sizes, and a seed that no other run has had."""
    for node in workflow.values():
        given = small_inputs(node)
        given |= dict.fromkeys(("seed", "noise_seed"), next(seeds))
        old = node["inputs"]  # 0 is a video's own size
        old |= {n: v for n, v in given.items() if old.get(n) != 0 and not isinstance(old.get(n, []), list)}
        make_small(node)
    return workflow


def of_type(workflow, kind):
    return [number for number, node in workflow.items() if node["class_type"] == kind]


def save_latent(workflow, kind):
    """Keep the latent that the node of this type gives; the number of the node that does so."""
    (node,) = of_type(workflow, kind)
    workflow[f"save {kind}"] = {"class_type": "ProbeSave", "inputs": {"latent": [node, 0], "name": f"{kind}.st"}}
    return f"save {kind}"


def made_by(server, result, folder):
    """The clip that a run has saved."""
    assert result.error is None, result.error
    shown = [entry for output in result.outputs.values() for entry in output.get("images", [])]
    (entry,) = (entry for entry in shown if entry["filename"].endswith(".mp4"))
    clip = folder / "clip.mp4"
    clip.write_bytes(server.view(entry))
    return clip


def without_unused_outputs(canvas):
    """Versions of ComfyUI differ in outputs of their own nodes that no workflow uses."""
    inner = [node for one in canvas["definitions"]["subgraphs"] for node in one["nodes"]]
    for node in (*canvas["nodes"], *inner):
        node["outputs"] = [slot for slot in node["outputs"] if slot["links"]]
    return canvas


@pytest.mark.parametrize("name", [*NAMES, *ENGLISH])
def test_the_canvas_form_is_what_its_description_says(definitions, name):
    built, found = canvas_form(name, definitions), read(name)
    assert without_unused_outputs(found) == without_unused_outputs(json.loads(json.dumps(built))), STALE


@pytest.mark.parametrize("name", NAMES)
def test_the_api_form_is_made_from_the_canvas_form(definitions, name):
    assert read(name, "api") == to_api(read(name), definitions), STALE


def test_comfyui_offers_each_workflow_with_its_picture(server):
    assert set(server.get_json("/workflow_templates")["comfyui-mova"]) == {*NAMES, *ENGLISH}
    for name in (*NAMES, *ENGLISH):
        for suffix in ("json", "jpg"):
            served = server.get(f"/api/workflow_templates/comfyui-mova/{quote(name)}.{suffix}")
            assert served == (ROOT / "workflows" / f"{name}.{suffix}").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_a_workflow_makes_a_clip(server, media, name, tmp_path):
    result = server.run(small(name))
    found = read_clip_info(made_by(server, result, tmp_path))
    assert (found.frames, found.width, found.height, found.fps) == (9, *SIZES.get(name, (48, 32)), 24.0)
    sound = (44100, 2) if name == TALKING else (48000, 1)
    assert (found.audio_codec, found.sample_rate, found.channels) == ("aac", *sound)
    (steps,) = (
        value
        for name, value in node_settings(found.prompt)
        if re.fullmatch(r"MOVA(JointSampler|Scheduler) .*, steps", name)
    )
    samplers = [n["inputs"] for n in small(name).values() if n["class_type"] in ("MOVAJointSampler", "MOVAScheduler")]
    assert steps == samplers[0]["steps"]
    _, waveform, rate, _ = read_clip(tmp_path / "clip.mp4")
    assert waveform.shape[1] / rate == pytest.approx(9 / 24, abs=2048 / rate)  # AAC comes in frames of 1024


@pytest.mark.parametrize(("source", "clip"), [(3, 1), (10, 9), (12, 9), (80, 77), (120, 97), (150, 97)])
def test_sound_is_made_for_a_video_of_any_length_as_shipped(server, media, source, clip, tmp_path):
    ramp = torch.linspace(0, 200, 96).byte().expand(source, 64, 96)
    write_clip(media / "any.mp4", ramp[..., None].expand(-1, -1, -1, 3).contiguous(), 24.0, None)
    workflow = small(FOLEY)
    for node in workflow.values():
        if node["class_type"] == "LoadVideo":
            node["inputs"]["file"] = "any.mp4"
        if node["class_type"] == "MOVAFitVideo" and not isinstance(node["inputs"]["length"], list):
            node["inputs"]["length"] = 97  # as shipped
    found = read_clip_info(made_by(server, server.run(workflow), tmp_path))
    assert (found.frames, found.width, found.height) == (clip, 96, 64) and found.audio_codec == "aac"


def test_low_memory_makes_the_same_from_the_kept_prompt_as_from_the_encoded_one(server, media, definitions, tmp_path):
    canvas, encoding = read(LOW_MEMORY), ("CLIPLoader", "MOVATextEncode", "MOVASaveConditioning")
    for node in canvas["nodes"]:
        node["mode"] = MUTED if node["type"] in encoding else node["mode"]
    workflow, muted = small(LOW_MEMORY), made_small(to_api(canvas, definitions))
    assert len(workflow) - len(muted) == 4 and not of_type(muted, "ProbeClip")
    (sampler,) = of_type(muted, "MOVAJointSampler")
    muted[sampler]["inputs"]["seed"] = workflow[sampler]["inputs"]["seed"]
    latent = save_latent(workflow, "MOVAJointSampler")
    muted[latent] = workflow[latent]
    first = server.run(workflow)
    made_by(server, first, tmp_path)
    before = server.tensors(first, latent)
    keeping, loading = of_type(workflow, "MOVASaveConditioning"), of_type(muted, "MOVALoadConditioning")
    for kept, loaded in zip(keeping, loading, strict=True):
        (muted[loaded]["inputs"]["file"],) = first.outputs[kept]["text"]
    second = server.run(muted)
    made_by(server, second, tmp_path)
    after = server.tensors(second, latent)
    assert {*loading, sampler} <= set(second.executed)  # not from the first run's cache
    assert before["video"].std() > 0.1
    assert all(torch.equal(after[name], before[name]) for name in ("video", "audio"))


@pytest.mark.parametrize(("name", "kept"), [(FOLEY, "video"), (TALKING, "audio")])
def test_what_is_kept_comes_out_bit_for_bit_and_the_other_is_made(server, media, name, kept):
    workflow = small(name)
    before, after = save_latent(workflow, "MOVACombineLatent"), save_latent(workflow, "MOVAJointSampler")
    result = server.run(workflow)
    assert result.error is None, result.error
    given, made = server.tensors(result, before), server.tensors(result, after)
    assert given[kept].std() > 0 and torch.equal(made[kept], given[kept])
    other = "audio" if kept == "video" else "video"
    assert made[other].isfinite().all() and made[other].std() > 0.1 and not given[other].any()


def test_the_given_frames_and_the_given_sound_are_in_the_clips(server, media, tmp_path):
    frames = read_clip(made_by(server, server.run(small(FOLEY)), tmp_path))[0]
    given = read_clip(media / "small.mp4")[0][:9]
    assert (frames.float() - given.float()).abs().mean() < 3
    waveform = read_clip(made_by(server, server.run(small(TALKING)), tmp_path))[1][0]
    spectrum = torch.fft.rfft(waveform[:13230]).abs()
    assert spectrum.argmax() * 44100 / 13230 == pytest.approx(440, abs=4)
    assert waveform[13230 + 2048 :].abs().max() < 0.05  # the tone ends after 0.3 seconds
