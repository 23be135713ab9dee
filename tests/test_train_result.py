"""What a LoRA has learned is there when it is loaded."""

import csv

import torch
from golden import error
from PIL import Image
from safetensors.torch import load_file
from slow import slow
from train_runs import TRAIN, contents

from mova.__main__ import main
from mova.checkpoint.release import JOINT, open_checkpoint
from mova.checkpoint.weights import assign
from mova.clip.denoise import denoise
from mova.clip.request import Request
from mova.clip.runtime import Runtime
from mova.lora.plan import LoraChoice, plan, read_changed
from mova.model.joint import JointModel
from mova.sampling.guidance import Guidance
from mova.train import velocity_losses
from mova.train.base import released
from mova.train.cache import Cache
from mova.train.draws import fixed_timesteps, noises
from mova.train.loop import losses_of, validation_loss
from mova.train.run import begin_run, seen_through
from mova.train.settings import settings_from

CPU = torch.device("cpu")


def test_a_lora_overfits_two_clips(place):
    """The loss at fixed timesteps falls below a tenth."""
    out = place / "fits.safetensors"
    chosen = ["--experts", "high", "--targets", "attention+mlp", "--rank", "128", "--alpha", "128", "--lr", "4e-3"]
    more = ["--steps", "75", "--warmup", "5", "--validate-every", "75", "--checkpoints", "none"]
    assert main(["train", str(place / "large"), "--out", str(out), *TRAIN, *chosen, *more]) == 0
    after = float(list(csv.DictReader(out.with_suffix(".csv").open()))[-1]["validation"])
    settings = settings_from("ours", {"experts": "high", "base": "bf16", "dtype": "fp32", "checkpoints": "none"})
    checkpoint = open_checkpoint(place / "release", ("video_dit", *JOINT))
    run = begin_run(released(checkpoint, settings), Cache(place / "large"), settings, place / "none.safetensors", CPU)
    before = validation_loss(run)
    assert after < before / 10
    with Image.open(out.with_suffix(".png")) as plot:
        assert len(plot.getcolors(10**6)) > 5
    check_loaded(place, out, checkpoint)
    check_generated(place, out)


@slow("a minute; one expert is trained in the test above")
def test_a_lora_for_both_experts_overfits_two_clips(place):
    """Picture and sound, of each expert, at fixed timesteps of its own; together below a tenth."""
    out = place / "both.safetensors"
    chosen = ["--targets", "attention+mlp", "--rank", "128", "--alpha", "128", "--lr", "4e-3", "--warmup", "10"]
    more = ["--steps", "400", "--checkpoints", "none"]
    assert main(["train", str(place / "large"), "--out", str(out), *TRAIN, *chosen, *more]) == 0
    options = {"base": "bf16", "dtype": "fp32", "checkpoints": "none", "targets": "attention+mlp"}
    settings = settings_from("ours", {**options, "rank": 128, "alpha": 128.0})
    checkpoint = open_checkpoint(place / "release", (*settings.trained, *JOINT))
    run = begin_run(released(checkpoint, settings), Cache(place / "large"), settings, place / "none.safetensors", CPU)
    before, parts_before = validation_loss(run), parts_of(run)
    tensors = load_file(out)
    with torch.no_grad():
        for name, parameter in run.parameters.items():
            parameter.copy_(tensors[name])
    after, parts_after = validation_loss(run), parts_of(run)
    print(f"{before:.4f} to {after:.4f}", parts_before, parts_after)
    assert after < before / 10
    assert all(now < 0.25 * parts_before[part] for part, now in parts_after.items())


@torch.no_grad()
def parts_of(run):
    """The mean loss of each expert and modality at its fixed timesteps."""
    found = {}
    for expert in run.settings.trained:
        model, times = seen_through(run, expert), fixed_timesteps(expert, run.share)
        losses = [
            losses_of(run, model, run.cache.item(entry.clip), entry.text, time, f"fixed/{entry.clip}")
            for entry in run.entries
            for time in times
        ]
        for index, modality in enumerate(("video", "audio")):
            found[expert, modality] = sum(float(pair[index]) for pair in losses) / len(losses)
    return found


def check_generated(place, out):
    """What is generated with the LoRA, by the expert that was trained, lies nearer to the data."""
    checkpoint, cache = open_checkpoint(place / "release"), Cache(place / "large")
    entries, nothing, _ = cache.index()
    item, distances = cache.item(entries[0].clip), []
    request = Request("", width=96, height=64, frames=9, steps=6, boundary=0.0, seed=1, guidance=Guidance(1.0))
    for choices in ([], [LoraChoice(out)]):
        loras, _ = plan(choices, checkpoint.config)
        prompts = [cache.text(entries[0].text), cache.text(nothing)]
        with torch.inference_mode():
            video, audio = denoise(checkpoint, request, Runtime(CPU, torch.float32), prompts, item.condition, loras)
        distances.append([float((video - item.video).norm()), float((audio - item.audio).norm())])
    without, with_lora = distances
    assert with_lora[0] < 0.75 * without[0] and with_lora[1] < 0.75 * without[1]


def check_loaded(place, out, checkpoint):
    """Merged into the weights as `generate --lora` does it, the LoRA gives the trained model's outputs."""
    merged = JointModel(checkpoint.config, device="meta")
    changes, lines = plan([LoraChoice(out)], checkpoint.config)
    assert len(lines) == 1  # alpha / rank, and nothing left out
    for part in ("video_dit", *JOINT):
        target = merged if part == "video_dit" else merged.get_submodule(part)
        assign(target, read_changed(checkpoint.weights[part], changes[part], torch.float32, CPU))
    told = contents(out)[1]
    options = {name: told[name] for name in ("experts", "base", "dtype", "checkpoints", "targets", "rank", "alpha")}
    settings = settings_from("ours", options)
    run = begin_run(released(checkpoint, settings), Cache(place / "large"), settings, place / "n.safetensors", CPU)
    tensors = load_file(out)
    with torch.no_grad():
        for name, parameter in run.parameters.items():
            parameter.copy_(tensors[name])
    seen = []
    for model in (run.models["video_dit"], merged, JointModel(checkpoint.config, device="meta")):
        if next(model.parameters()).is_meta:  # the model as it was
            for part in ("video_dit", *JOINT):
                target = model if part == "video_dit" else model.get_submodule(part)
                assign(target, checkpoint.weights[part].read(checkpoint.weights[part].tensors, torch.float32))

        def watched(*inputs, model=model):
            out = model(*inputs)
            seen.append(out)
            return out

        item, entry = run.cache.item(run.entries[0].clip), run.entries[0]
        with torch.no_grad():
            velocity_losses(
                watched, item.video, item.audio, item.condition, run.cache.text(entry.text), *noises(item, 0),
                torch.tensor([930.0]), torch.tensor([930.0]),
            )  # fmt: skip
    for mine, loaded, without in zip(*seen, strict=True):
        assert error(loaded, mine) < 1e-5 < 0.1 < error(without, mine)
