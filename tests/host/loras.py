"""LoRAs for the golden models: files of them, what they make on the host, and the same merged by hand."""

import torch
from client import ran
from golden import joint_inputs, joint_model
from graphs import EXPERTS, GIVEN, KIND, golden_model, numbers, ref
from lora_files import saved

VIDEO, AUDIO = "blocks.1.self_attn.q", "audio_dit.blocks.0.ffn.2"
BRIDGE = "dual_tower_bridge.video_to_audio_conditioners.0.inner.v"
LAYERS = (VIDEO, AUDIO, BRIDGE)
TIME = 700.0


def pair(layer, seed="", rank=4):
    rows, columns = golden_model("high").state_dict()[f"{layer}.weight"].shape
    return numbers(f"{layer}{seed}a", rank, columns) / 16, numbers(f"{layer}{seed}b", rows, rank) / 2


def write(files, name, tensors):
    saved(files / "models/loras" / name, tensors)
    return name


def halves(layer, key, down=".lora_A.weight", up=".lora_B.weight", seed=""):
    a, b = pair(layer, seed)
    return {key + down: a, key + up: b}


@torch.no_grad()
def by_hand(expert, changes):
    """One forward of our own model with updates added to its weights."""
    state = golden_model(expert).state_dict()
    model = joint_model(KIND, EXPERTS[expert])
    model.load_state_dict(state | {name: state[name] + update for name, update in changes.items()})
    given = joint_inputs(KIND)
    time = torch.tensor([TIME])
    return dict(zip(("video", "audio"), model(given["video"], given["audio"], time, time, given["text"]), strict=True))


def merged(*layers, strength=1.0, scale=1.0, seed=""):
    changes = {}
    for layer in layers:
        down, up = pair(layer, seed)
        changes[f"{layer}.weight"] = strength * scale * (up @ down)
    return changes


def loader(graph, name, high=None, low=None, video=1.0, audio=1.0, bridge=1.0):
    models = {slot: model for slot, model in (("model_high", high), ("model_low", low)) if model is not None}
    strengths = {"strength_video": video, "strength_audio": audio, "strength_bridge": bridge}
    return graph.add("MOVALoraLoader", lora_name=name, **models, **strengths)


def forwards(server, graph, *models, report=None):
    """The forward of each model, and the report of a loader."""
    scales = {"a2v_scale": 1.0, "v2a_scale": 1.0}
    saved = []
    for i, model in enumerate(models):
        out = graph.add("ProbeForward", model=model, file=GIVEN["file"], timestep=TIME, **scales)
        saved.append(graph.save(ref(out), f"lora{i}.safetensors"))
    shown = graph.add("PreviewAny", source=ref(report, 2)) if report else None
    result = ran(server, graph)
    found = [server.tensors(result, node) for node in saved]
    return [*found, result.outputs[shown]["text"][0]] if report else found


def spelling(key, down=".lora_A.weight", up=".lora_B.weight", layers=LAYERS, flat=False):
    """Pairs for these layers under names of this spelling."""
    tensors = {}
    for layer in layers:
        name = layer.replace(".", "_") if flat else layer
        tensors |= halves(layer, (key if layer == VIDEO else key.replace("video_dit.", "")) + name, down, up)
    return tensors


LOW_RESOURCE = {"lora_state_dict": spelling("video_dit.", ".lora_A", ".lora_B"), "rank": 4, "alpha": 4.0}
