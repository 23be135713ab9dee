"""Which files are offered as LoRAs, and what is told of those that are none."""

import os

import torch
from client import refusal
from graphs import Graph, ref
from loras import LOW_RESOURCE, VIDEO, halves, loader, write
from refused import says


def test_a_trainer_s_files_can_be_chosen_and_its_settings_cannot(server, files):
    write(files, "run/step-10/lora_weights.pt", LOW_RESOURCE)
    write(files, "run/step-10/lora_config.pt", {"rank": 16, "alpha": 16.0})
    info = server.get_json("/object_info/MOVALoraLoader")["MOVALoraLoader"]
    kind, *rest = info["input"]["required"]["lora_name"]
    options = kind if isinstance(kind, list) else rest[0]["options"]
    assert os.path.join("run", "step-10", "lora_weights.pt") in options
    assert not any(name.endswith("lora_config.pt") for name in options)


class Hostile:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (self.target,)


def test_what_cannot_be_right_is_refused_in_one_sentence(server, files, tmp_path):
    def refused(name, high="mova_high", low=None):
        graph = Graph()
        models = [graph.model(model) if model else None for model in (high, low)]
        node = loader(graph, name, *models)
        graph.add("PreviewAny", source=ref(node, 2))
        return refusal(server, graph)

    other = write(files, "flux.safetensors", halves(VIDEO, "transformer.single_transformer_blocks.0.attn.to_q"))
    assert "flux.safetensors is a LoRA for another model: MOVA has no layers as in" in refused(other)
    bent = write(
        files, "bent.safetensors", {f"{VIDEO}.lora_A": torch.zeros(2, 99), f"{VIDEO}.lora_B": torch.zeros(256, 2)}
    )
    message = refused(bent)
    assert f"'{VIDEO}.lora_A' is for a weight of [256, 99], but that of {VIDEO} is [256, 256]" in message
    hostile = write(files, "hostile.pt", {"x": Hostile(str(tmp_path / "owned"))})
    assert "refused because loading a pickle can run any code" in refused(hostile)
    assert not (tmp_path / "owned").exists()
    low = write(files, "low.pt", halves(VIDEO, f"video_dit_2.{VIDEO}"))
    assert says(refused(low), "low.pt is for the other expert; connect that one, to model_low.")
    assert "Nothing is connected to model_high or model_low" in refused(low, None)
    assert "The model in model_high is WAN21, not MOVA" in refused(low, "wan")
    assert "The model in model_low is the high-noise expert" in refused(low, None, "mova_high")
