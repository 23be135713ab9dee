"""What training nodes are given wrongly is told in a sentence, before weights are loaded."""

from pathlib import Path

import pytest
import torch
from client import ran, refusal
from graphs import Graph, ref
from inside import run_inside
from loras import loader
from safetensors.torch import load_file, save_file
from training_graphs import PREPARED, gathered, loaded, trained

from mova.train.cache import Cache
from mova.train.run import state_path

NAMES = [
    "../out",
    "a/../../b",
    "/tmp/x",
    "..",
    "",
    " ",
    "a\\..\\..\\b",
    "C:x",
    "a\0b",
    ".hidden",
    "x" * 300,
    "a//b",
    "con.",
    "nul",
    "a/Com1.tar",
    "my\u202egnp",
    "\ud83d",
    "/".join(["x" * 150] * 40),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_leaves_the_folder_is_refused_at_once(server, training_vae, name):
    for make, told in (
        (lambda graph: trained(graph, name), "no name in output/loras; give one such as my_lora"),
        (lambda graph: trained(graph, "x", folder=name), "no name in output/mova_training; give one such as my_clips"),
        (lambda graph: gathered(graph, training_vae, "a", folder=name), "no name in output/mova_training; give one"),
    ):
        graph = Graph()
        make(graph)
        assert told in refusal(server, graph)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"sizes": "640"}, "ive one or more of width x height"),
        ({"sizes": ""}, "ive one or more of width x height"),
        ({"sizes": "50x32"}, "multiple"),
        ({"frames": "many"}, "ive one or more numbers of frames"),
        ({"frames": "48"}, "48"),
        ({"frames": "17"}, "train_a.mp4 has 9 frames at 24 a second, and the shortest to train on is 17"),
        ({"start": 9.0}, "The video ends at 0.38 s"),
        ({"caption": "  "}, "its caption is empty"),
        ({"fps": float("nan")}, "fps"),
    ],
)
def test_a_clip_that_cannot_be_trained_on_is_told(server, training_vae, given, told):
    graph = Graph()
    gathered(graph, training_vae, "a", **{"folder": "refused", **given})
    error = refusal(server, graph)
    assert told in error, error
    assert not (server.base / "output/mova_training/refused/clips").exists()


def test_other_encoders_are_told(server, training_vae):
    graph = Graph()
    node = gathered(graph, training_vae, "a", folder="refused")
    inputs = graph.nodes[node]["inputs"]
    inputs["vae"], inputs["audio_vae"] = inputs["audio_vae"], inputs["vae"]
    assert "Wan 2.1 VAE" in refusal(server, graph)
    inputs["vae"] = inputs["audio_vae"]
    assert "MOVA Audio VAE Loader" in refusal(server, graph)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"folder": "nowhere"},
            "There is no clip in output/mova_training/nowhere; gather some with MOVA Training Clip",
        ),
        ({"steps": 1}, "switch_every 1 leaves no step of 1"),
        ({"warmup": 9}, "warmup is 9; it must be from 0 to below steps (4)"),
        (
            {"checkpoints": "none", "offload_activations": True},
            "offload_activations needs checkpoints layers",
        ),
        ({"lr": float("nan")}, "lr is nan"),
        ({"gradient_clip": 0.0}, "gradient_clip"),
        ({"rank": 0}, "rank"),
        ({"targets": "all"}, "targets"),
    ],
)
def test_settings_that_make_no_sense_are_told_in_the_names_of_the_inputs(server, training_vae, given, told):
    graph = Graph()
    trained(graph, "refused", **given)
    error = refusal(server, graph)
    assert "--" not in error and told.lower() in remedy_last(error).lower(), error


def remedy_last(error):
    remedy, _, what = error.removesuffix(".").partition(": ")
    return f"{what}; {remedy}; {error}"


def test_models_that_cannot_be_trained_are_told(server, training_vae, files):
    graph = Graph()
    high, low = loaded(graph)
    for experts, told in (
        ((low, high), "are the two swapped?"),
        ((high, high), "expert"),
        ((None, None), "Nothing is connected"),
        ((high, graph.model("mova_low")), "different MOVA models"),
        ((graph.model("wan"), low), "not MOVA"),
    ):
        trained(graph, "refused", [*experts])
        assert told in refusal(server, graph), told
        graph.nodes.popitem()


def test_a_model_with_a_lora_on_it_is_told(server, training_vae, files):
    graph = Graph()
    high, low = loaded(graph)
    save_file(*small_lora(files))
    trained(graph, "refused", [ref(loader(graph, "refused_small.safetensors", high)), low])
    assert "The model in model_high has a LoRA or another patch on it" in remedy_last(refusal(server, graph))


def small_lora(files):
    layer = "video_dit.blocks.0.self_attn.q"
    path = files / "models/loras/refused_small.safetensors"
    path.parent.mkdir(exist_ok=True)
    return {f"{layer}.lora_A.weight": torch.ones(2, 256), f"{layer}.lora_B.weight": torch.ones(256, 2)}, path


def test_clips_of_another_model_are_told(server, training_vae):
    folder = server.base / "output/mova_training"
    cache, copy = Cache(folder / PREPARED), Cache(folder / "other")
    for entry in cache.index()[0]:
        tensors = load_file(cache.clip_path(entry.clip))
        copy.write(copy.clip_path(entry.clip), {**tensors, "audio": tensors["audio"][:64]}, cache.told(entry.clip))
        copy.write_text(entry.text, cache.text(entry.text))
        copy.add(entry, entry.text)
    graph = Graph()
    trained(graph, "refused", folder="other")
    assert "was prepared for another model" in refusal(server, graph)


def test_a_lora_of_another_run_is_not_replaced_unless_that_is_wanted(server, training_vae):
    loras = server.base / "output/loras"
    loras.mkdir(exist_ok=True)
    save_file(load_file(vae_file(server)), loras / "given.safetensors")
    for resume in (True, False):
        graph = Graph()
        trained(graph, "given", resume=resume)
        assert "is not of a training run" in refusal(server, graph)
    for name in ("table.csv", "preview.png"):
        (loras / name).write_text("mine")
        graph = Graph()
        trained(graph, Path(name).stem)
        told = refusal(server, graph)
        assert name in told and "another lora_name" in told and (loras / name).read_text() == "mine"
    graph = Graph()
    node = trained(graph, "twice", steps=2)
    ran(server, graph)
    graph.nodes[node]["inputs"]["seed"] = 1
    assert "of a run with another seed" in refusal(server, graph)
    graph.nodes[node]["inputs"]["resume"] = False
    before = load_file(loras / "twice.safetensors")
    ran(server, graph)
    after = load_file(loras / "twice.safetensors")
    assert any(not before[name].equal(after[name]) for name in before)
    assert not state_path(loras / "twice.safetensors").exists()


def test_files_of_one_name_in_several_folders_are_several_clips(host_place):
    assert run_inside(host_place, NAMES_OF_FILES).strip().splitlines()[-1] == "4"


NAMES_OF_FILES = """
import folder_paths
from pathlib import Path
from pack.nodes.host.training_clips import name_of_file
folders = [*map(folder_paths.get_directory_by_type, ("input", "output", "temp")), "/elsewhere"]
print(len({name_of_file(Path(folder).resolve() / "clip.mp4") for folder in folders}))
"""


def vae_file(server):
    return next((server.base / "models/vae").glob("train*.safetensors"))


NAMES_OF_INPUTS = """
import torch
from pack.mova import MovaError
from pack.mova.model.config import RELEASED
from pack.mova.train.memory import Clip, check_room
from pack.mova.train.settings import settings_from
from pack.nodes.train_lora import CALLED, as_inputs, setting_inputs

names = {declared.id for declared in setting_inputs()}
try:
    check_room(RELEASED, settings_from("ours", {"checkpoints": "layers"}), Clip(11_440, 102), 8 * 2**30)
except MovaError as error:
    told = as_inputs(str(error))
assert "--" not in told and {"checkpoints", "offload_activations"} <= names, told
print(told)
"""


def test_a_card_without_room_is_told_with_inputs_that_would_fit(host_place):
    told = run_inside(host_place, NAMES_OF_INPUTS)
    assert "and the card has 8.0 GiB free; with checkpoints pieces" in told
