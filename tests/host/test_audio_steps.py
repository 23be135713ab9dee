"""audio_steps on MOVA Joint Sampler, against our own loop outside ComfyUI."""

import pytest
import torch
from client import ran
from golden import error, joint_inputs
from graphs import GIVEN, KIND, Graph, golden_model, ref, to_model_scale
from inside import run_inside
from safetensors.torch import save_file

from mova.clip.request import Request
from mova.clip.velocity import Velocities
from mova.sampling.audio_steps import between, counts
from mova.sampling.euler import euler
from mova.sampling.guidance import Guidance
from mova.sampling.guidance_plan import GuidancePlan
from mova.sampling.schedule import low_noise_start, sigmas

STEPS = 4


@torch.no_grad()
def headless(count, guidance, video_shift=5.0, audio_shift=5.0):
    inputs = joint_inputs(KIND)
    video, audio, condition = inputs["video"][:, :16], inputs["audio"], inputs["video"][:, 16:]
    request = Request("a", steps=STEPS, guidance=guidance, audio_steps=count)
    schedule, sound = sigmas(STEPS, video_shift), sigmas(STEPS, audio_shift)
    switch = low_noise_start(schedule, 0.9)
    for expert, part in (("high", slice(0, switch + 1)), ("low", slice(switch, None))):
        model = golden_model(expert)
        texts = [model.embed_text(inputs[name]) for name in ("text", "negative_text")]
        velocities = Velocities(model, texts, condition, request, schedule)
        own = sound[part]

        def inner(step, own=own):
            return between(own, step, count, audio_shift)

        alone = (inner, velocities.audio)
        video, audio = euler(velocities.joint, video, audio, schedule[part], own, alone=alone)
    return video, audio


def sampled(server, *runs):
    """Latents in the model's scale, and the sampler's last line, of runs: settings, and what wraps the models."""
    graph = Graph()
    given = graph.add("ProbeGiven", **GIVEN)
    samplers, saved = [], []
    for settings in runs:
        settings = dict(settings)
        models = [graph.model("mova_high"), graph.model("mova_low")]
        if options := settings.pop("options", None):
            node = graph.add("MOVAModelOptions", model_high=models[0], model_low=models[1], **options)
            models = [ref(node), ref(node, 1)]
        given_noise = {"noise": ref(given, 3), "steps": STEPS}
        samplers.append(graph.joint(models[0], given, model_low=models[1], **given_noise, **settings))
        saved.append(graph.save(ref(samplers[-1]), f"{len(saved)}.safetensors"))
    result = ran(server, graph)
    last = dict(result.notices)
    found = [server.tensors(result, node) for node in saved]
    return [(to_model_scale(f["video"]), f["audio"], last[s]) for f, s in zip(found, samplers, strict=True)]


@pytest.mark.parametrize(
    ("settings", "guidance", "shifts"),
    [
        ({"cfg": 3.0}, Guidance(3.0), {}),
        ({"cfg": 1.0}, Guidance(1.0), {}),
        ({"cfg": 3.0, "audio_shift": 3.0, "video_shift": 7.0}, Guidance(3.0), {"audio_shift": 3.0, "video_shift": 7.0}),
        ({"cfg": 4.0, "bridge_cfg": 2.0, "audio_cfg": 2.5}, Guidance(4.0, 2.0, 2.5), {}),
        ({"cfg": 1.0, "audio_cfg": 5.0}, Guidance(1.0, 1.0, 5.0), {}),
        ({"cfg": 2.0, "bridge_cfg": 2.0, "audio_cfg": 5.0}, Guidance(2.0, 2.0, 5.0), {}),
    ],
)
def test_audio_steps_are_those_of_the_command_line(server, files, settings, guidance, shifts):
    ((video, audio, line),) = sampled(server, {**settings, "audio_steps": 3})
    wanted = headless(3, guidance, **shifts)
    assert error(video, wanted[0]) < 1e-5 and error(audio, wanted[1]) < 1e-5
    joint, alone = counts(GuidancePlan(guidance), STEPS, 3)
    assert f"; {joint} evaluations, {alone} of the audio alone; " in line


def test_one_audio_step_is_the_run_without_and_fp8_is_near_the_exact_one(server, files):
    options = {"elementwise": "torch", "low_memory": False}
    cfg = {"cfg": 3.0}
    plain, one, exact, fp8 = sampled(
        server,
        cfg,
        {**cfg, "audio_steps": 1},
        {**cfg, "audio_steps": 3},
        {**cfg, "audio_steps": 3, "options": {**options, "audio_memory": "fp8"}},
    )
    assert torch.equal(plain[0], one[0]) and torch.equal(plain[1], one[1])
    assert 0 < error(fp8[1], exact[1]) < 0.02 < error(exact[1], plain[1])


def test_a_given_video_stays_and_its_sound_takes_the_steps(server, files):
    """A mask of zeros over the video, as in sound for a video: the audio's steps go on against it."""
    inputs, graph = joint_inputs(KIND), Graph()
    masks = {"video_mask": torch.zeros(1, 1, *inputs["video"].shape[2:]), "audio_mask": torch.ones(1, 1, 11)}
    parts = {"video": inputs["video"][:, :16].contiguous(), "audio": torch.zeros_like(inputs["audio"])}
    save_file({**parts, **masks}, server.base / "input/masked.safetensors")
    given, latent = graph.add("ProbeGiven", **GIVEN), ref(graph.add("ProbeGivenLatent", file="masked.safetensors"))
    saved = []
    for count in (1, 3):
        settings = {"noise": ref(given, 3), "latent": latent, "audio_steps": count}
        sampler = graph.joint(graph.model("mova_high"), given, **settings)
        saved.append(graph.save(ref(sampler), f"{count}.safetensors"))
    result = ran(server, graph)
    one, three = (server.tensors(result, node) for node in saved)
    assert torch.equal(three["video"], one["video"]) and torch.equal(three["video"], parts["video"])
    assert error(three["audio"], one["audio"]) > 1e-3


def test_a_sound_that_is_kept_takes_no_steps_of_its_own(server, files):
    graph = Graph()
    given = graph.add("ProbeGiven", **GIVEN)
    apart = graph.add("MOVASeparateLatent", latent=ref(given, 2))
    latent = ref(graph.add("MOVACombineLatent", video=ref(apart), audio=ref(apart, 1), keep_audio=True))
    settings = {"noise": ref(given, 3), "latent": latent, "steps": 2}
    one, three = (graph.joint(graph.model("mova_high"), given, audio_steps=count, **settings) for count in (1, 3))
    saved = [graph.save(ref(node), f"{node}.safetensors") for node in (one, three)]
    result = ran(server, graph)
    plain, stepped = (server.tensors(result, node) for node in saved)
    assert all(torch.equal(plain[name], stepped[name]) for name in ("video", "audio"))
    told = dict(result.notices)
    assert "of the audio alone" not in told[three]
    assert ["keeps its sound, so that audio_steps counts as 1" in told[node] for node in (one, three)] == [False, True]


def test_other_samplers_than_euler_are_refused_before_the_weights_load(server, files):
    graph = Graph()
    given = graph.add("ProbeGiven", **GIVEN)
    heun = ref(graph.add("KSamplerSelect", sampler_name="heun"))
    graph.save(ref(graph.joint(graph.model("mova_high"), given, audio_steps=2, sampler=heun)))
    assert "audio_steps needs the sampler euler" in server.run(graph.nodes).error


ON_DISK = """
from pathlib import Path
import folder_paths
from pack.mova.model import video_memory
from pack.nodes.host.audio_steps import Memories
folder_paths.set_temp_directory(str(Path(FOLDER, "temp")))
video_memory.free_ram = lambda: 0.0
memories = Memories()
memories.shelf.free = lambda device: 0.0
keys = {name: torch.full((1, 3, 4), float(name)) for name in (1, 2, 3)}

def evaluated(name, uuids):
    memory = memories.new(torch.device("cpu"), 10, uuids)
    memory.keep(0, keys[name], keys[name] + 0.5)
    memories.take(memory, uuids, 1)

for _ in range(2):  # two conditionings, one after the other; no video step begins in between, as with a step cache
    evaluated(1, ["one"])
    evaluated(2, ["other"])
for name, uuid in ((1, "one"), (2, "other")):
    found, values = memories.of([uuid]).read(0, torch.device("cpu"))
    assert torch.equal(found, keys[name]) and torch.equal(values, keys[name] + 0.5), uuid
files = [path for path in Path(FOLDER).rglob("*") if path.is_file()]
assert len(files) == 4, files  # written over, not beside
del found, values
memories.close()
assert not [path for path in Path(FOLDER).rglob("*") if path.is_file()]
"""


def test_on_disk_each_conditioning_s_memory_is_its_own_and_nothing_stays(host_place, tmp_path):
    run_inside(host_place, f"FOLDER = {str(tmp_path)!r}" + ON_DISK)
