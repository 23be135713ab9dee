"""Clips gathered and LoRAs trained by nodes are those of the command line."""

import shutil

import pytest
import torch
from client import ran, refusal
from graphs import Graph, ref
from safetensors.torch import load_file
from train_runs import TRAIN

from mova.__main__ import main

STEPS = {"steps": 4, "rank": 4, "alpha": 8.0, "lr": 1e-2, "seed": 0}
COMMAND = [*TRAIN, "--steps", "4", "--rank", "4", "--alpha", "8", "--lr", "1e-2", "--warmup", "1"]
EXACT = {"base": "bf16", "dtype": "fp32", "checkpoints": "layers", "warmup": 1}


@pytest.fixture(scope="module")
def trainer(server, place):
    """The server, with the release and the prepared clips of `place`."""
    shutil.copytree(place / "release", server.base / "models/diffusion_models/MOVA-small")
    shutil.copytree(place / "cache", server.base / "output/mova_training/prepared")
    return server


def trained(graph, name, **settings):
    models = graph.add("MOVAModelLoader", high_noise="MOVA-small", low_noise="MOVA-small", weight_dtype="default")
    given = {"folder": "prepared", "lora_name": name, **STEPS, **EXACT, **settings}
    return graph.add("MOVATrainLoRA", model_high=ref(models), model_low=ref(models, 1), **given)


def check_same(found, wanted):
    found, wanted = load_file(found), load_file(wanted)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_a_lora_trained_by_the_node_is_that_of_the_command_bit_for_bit(trainer, place, tmp_path):
    graph = Graph()
    node = trained(graph, "by_node")
    graph.add("SaveLoRA", lora=ref(node), prefix="loras/saved_high", steps=ref(node, 3))
    plot = graph.add("LossGraphNode", loss=ref(node, 2), filename_prefix="loss")
    result = ran(trainer, graph)
    print(result)
    out, threads = tmp_path / "by_command.safetensors", torch.get_num_threads()
    torch.set_num_threads(1)  # as the server has it: sums are in another order with more
    assert main(["train", str(place / "cache"), "--out", str(out), *COMMAND]) == 0
    check_same(trainer.base / "output/loras/by_node.safetensors", out)
