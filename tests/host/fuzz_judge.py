"""What an answer of the server is: a refusal, a sentence, a clip that is right, or a fault."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from fuzz_mutate import Mutation
from fuzz_watch import Answer

GIB = 2**30
HOST, SENTENCE, OTHER, CLIP, NOTHING = (
    "refused by the host",
    "one sentence",
    "another's node",
    "clip",
    "nothing to make",
)
LONG = "long, interrupted"  # within the limits: a clip of 16384 pixels, say
FAULT = "FAULT"
OURS = "custom_nodes/comfyui-mova/"
PROBE = "custom_nodes/probe/"


@dataclass
class Verdict:
    kind: str
    what: str  # for a fault: its kind in a few words
    detail: str = ""
    node: str = ""


def with_witnesses(workflow: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """The workflow, and for each link and each output of the pack's nodes a node that says what it carries."""
    seen = {tuple(v) for one in workflow.values() for v in one["inputs"].values() if is_link(v, workflow)}
    for node, one in workflow.items():
        if one["class_type"].startswith("MOVA"):
            seen |= {(node, i) for i in range(len(definitions[one["class_type"]]["output"]))}
    witnesses = {
        f"seen {node} {i}": {"class_type": "ProbeWitness", "inputs": {"value": [node, i]}}
        for node, i in sorted(seen)
        if i < len(definitions[workflow[node]["class_type"]]["output"])
    }
    return {**workflow, **witnesses}


def is_link(value: Any, workflow: dict[str, Any]) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and value[0] in workflow
        and type(value[1]) is int
        and value[1] >= 0
    )


def is_sentence(text: str) -> bool:
    return text.isprintable() and text.endswith((".", "?")) and len(text) < 800


def judge(answer: Answer, made: Mutation, output: Path) -> Verdict:
    if answer.died:
        node = kind_of(made, answer.last)
        return Verdict(FAULT if is_ours(node) else OTHER, "died", f"{answer.died}; {stack_of(answer.log)}", node)
    if answer.hung:
        node = kind_of(made, answer.hung)
        return Verdict(FAULT if is_ours(node) else OTHER, "no answer", answer.hung, node)
    if answer.stopped:
        return Verdict(LONG, "", "it was interrupted", kind_of(made, answer.last))
    if answer.strays:
        return Verdict(FAULT, "a file elsewhere", ", ".join(answer.strays[:3]))
    if answer.refused is not None:
        refusal = judge_refusal(answer, made)
        if refusal.kind == FAULT or answer.outputs is None:
            return refusal
    if answer.error is not None:
        verdict = judge_error(answer.error)
        if verdict.kind == FAULT:
            return verdict
    elif "Traceback" in answer.log and OURS in answer.log:
        return Verdict(FAULT, "a traceback in the log", traceback_of(answer.log))
    else:
        verdict = judge_clip(answer, made, output)
        if verdict.kind == NOTHING and answer.refused:
            return refusal
    if answer.grew > 2 * GIB and is_ours(kind_of(made, answer.running)) and verdict.kind != FAULT:
        node = kind_of(made, answer.running)
        return Verdict(FAULT, "memory", f"{answer.grew / GIB:.1f} GiB; {verdict.kind}: {verdict.detail}", node)
    return verdict


def kind_of(made: Mutation, node: str) -> str:
    return made.workflow.get(node, {}).get("class_type", "")


def is_ours(kind: str) -> bool:
    """A node of the pack; or none, for then it is not known."""
    return kind.startswith("MOVA") or not kind


def stack_of(log: str) -> str:
    """Where faulthandler found it, if it did."""
    return " < ".join(line.strip() for line in log.splitlines() if line.startswith("  File "))[:600]


def traceback_of(log: str) -> str:
    return log[log.index("Traceback") :][-1200:]


def judge_refusal(answer: Answer, made: Mutation) -> Verdict:
    """Refused by /prompt: by the host's own checks, or by a node's validate_inputs, which must not fail itself."""
    faults = answer.refused.get("node_errors") or {}
    for node, found in faults.items() if isinstance(faults, dict) else []:
        kind = found.get("class_type", kind_of(made, node))
        for error in found["errors"]:
            text = str(error.get("details"))
            raw = "exception_during" in error["type"] and not raised_by_the_host(error)
            if kind.startswith("MOVA") and raw:
                return Verdict(FAULT, "raw in validation", text, kind)
            if kind.startswith("MOVA") and error["type"] == "custom_validation_failed":
                told = text.split(" - ", 1)[-1]
                if not told.isprintable():
                    return Verdict(FAULT, "not one line in validation", repr(told)[:400], kind)
    if answer.outputs is None and "Traceback" in answer.log and OURS in answer.log:
        return Verdict(FAULT, "a traceback in the log", traceback_of(answer.log))
    return Verdict(HOST, "", str(answer.refused.get("error"))[:300])


def raised_by_the_host(error: dict[str, Any]) -> bool:
    trace = "".join(error.get("extra_info", {}).get("traceback", []))
    return OURS not in trace


def judge_error(error: dict[str, Any]) -> Verdict:
    """A node has failed. Raw errors are ours where the node is, or where the line is that raised them."""
    node, kind, text = error["node_type"], error["exception_type"], error["exception_message"].rstrip("\n")
    if kind.rsplit(".", 1)[-1] == "MovaError":
        text = text.split("\n\nTIPS")[0]
        return (
            Verdict(SENTENCE, "", text, node) if is_sentence(text) else Verdict(FAULT, "no sentence", repr(text), node)
        )
    frames = [line for line in error["traceback"] if "custom_nodes/" in line]
    raised = error["traceback"][-1] if error["traceback"] else ""
    if node.startswith("MOVA") or OURS in raised:
        where = next((line for line in reversed(frames) if OURS in line), raised)
        return Verdict(FAULT, "raw error", f"{kind}: {text[:300]} | {where.strip()[-200:]}", node)
    within = any(OURS in line for line in frames)
    return Verdict(OTHER, "", f"{'through our code, ' * within}{kind}: {text[:300]}", node)


def described(answer: Answer, link: Any) -> dict[str, Any]:
    """What the witness of a link has seen."""
    if not isinstance(link, list):
        return {"kind": type(link).__name__, "value": repr(link)}
    return ((answer.outputs or {}).get(f"seen {link[0]} {link[1]}", {}).get("seen") or [{}])[0]


def judge_clip(answer: Answer, made: Mutation, output: Path) -> Verdict:
    """The clip must be what its node was given, and what the workflow asked for; nothing may be no number."""
    for node, one in made.workflow.items():
        if one["class_type"].startswith("MOVA"):
            for i in range(3):
                if not all_finite(described(answer, [node, i])):
                    return Verdict(FAULT, "not finite", f"output {i}", one["class_type"])
    saved = [
        node for node in answer.outputs if kind_of(made, node) == "SaveVideo" and answer.outputs[node].get("images")
    ]
    if not saved:
        return Verdict(NOTHING, "", "")
    (entry,) = answer.outputs[saved[0]]["images"]
    path = output / entry["subfolder"] / entry["filename"]
    if "\0" in str(path):  # which the disk, and the library that writes it, take for the name's end
        return Verdict(OTHER, "", "a file name with a zero byte", "SaveVideo")
    if output.resolve() not in path.resolve().parents:
        return Verdict(FAULT, "a file elsewhere", str(path))
    for node, one in made.workflow.items():
        if one["class_type"] == "MOVACombineVideo" and made.workflow[saved[0]]["inputs"]["video"] == [node, 0]:
            fault = wrong_clip(path, answer, one["inputs"]) or wrong_size(answer, made)
            if fault:
                return Verdict(FAULT, "silently wrong", fault, "MOVACombineVideo")
    return Verdict(CLIP, "", "")


def all_finite(seen: dict[str, Any]) -> bool:
    parts = [*seen.get("parts", []), *seen.get("entries", {}).values()]
    return seen.get("finite", True) and all(map(all_finite, parts))


def wrong_clip(path: Path, answer: Answer, inputs: dict[str, Any]) -> str:
    """What of a clip is not what MOVA Combine Video was given, by the host's own decoder."""
    images, fps, audio = (described(answer, inputs.get(name)) for name in ("images", "fps", "audio"))
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        pixels = [frame.to_ndarray(format="rgb24") for frame in container.decode(video)]
        rate = float(video.average_rate or 0)
    try:
        wanted = float({"True": 1}.get(fps["value"], fps["value"]))  # to the host, true is the number 1
    except (KeyError, ValueError):  # an object that can be counted with, though it is no number: nothing to hold it to
        wanted = rate
    if "shape" not in images or len(pixels) != images["shape"][0]:
        return f"{len(pixels)} frames in the clip of {images}"
    if abs(rate / wanted - 1) > 2e-3 and len(pixels) > 1:
        return f"{rate} frames a second, not {wanted}"
    if any(abs(side - given) > 1 for side, given in zip(pixels[0].shape[:2], images["shape"][1:3], strict=True)):
        return f"{pixels[0].shape} of {images}"
    return wrong_sound(path, audio, len(pixels) / wanted)


def wrong_sound(path: Path, audio: dict[str, Any], seconds: float) -> str:
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return "" if audio["kind"] == "NoneType" else f"no sound in the clip of {audio}"
        if audio["kind"] == "NoneType":
            return "a sound from nowhere"
        stream = container.streams.audio[0]
        parts = [frame.to_ndarray() for frame in container.decode(stream)]
        rate = stream.rate
    samples = np.concatenate(parts, axis=-1) if parts else np.zeros((1, 0))
    if not np.isfinite(samples).all():
        return "the sound is not finite"
    length = samples.shape[-1] / rate
    return (
        ""
        if abs(length - seconds) < 0.01 + 2 * 1024 / rate
        else f"{length:.3f} s of sound to {seconds:.3f} s of frames"
    )


def wrong_size(answer: Answer, made: Mutation) -> str:
    """What of the latent and of the sound is not as MOVA Conditioning was asked for."""
    for node, one in made.workflow.items():
        if one["class_type"] != "MOVAConditioning":
            continue
        asked = {n: described(answer, one["inputs"].get(n)) for n in ("width", "height", "length", "fps", "batch_size")}
        if any("value" not in seen or seen["kind"] not in ("int", "float") for seen in asked.values()):
            continue
        fps = float(asked.pop("fps")["value"])
        width, height, length, batch = (int(float(seen["value"])) for seen in asked.values())  # as the host cuts them
        parts = described(answer, [node, 2]).get("entries", {}).get("samples", {}).get("parts")
        shape = [batch, 16, (length - 1) // 4 + 1, height // 8, width // 8]
        if not parts or parts[0].get("shape") != shape:
            return f"the latent is {parts}, not {shape}"
        for decoder, other in made.workflow.items():
            if other["class_type"] == "MOVAAudioDecode" and not made.rewired:
                sound = described(answer, [decoder, 0])["entries"]
                seconds = sound["waveform"]["shape"][-1] / float(sound["sample_rate"]["value"])
                if not math.isclose(seconds, length / fps, abs_tol=0.1):
                    return f"{seconds:.3f} s of sound were made for {length / fps:.3f} s"
    return ""
