"""A small checkpoint that can learn something soon, and two clips to learn."""

import json
import shutil

import torch
from clips import moving_frames, tone
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mova.__main__ import main
from mova.clip.media import write_clip

TRAIN = ["--device", "cpu", "--dtype", "fp32", "--base", "bf16", "--checkpoints", "layers"]


def edit(folder, change):
    """change(name, float32 tensor) -> another one, or None, of all weights in a part's folder."""
    for file in sorted(folder.glob("*.safetensors")):
        tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
        for name, tensor in tensors.items():
            if (new := change(name, tensor.float())) is not None:
                tensors[name] = new.to(tensor.dtype).contiguous()
        file.unlink()  # it may be a link to another checkpoint's
        save_file(tensors, file, {"format": "pt"})


def orthogonal(rows, columns):
    values = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))
    return torch.linalg.qr(values)[0]


def readable(checkpoint, folder):
    """A copy whose heads read what its embeddings write, as a trained model's do, and whose sound has small latents.

    With random weights, LoRAs of a few hundred thousand numbers cannot learn to hand the noise through.
    """
    shutil.copytree(checkpoint, folder)
    edit(folder / "audio_vae", lambda name, w: w * 0.005 if name.startswith("quant_conv") else None)
    quiet = {"time_embedding.2.weight": 0.1}

    def of(patch, head):
        def change(name, w):
            if name == "patch_embedding.weight":
                return patch.view(w.shape)
            if name == "head.head.weight":
                return head
            return w * 0.3 if name.endswith(".modulation") else w * quiet[name] if name in quiet else None

        return change

    video, audio = orthogonal(256, 36 * 4), orthogonal(128, 128)
    head = video.view(256, 36, 2, 2)[:, :16].permute(2, 3, 1, 0).reshape(64, 256) * 2
    for part in ("video_dit", "video_dit_2"):
        edit(folder / part, of(video, head))
    edit(folder / "audio_dit", of(audio, audio.T))
    return folder


def write_data(folder, frames=9, size=(32, 48)):
    folder.mkdir()
    for name, hertz in (("a", 440), ("b", 1500)):
        pictures = moving_frames(frames, *size)
        pictures = pictures if name == "a" else pictures.flip(2)
        write_clip(folder / f"{name}.mp4", pictures, 24.0, tone(2000 * frames, hertz=hertz), 48000)
        (folder / f"{name}.txt").write_text(f"thing {name}")
    return folder


def prepared(checkpoint, folder):
    """See the fixture `place`."""
    readable(checkpoint, folder / "release")
    write_data(folder / "data")
    prepare = ["train", "prepare", str(folder / "data"), "--checkpoint", str(folder / "release"), "--dtype", "fp32"]
    for name, size, frames in (("cache", "48x32", "5"), ("large", "96x64", "9")):
        assert (
            main([*prepare, "--out", str(folder / name), "--sizes", size, "--frames", frames, "--device", "cpu"]) == 0
        )
    return folder


def contents(path):
    """Of a LoRA: its tensors, and the settings in its metadata."""
    with safe_open(path, "pt") as file:
        return load_file(path), json.loads(file.metadata()["mova_training"])
