"""The workflow that would make a clip of the command line in ComfyUI: a shipped one with the clip's settings in it.

ComfyUI's page opens it when the clip is dropped on it. It names files without their folders, so that a clip that is
given away tells nothing of the machine that made it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WORKFLOWS = Path(__file__).parents[2] / "workflows" / "api"  # of the pack; mova alone comes without
# By the pictures it begins and ends with.
NAMES = {
    (False, False): "mova_2_text_to_video_with_sound",
    (True, False): "mova_1_image_to_video_with_sound",
    (False, True): "mova_3_first_and_last_frame_with_sound",
    (True, True): "mova_3_first_and_last_frame_with_sound",
}
TILES = {"tile_size": 256, "overlap": 64, "temporal_size": 32, "temporal_overlap": 8}  # as mova_6_low_memory has them
AS_CFG = -1.0  # of MOVAJointSampler's audio_cfg
Graph = dict[str, dict[str, Any]]


def graph_of(settings: Mapping[str, Any], image: str | None, end_image: str | None) -> Graph | None:
    """The graph in ComfyUI's API format. `settings` are request.settings_of's; the pictures are names of files.

    None where the shipped workflows are not there.
    """
    path = WORKFLOWS / f"{NAMES[image is not None, end_image is not None]}.json"
    if not path.is_file():
        return None
    graph = renumbered(json.loads(path.read_text(encoding="utf-8")))
    size = of_kind(graph, "MOVASize")
    del graph[size]  # its values stand where it was linked to
    text = graph[of_kind(graph, "MOVATextEncode")]["inputs"]["prompt"]
    if isinstance(text, list):  # likewise
        del graph[text[0]]
    fill(graph, "MOVATextEncode", {name: settings[name] for name in ("prompt", "negative_prompt")})
    shape = {"width": "width", "height": "height", "length": "frames", "fps": "fps"}
    given = {name: settings[setting] for name, setting in shape.items()}
    conditioning = fill(graph, "MOVAConditioning", given | {"text_only_frame": settings["text_only_frame"]})
    fill(graph, "MOVACombineVideo", {"fps": settings["fps"]})
    for name, file in (("start_image", image), ("end_image", end_image)):
        if (link := conditioning.get(name)) and file is None:
            del conditioning[name], graph[link[0]]
        elif link:
            graph[link[0]]["inputs"]["image"] = file
    release = str(settings["checkpoint"])
    for kind in ("MOVAModelLoader", "MOVAAudioVAELoader"):
        loader = graph[of_kind(graph, kind)]["inputs"]
        own = kind == "MOVAModelLoader" or not release.startswith("Prism")  # which uses MOVA-360p's
        loader |= {name: named_for(release, value) for name, value in loader.items() if own}
    audio_cfg = AS_CFG if settings["audio_guidance"] == settings["guidance"] else settings["audio_guidance"]
    same = {name: settings[name] for name in ("seed", "steps", "video_shift", "audio_shift", "boundary")}
    scales = {"cfg": settings["guidance"], "bridge_cfg": settings["bridge_guidance"], "audio_cfg": audio_cfg}
    same |= {"audio_steps": settings["audio_steps"]} if "audio_steps" in settings else {}
    sampler = fill(graph, "MOVAJointSampler", same | scales)
    if spans := schedule_of(settings):
        sampler["guidance"] = [add(graph, "MOVAGuidanceSchedule", "MOVA Guidance Schedule", spans), 0]
    if "audio_prompt" in settings:
        text = add(graph, "PrimitiveStringMultiline", "Audio prompt", {"value": settings["audio_prompt"]})
        graph[of_kind(graph, "MOVATextEncode")]["inputs"]["audio_prompt"] = [text, 0]
    for lora in settings["loras"]:
        name, _, strength = str(lora).rpartition(":")
        strengths = {f"strength_{part}": float(strength) for part in ("video", "audio", "bridge")}
        put_before_sampler(graph, "MOVALoraLoader", "MOVA LoRA Loader", {"lora_name": name, **strengths})
    how = {name: settings[name] for name in ("elementwise", "low_memory")}
    how |= {"audio_memory": settings["audio_memory"]} if "audio_memory" in settings else {}
    if how != {"elementwise": "torch", "low_memory": False}:
        put_before_sampler(graph, "MOVAModelOptions", "MOVA Model Options", how)
    if settings["tiled_vae"]:
        decode = graph[of_kind(graph, "VAEDecode")]
        decode.update(class_type="VAEDecodeTiled", _meta={"title": "VAE Decode (Tiled)"})
        decode["inputs"] |= TILES
    return graph


def renumbered(workflow: Graph) -> Graph:
    """With plain numbers also for nodes that stood in a subgraph ("11:4")."""
    numbers = {old: str(at) for at, old in enumerate(workflow, 1)}

    def moved(value: Any) -> Any:
        return [numbers[value[0]], value[1]] if isinstance(value, list) else value

    return {
        numbers[old]: node | {"inputs": {name: moved(value) for name, value in node["inputs"].items()}}
        for old, node in workflow.items()
    }


def of_kind(graph: Graph, kind: str) -> str:
    """The number of the only node of that kind."""
    (number,) = (number for number, node in graph.items() if node["class_type"] == kind)
    return number


def fill(graph: Graph, kind: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Set inputs of the only node of that kind; what was linked to them is not any more. Returns its inputs."""
    inputs: dict[str, Any] = graph[of_kind(graph, kind)]["inputs"]
    inputs.update(values)
    return inputs


def named_for(release: str, file: str) -> str:
    """The same file of another release: "MOVA-360p_audio_vae.safetensors" of MOVA-720p begins with that."""
    return f"{release}_{file.partition('_')[2]}" if file.endswith(".safetensors") else file


def put_before_sampler(graph: Graph, kind: str, title: str, values: Mapping[str, Any]) -> None:
    """A node that both experts pass on their way to the sampler."""
    sampler = graph[of_kind(graph, "MOVAJointSampler")]["inputs"]
    experts = {name: sampler[name] for name in ("model_high", "model_low")}
    number = add(graph, kind, title, {**values, **experts})
    sampler |= {name: [number, slot] for slot, name in enumerate(experts)}


def add(graph: Graph, kind: str, title: str, inputs: Mapping[str, Any]) -> str:
    """A node with these inputs; returns its number."""
    number = str(max(map(int, graph)) + 1)
    graph[number] = {"class_type": kind, "_meta": {"title": title}, "inputs": dict(inputs)}
    return number


def schedule_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """MOVA Guidance Schedule's inputs; none if guidance counts in all steps alike."""
    found = {name: settings.get(f"guidance_{name}") for name in ("text", "audio", "bridge", "per_step")}
    if not any(found.values()):
        return {}
    text, bridge = (found[name] or (0.0, 1.0) for name in ("text", "bridge"))
    audio = found["audio"] or (-0.01, -0.01)  # -1 percent: as the text's
    spans = {"text": text, "audio": audio, "bridge": bridge}
    ends = {f"{name}_{end}": 100 * span[i] for name, span in spans.items() for i, end in enumerate(("start", "end"))}
    return {**ends, "cfg_per_step": ", ".join(f"{scale:g}" for scale in found["per_step"] or ())}
