"""A clip made by a ComfyUI server: its own start, the pack linked in, and a workflow posted over HTTP."""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "host")]
from client import Server, find_comfyui

from mova.checkpoint.release import Checkpoint, open_checkpoint
from mova.convert.run import convert
from mova.model import text

__all__ = ["find_comfyui", "make_clip"]


def make_clip(comfyui: Path, python: str, checkpoint: Path, image: Path, prompt: str, out: Path, **size: Any) -> None:
    """Start ComfyUI on a base directory of its own, make the clip, and stop it. `size`: width, height, frames, steps.

    Raises RuntimeError if ComfyUI does not start, or says that something is wrong.
    """
    # Not in this project: the base directory links to it, and would then be inside itself.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        base = Path(folder)
        server = Server(comfyui, python, base)
        opened = open_checkpoint(checkpoint)
        list(convert(checkpoint, base / "models", "fp32", "tiny"))
        shutil.copy(image, base / "input")
        save_texts(opened, prompt, base / "input")
        server.add_pack("comfyui-mova", ROOT)
        print("Starting ComfyUI ...", flush=True)
        try:
            server.start(warm=False)
            print("Running the workflow ...", flush=True)
            result = server.run(workflow(image.name, **size))
            if result.error:
                raise RuntimeError(f"ComfyUI says: {result.error}\n{server.logged()[-2000:]}")
            (saved,) = result.outputs["save"]["images"]
            out.write_bytes(server.view(saved))
        finally:
            server.stop()


@torch.inference_mode()
def save_texts(checkpoint: Checkpoint, prompt: str, folder: Path) -> None:
    """Both prompts as saved conditionings: ComfyUI's own text encoder knows the released size only."""
    encoder = text.load_encoder(checkpoint.root / "text_encoder", torch.float32, torch.device("cpu"))
    tokenizer = text.load_tokenizer(checkpoint.root / "tokenizer")
    features = text.encode(tokenizer, encoder, [prompt, text.NEGATIVE_PROMPT])
    for name, feature in zip(("positive", "negative"), features, strict=True):
        save_file({"0": feature.clone()}, folder / f"{name}.conditioning.safetensors", {"mova_conditioning": "[{}]"})


def workflow(image: str, width: int, height: int, frames: int, steps: int, fps: float = 24.0) -> dict[str, Any]:
    """Image to video and sound, in ComfyUI's API format."""

    def node(kind: str, **inputs: Any) -> dict[str, Any]:
        return {"class_type": kind, "inputs": inputs}

    return {
        "experts": node(
            "MOVAModelLoader",
            high_noise="tiny_high_noise_fp32.safetensors",
            low_noise="tiny_low_noise_fp32.safetensors",
            weight_dtype="default",
        ),
        "vae": node("VAELoader", vae_name="tiny_wan_vae.safetensors"),
        "audio vae": node("MOVAAudioVAELoader", vae_name="tiny_audio_vae.safetensors"),
        "positive": node("MOVALoadConditioning", file="positive.conditioning.safetensors"),
        "negative": node("MOVALoadConditioning", file="negative.conditioning.safetensors"),
        "image": node("LoadImage", image=image),
        "clip": node(
            "MOVAConditioning",
            positive=["positive", 0],
            negative=["negative", 0],
            vae=["vae", 0],
            start_image=["image", 0],
            width=width,
            height=height,
            length=frames,
            fps=fps,
            batch_size=1,
        ),
        "sampler": node(
            "MOVAJointSampler",
            model_high=["experts", 0],
            model_low=["experts", 1],
            positive=["clip", 0],
            negative=["clip", 1],
            latent=["clip", 2],
            seed=42,
            steps=steps,
            cfg=5.0,
            video_shift=5.0,
            audio_shift=5.0,
            boundary=0.9,
        ),
        "parts": node("MOVASeparateLatent", latent=["sampler", 0]),
        "frames": node("VAEDecode", samples=["parts", 0], vae=["vae", 0]),
        "sound": node("MOVAAudioDecode", samples=["parts", 1], audio_vae=["audio vae", 0]),
        "video": node("MOVACombineVideo", images=["frames", 0], audio=["sound", 0], fps=fps),
        "save": node(
            "SaveVideo",
            video=["video", 0],
            filename_prefix="video/MOVA",
            format="mp4",
            codec="h264",
            **{"format.codec": "h264"},
        ),
    }
