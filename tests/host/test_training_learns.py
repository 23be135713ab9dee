"""What is learned in a graph is there when a clip is made with it, in a graph."""

import csv

import torch
from client import ran
from graphs import Graph, ref, to_model_scale
from loras import loader
from safetensors.torch import save_file
from slow import slow
from training_graphs import gathered, loaded, trained

from mova.checkpoint.release import JOINT, open_checkpoint
from mova.train.base import released
from mova.train.cache import Cache
from mova.train.loop import validation_loss
from mova.train.run import begin_run
from mova.train.settings import settings_from

STEPS = 150
LEARN = {"steps": STEPS, "rank": 128, "alpha": 128.0, "lr": 4e-3, "targets": "attention+mlp", "warmup": 5}
LEARN |= {"checkpoints": "none", "validate_every": STEPS}


@slow("some minutes; test_train_result holds the same of the command line, of which the node gives the bits")
def test_a_lora_of_the_node_overfits_two_clips_and_those_made_with_it_lie_nearer_to_them(server, training_vae, place):
    graph = Graph()
    size = {"sizes": "96x64", "frames": "9", "folder": "learned"}
    first = gathered(graph, training_vae, "a", **size)
    second = gathered(graph, training_vae, "b", **{**size, "folder": ref(first)})
    high, _ = loaded(graph)
    trained(graph, "learned", [high, None], folder=ref(second), **LEARN)
    ran(server, graph)
    cache = Cache(server.base / "output/mova_training/learned")
    table = (server.base / "output/loras/learned.csv").open()
    settings = settings_from("ours", {"experts": "high", "base": "bf16", "dtype": "fp32", "checkpoints": "none"})
    checkpoint = open_checkpoint(place / "release", ("video_dit", *JOINT))
    run = begin_run(released(checkpoint, settings), cache, settings, place / "no.safetensors", torch.device("cpu"))
    before, after = validation_loss(run), float(list(csv.DictReader(table))[-1]["validation"])
    assert after < before / 10

    item, found = cache.item(run.entries[0].clip), []
    graph = Graph()
    high, _ = loaded(graph)
    text, nothing = cache.text(run.entries[0].text), cache.text(run.nothing)  # padded, as UMT5's are
    start = {"video": torch.cat([torch.zeros_like(item.video), item.condition], dim=1), "audio": item.audio}
    save_file({**start, "text": text, "negative_text": nothing}, server.base / "input/learned.safetensors")
    given = graph.add("ProbeGiven", file="learned.safetensors")
    with_lora = ref(loader(graph, "learned.safetensors", high))
    saved = [
        graph.save(ref(graph.joint(model, given, cfg=1.0, steps=6, boundary=0.0)), f"learned_{index}.safetensors")
        for index, model in enumerate((high, with_lora))
    ]
    result = ran(server, graph)
    for node in saved:
        made = server.tensors(result, node)
        video, audio = to_model_scale(made["video"]), made["audio"]
        found.append([float((video - item.video).norm()), float((audio - item.audio).norm())])
    without, learned = found
    assert learned[0] < 0.75 * without[0] and learned[1] < 0.75 * without[1]
