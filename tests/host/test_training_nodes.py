"""Clips gathered and LoRAs trained by nodes are those of the command line."""

import pytest
import torch
from bench import differ
from client import ran
from golden import error, joint_inputs
from graphs import KIND, Graph, ref
from inside import run_inside
from loras import TIME, forwards, loader
from safetensors.torch import load_file
from training_graphs import COMMAND, by_command, gathered, loaded, stopped, trained

from mova.__main__ import main
from mova.checkpoint.release import EXPERTS, JOINT, open_checkpoint
from mova.clip.runtime import Runtime
from mova.convert.run import convert
from mova.train.base import released
from mova.train.cache import Cache
from mova.train.media import Clip, Shapes
from mova.train.output import read_state
from mova.train.prepare import PARTS, clip_told, encode_clip, load_encoders
from mova.train.run import begin_run, state_path
from mova.train.settings import settings_from

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def loras(server, training_vae):
    return server.base / "output/loras"


@pytest.fixture(scope="module")
def wanted(training_vae, place, tmp_path_factory):
    """The LoRA of the command line."""
    return by_command(place / "cache", tmp_path_factory.mktemp("wanted") / "wanted.safetensors")


def check_same(found, wanted):
    tensors, others = load_file(found), load_file(wanted)
    assert tensors.keys() == others.keys()
    assert all(torch.equal(tensors[name], others[name]) for name in others)
    assert found.with_suffix(".csv").read_text() == wanted.with_suffix(".csv").read_text()
    assert found.with_suffix(".png").is_file() and not state_path(found).exists()


def test_a_lora_trained_by_the_node_is_that_of_the_command_bit_for_bit(server, loras, wanted):
    graph = Graph()
    node = trained(graph, "by_node")
    graph.add("SaveLoRA", lora=ref(node), prefix="loras/saved_high", steps=ref(node, 3))
    plot = graph.add("LossGraphNode", loss=ref(node, 2), filename_prefix="loss")
    result = ran(server, graph)
    check_same(loras / "by_node.safetensors", wanted)
    bars = [(value, most) for one, value, most in result.progress if one == node]
    assert bars == [(step, 4) for step in range(5)] and result.previews
    assert result.outputs[plot]["images"] and result.outputs[node]["images"]
    assert "(by count, not by trial)" in result.outputs[node]["mova_notice"][0]
    saved, ours = load_file(loras / "saved_high_4_steps_00001_.safetensors"), load_file(wanted)
    for name, tensor in saved.items():
        layer = name.removeprefix("diffusion_model.")
        assert torch.equal(tensor, ours[layer if layer.startswith(JOINT) else f"video_dit.{layer}"])
    assert len(saved) == sum(not name.startswith("video_dit_2.") for name in ours)


def test_the_trained_lora_gives_the_trained_model_s_outputs_by_our_loader_and_by_the_host_s(server, place, wanted):
    graph = Graph()
    high, low = loaded(graph)
    node = trained(graph, "by_node")
    ours = loader(graph, "by_node.safetensors", high, low)
    core = [
        ref(graph.add("LoraModelLoader", model=model, lora=ref(node, slot), strength_model=1.0, bypass=False))
        for slot, model in enumerate((high, low))
    ]
    found = forwards(server, graph, ref(ours), *core[:1], ref(ours, 1), *core[1:], high, low)
    settings = settings_from("ours", {"base": "bf16", "dtype": "fp32", "rank": 4, "alpha": 8.0})
    checkpoint = open_checkpoint(place / "release", (*settings.trained, *JOINT))
    run = begin_run(released(checkpoint, settings), Cache(place / "cache"), settings, place / "x.safetensors", CPU)
    tensors, given, time = load_file(wanted), joint_inputs(KIND), torch.tensor([TIME])
    with torch.no_grad():
        for name, parameter in run.parameters.items():
            parameter.copy_(tensors[name])
        for model, loaded_ones, plain in zip(run.models.values(), (found[:2], found[2:4]), found[4:], strict=True):
            made = model(given["video"], given["audio"], time, time, given["text"])
            outputs = dict(zip(("video", "audio"), made, strict=True))
            assert all(differ(one, outputs) < 1e-5 for one in loaded_ones) and differ(plain, outputs) > 1e-3


def test_an_interrupted_run_goes_on_bit_for_bit_and_a_finished_one_is_not_trained_again(server, loras, wanted):
    graph = Graph()
    node = trained(graph, "stopped")
    assert stopped(server, graph, node, 2).error == "interrupted"
    assert read_state(state_path(loras / "stopped.safetensors")).step == 2
    assert [name for name in server.get_json("/models/loras") if "stopped" in name] == ["stopped.safetensors"]
    again = ran(server, graph)
    assert min(value for one, value, _ in again.progress if one == node) == 2
    check_same(loras / "stopped.safetensors", wanted)
    graph.nodes[node]["inputs"]["resident_layers"] = 1  # another graph to the host, the same run
    third = ran(server, graph)
    assert not third.progress and "trained already" in third.outputs[node]["mova_notice"][0]
    check_same(loras / "stopped.safetensors", wanted)


def test_on_files_in_fp8_it_is_that_of_the_command_with_an_fp8_base(server, loras, place, tmp_path):
    made = convert(place / "release", server.base / "models", "fp8_e4m3_scaled", stem="fp8", parts=[*EXPERTS])
    names = [file.path.name for file in made]
    graph = Graph()
    models = graph.add("MOVAModelLoader", high_noise=names[0], low_noise=names[1], weight_dtype="default")
    trained(graph, "fp8", [ref(models), ref(models, 1)], base="fp8")
    ran(server, graph)
    check_same(loras / "fp8.safetensors", by_command(place / "cache", tmp_path / "fp8.safetensors", "--base", "fp8"))


def test_one_expert_alone_is_that_of_the_command_and_what_hangs_on_the_other_does_not_run(
    server, loras, place, tmp_path
):
    graph = Graph()
    node = trained(graph, "low", [None, loaded(graph)[1]], parts="video,bridge", offload_activations=True)
    saved = [graph.add("SaveLoRA", lora=ref(node, slot), prefix=f"loras/alone_{slot}") for slot in (0, 1)]
    result = ran(server, graph)
    assert saved[1] in result.executed and not list(loras.glob("alone_0*"))
    more = ["--experts", "low", "--parts", "video,bridge"]
    wanted = by_command(place / "cache", tmp_path / "low.safetensors", *more)
    check_same(loras / "low.safetensors", wanted)
    assert {name.partition(".")[0] for name in load_file(wanted)} == {"video_dit_2", "dual_tower_bridge"}


def test_a_folder_that_the_node_has_filled_trains_on_the_command_line(
    server, loras, training_vae, place, tmp_path, capsys
):
    graph = Graph()
    clip = gathered(graph, training_vae, "b", folder="both", caption="a caption")
    trained(graph, "from_node", folder=ref(clip))
    ran(server, graph)
    folder, out = server.base / "output/mova_training/both", tmp_path / "l.safetensors"
    check_same(loras / "from_node.safetensors", by_command(folder, out, "--checkpoint", str(place / "release")))
    assert main(["train", str(folder), "--out", str(tmp_path / "other.safetensors"), *COMMAND]) == 1
    assert "was gathered in ComfyUI; name the release's folder by --checkpoint" in capsys.readouterr().err


def test_nothing_else_is_loaded_while_a_lora_is_trained(server, training_vae):
    graph = Graph()
    clip = gathered(graph, training_vae, "a", folder="resident")
    trained(graph, "resident", folder=ref(clip), steps=2)
    before = len(server.logged())
    ran(server, graph)
    encoding, _, training = server.logged()[before:].partition("[probe] all is unloaded: 0 are left")
    assert "[probe] weights are asked for" in encoding
    assert training and "[probe] weights are asked for" not in training


READ = """
import pathlib
from safetensors.torch import save_file
from pack.mova.train.media import Shapes, read_clip
from pack.mova.train.samples import Sample

path, out = map(pathlib.Path, arguments)
clip = read_clip(Sample(path.name, path, "x"), Shapes([(48, 32)], [5]), 48000)
save_file({"frames": clip.frames, "waveform": clip.waveform}, out)
"""


def test_a_clip_gathered_by_the_node_is_that_of_prepare(server, host_place, training_vae, place, tmp_path):
    graph = Graph()
    first = gathered(graph, training_vae, "a")
    gathered(graph, training_vae, "b", folder=ref(first))
    result = ran(server, graph)
    cache = Cache(server.base / "output/mova_training/gathered")
    entries, nothing, checkpoint = cache.index()
    assert [(entry.name, entry.caption) for entry in entries] == [
        ("train_a.mp4", "thing a"),
        ("train_b.mp4", "thing b"),
    ]
    assert checkpoint is None and cache.text(nothing).shape == (1, 512, 4096)
    encoders = load_encoders(open_checkpoint(place / "release", PARTS), Runtime(CPU, torch.float32))
    for entry in entries:
        # Frames as PyAV beside the host reads them: another version rounds colours in another way.
        run_inside(host_place, READ, str(server.base / "input" / entry.name), str(tmp_path / entry.name))
        clip = Clip(**load_file(tmp_path / entry.name), notices=[])
        with torch.inference_mode():
            wanted = encode_clip(clip, 24.0, 48000, *encoders)
        found = cache.item(entry.clip)
        assert torch.equal(found.audio[0], wanted["audio"]) and torch.equal(
            found.condition[0, :4], wanted["condition"][:4]
        )
        assert torch.equal(cache.pictures(entry.clip), wanted["pictures"])
        # The same VAE, by the host's code and by diffusers'.
        assert error(found.video[0], wanted["video"]) < 1e-5
        assert error(found.condition[0], wanted["condition"]) < 1e-5
        assert cache.told(entry.clip) == clip_told(clip, Shapes([(48, 32)], [5]))
    assert result.outputs[first]["images"]
    assert result.outputs[first]["mova_notice"] == [
        "train_a.mp4: 48 x 32, 5 frames; 1 in output/mova_training/gathered"
    ]


def test_clips_of_many_runs_are_in_one_folder_and_another_caption_takes_the_place_of_the_first(server, training_vae):
    folder = "many"
    for name, settings in (("a", {}), ("b", {}), ("a", {"caption": "another (thing)"}), ("a", {"start": 0.15})):
        graph = Graph()
        gathered(graph, training_vae, name, folder=folder, **settings)
        ran(server, graph)
    cache = Cache(server.base / "output/mova_training" / folder)
    found = {entry.name: entry.caption for entry in cache.index()[0]}
    assert found == {
        "train_a.mp4": "another (thing)",
        "train_b.mp4": "thing b",
        "train_a.mp4 from 0.15 s": "thing a",
    }
    assert len(list((cache.folder / "clips").iterdir())) == 3
