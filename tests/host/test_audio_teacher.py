"""MOVA Audio Teacher, against our own loop outside ComfyUI with LoRAs merged by hand."""

import pytest
import torch
from client import ran
from golden import error, joint_inputs, joint_model
from graphs import EXPERTS, GIVEN, KIND, Graph, golden_model, ref, to_model_scale
from inside import run_inside
from loras import VIDEO, halves, loader, merged, write
from safetensors import safe_open
from safetensors.torch import save_file
from slow import few

from mova.clip.request import Request
from mova.clip.velocity import Teacher, Velocities
from mova.sampling.audio_steps import between, counts
from mova.sampling.euler import euler
from mova.sampling.guidance import Guidance
from mova.sampling.guidance_plan import GuidancePlan
from mova.sampling.schedule import low_noise_start, sigmas

STEPS, COUNT = 4, 3
EARLY = "blocks.0.self_attn.q"  # in front of the last layer in which the sound sees the picture; VIDEO is behind it


def with_lora(expert):
    state = golden_model(expert).state_dict()
    model = joint_model(KIND, EXPERTS[expert])
    model.load_state_dict(state | {name: state[name] + update for name, update in merged(EARLY, VIDEO).items()})
    return model


@torch.no_grad()
def headless(guidance, first, count=COUNT):
    inputs = joint_inputs(KIND)
    video, audio, condition = inputs["video"][:, :16], inputs["audio"], inputs["video"][:, 16:]
    request, schedule = Request("a", steps=STEPS, guidance=guidance, audio_steps=count), sigmas(STEPS)
    switch = low_noise_start(schedule, 0.9)
    for expert, part in (("high", slice(0, switch + 1)), ("low", slice(switch, None))):
        model, teacher = with_lora(expert), golden_model(expert)
        texts, told = ([m.embed_text(inputs[n]) for n in ("text", "negative_text")] for m in (model, teacher))
        velocities = Velocities(model, texts, condition, request, schedule)
        if first is not None:
            velocities.teacher = Teacher(teacher, told, first)

        def inner(step, part=part):
            return between(schedule[part], step, count, 5.0)

        alone = (inner, velocities.audio)
        video, audio = euler(velocities.joint, video, audio, schedule[part], schedule[part], alone=alone)
    return video, audio


def taught(graph, files, first, **experts):
    """Experts with a LoRA, and with themselves without it as teachers."""
    name = write(files, "taught.safetensors", {**halves(EARLY, EARLY), **halves(VIDEO, VIDEO)})
    lora = loader(graph, name, **experts)
    models = {f"model_{e}": ref(lora, i) for i, e in enumerate(EXPERTS) if e in experts}
    if first is None:
        return models
    node = graph.add(
        "MOVAAudioTeacher", from_layer=first, **models, **{f"teacher_{e}": model for e, model in experts.items()}
    )
    return {f"model_{e}": ref(node, i) for i, e in enumerate(EXPERTS) if e in experts}


def sampled(server, files, *runs):
    """Latents in the model's scale, and the sampler's last line, of runs (first layer or None, settings)."""
    graph = Graph()
    given = graph.add("ProbeGiven", **GIVEN)
    experts = {e: graph.model(f"mova_{e}") for e in EXPERTS}
    samplers, saved = [], []
    for first, settings in runs:
        models = taught(graph, files, first, **experts)
        noise = {"noise": ref(given, 3), "steps": STEPS}
        samplers.append(graph.joint(given=given, **models, **noise, **settings))
        saved.append(graph.save(ref(samplers[-1]), f"{len(saved)}.safetensors"))
    result = ran(server, graph)
    last, found = dict(result.notices), [server.tensors(result, node) for node in saved]
    return [(to_model_scale(f["video"]), f["audio"], last[s]) for f, s in zip(found, samplers, strict=True)]


@pytest.mark.parametrize("first", few([0, 1], 1))
@pytest.mark.parametrize(
    ("settings", "guidance"),
    [
        ({"cfg": 1.0, "audio_cfg": 5.0}, Guidance(1.0, 1.0, 5.0)),
        ({"cfg": 3.0}, Guidance(3.0)),
        ({"cfg": 4.0, "bridge_cfg": 2.0, "audio_cfg": 2.5}, Guidance(4.0, 2.0, 2.5)),
    ],
)
def test_the_sound_sees_the_picture_as_the_expert_without_the_lora_makes_it(server, files, settings, guidance, first):
    ((video, audio, line),) = sampled(server, files, (first, {**settings, "audio_steps": COUNT}))
    wanted = headless(guidance, first)
    assert error(video, wanted[0]) < 1e-5 and error(audio, wanted[1]) < 1e-5
    both, alone = counts(GuidancePlan(guidance), STEPS, COUNT, taught=range(STEPS))
    assert f"; {both} evaluations, {alone} of the audio alone, {STEPS} of its teacher; " in line
    if first == 0:
        assert error(headless(guidance, None)[1], wanted[1]) > 1e-4


def test_with_one_audio_step_a_teacher_changes_nothing_and_is_not_loaded(server, files):
    before = len(server.logged())
    plain, with_teacher = sampled(server, files, (None, {"cfg": 3.0}), (0, {"cfg": 3.0}))
    assert torch.equal(plain[0], with_teacher[0]) and torch.equal(plain[1], with_teacher[1])
    assert server.logged()[before:].count("Requested to load MOVA") == 4  # both experts, twice


def test_the_lora_is_still_there_and_gone_again_where_others_need_it(server, files):
    """Runs with a teacher, with the LoRA alone, and without either, one after the other in both orders."""
    graph = Graph()
    given = graph.add("ProbeGiven", **GIVEN)
    high = graph.model("mova_high")
    run = {"noise": ref(given, 3), "steps": 2, "cfg": 1.0, "audio_steps": 2}
    ways = [taught(graph, files, 0, high=high), taught(graph, files, None, high=high), {"model_high": high}]
    saved = [
        graph.save(ref(graph.joint(given=given, **way, **run)), f"{i}.safetensors")
        for i, way in enumerate(ways + ways[::-1])
    ]
    result = ran(server, graph)
    found = [server.tensors(result, node) for node in saved]
    for one, other in zip(found[:3], found[:2:-1], strict=True):
        assert all(torch.equal(one[name], other[name]) for name in ("video", "audio"))
    assert error(found[0]["audio"], found[1]["audio"]) > 1e-4 < error(found[1]["audio"], found[2]["audio"])


def test_a_teacher_that_is_not_there_or_of_another_kind_is_refused(server, files):
    graph = Graph()
    given = graph.add("ProbeGiven", **GIVEN)
    node = graph.add("MOVAAudioTeacher", from_layer=0, model_high=graph.model("mova_high"))
    graph.save(ref(graph.joint(ref(node), given)))
    assert "Nothing is connected to teacher_high" in server.run(graph.nodes).error
    graph = Graph()
    given, model = graph.add("ProbeGiven", **GIVEN), graph.model("mova_high")
    node = graph.add("MOVAAudioTeacher", from_layer=5, model_high=model, teacher_high=model)
    graph.save(ref(graph.joint(ref(node), given)))
    assert "from 0 (all) to 1, the last in which the sound sees the picture" in server.run(graph.nodes).error


def test_a_teacher_from_whom_there_is_nothing_to_learn_or_of_another_release_is_told(server, files):
    models, graph = files / "models/diffusion_models", Graph()
    with safe_open(models / "mova_high.safetensors", "pt") as file:
        config, state = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    sound = "audio_dit.blocks.0.self_attn.q.weight"
    save_file({**state, sound: state[sound] * 1.02}, models / "other_release.safetensors", config)
    high, other = graph.model("mova_high"), graph.model("other_release")
    half = graph.model("half_high")  # the same release, stored otherwise
    name = write(files, "told.safetensors", halves(EARLY, EARLY))
    pupil = ref(loader(graph, name, high=high))
    nodes = [
        graph.add("MOVAAudioTeacher", from_layer=0, model_high=model, teacher_high=teacher)
        for model, teacher in ((high, high), (pupil, other), (pupil, high), (pupil, half))
    ]
    for node in nodes:
        graph.add("PreviewAny", source=ref(node))
    told = dict(ran(server, graph).notices)
    assert told[nodes[0]] == "The model in model_high is its own teacher, which only takes time; put its LoRA there."
    assert "teacher_high is not that in model_high: it is of another release" in told[nodes[1]]
    assert nodes[2] not in told and nodes[3] not in told


def test_a_teacher_of_nobody_of_the_other_expert_or_with_the_lora_is_refused(host_place):
    """The sound would hear nothing of it, and nobody would know."""
    nobody, swapped, same = run_inside(host_place, REFUSED).strip().splitlines()[-3:]
    assert nobody == "teacher_low has no pupil; connect the expert with its LoRA to model_low."
    assert "The model in teacher_high is the low-noise expert" in swapped
    assert same == "The model in teacher_high has its pupil's LoRA; connect the same expert, before the LoRA."


REFUSED = """
from types import SimpleNamespace
from pack.mova import MovaError
from pack.nodes.audio_teacher import MOVAAudioTeacher
from pack.nodes.host.base import MOVA
def model(expert, patches=()):
    inner = MOVA.__new__(MOVA)
    torch.nn.Module.__init__(inner)
    inner.expert, inner.has_both = expert, False
    tower = SimpleNamespace(dim=1, ffn_dim=1, num_layers=1, text_dim=1)
    config = SimpleNamespace(dual_tower_bridge=SimpleNamespace(layers=[5]), video_dit=tower, audio_dit=tower)
    inner.model_config = SimpleNamespace(unet_config={"mova_config": config})
    return SimpleNamespace(model=inner, patches=dict.fromkeys(patches), patches_uuid=patches)
plain, other, tuned = model("high_noise"), model("low_noise"), model("high_noise", ("x",))
for teachers in ({"teacher_high": plain, "teacher_low": other}, {"teacher_high": other}, {"teacher_high": tuned}):
    try:
        MOVAAudioTeacher.execute(0, model_high=tuned, **teachers)
    except MovaError as error:
        print(error)
"""
