"""From a small released folder, by `convert`, to the clip that ComfyUI's own nodes make of the files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from client import Server, ran
from clips import read_clip
from graphs import Graph, ref
from torch import Tensor

from mova.clip.reading import ClipInfo, read_clip_info
from mova.convert.run import convert

Loader = Callable[[Graph, str], list]  # adds the node that loads an expert's file; gives its output


@dataclass(frozen=True)
class Clip:
    """What came out: the latents, and the MP4 as it reads."""

    latents: dict[str, Tensor]
    info: ClipInfo
    sound: Tensor  # [channels, samples]
    sample_rate: int


def core_loader(graph: Graph, name: str) -> list:
    """Load Diffusion Model."""
    return ref(graph.add("UNETLoader", unet_name=name, weight_dtype="default"))


def converted(server: Server, checkpoint: Path, dtype: str) -> list[Path]:
    """The files of both experts, the audio VAE and the video VAE, in the server's model folders."""
    parts = ("high_noise", "low_noise", "audio_vae", "video_vae")
    return [file.path for file in convert(checkpoint, server.base / "models", dtype, f"x{dtype}", parts)]


def workflow(graph: Graph, experts: Sequence[list], vaes: Sequence[Path], name: str) -> tuple[str, str]:
    """Text to a clip in two steps, one of each expert. Returns the nodes that save the latents and the clip.

    `experts`: outputs of nodes in the graph; `vaes`: the files of the audio VAE and of the video VAE.
    """
    high, low = experts
    audio_vae, video_vae = (path.name for path in vaes)
    text = graph.add("MOVATextEncode", clip=ref(graph.add("ProbeClip")), prompt="a", negative_prompt="b")
    vae = ref(graph.add("VAELoader", vae_name=video_vae))
    size = {"width": 48, "height": 32, "length": 9, "fps": 24.0, "batch_size": 1}
    given = graph.add("MOVAConditioning", positive=ref(text), negative=ref(text, 1), vae=vae, **size)
    latent = ref(graph.joint(high, given, ref(given, 2), model_low=low, steps=2))
    parts = graph.add("MOVASeparateLatent", latent=latent)
    audio_loader = ref(graph.add("MOVAAudioVAELoader", vae_name=audio_vae))
    sound = graph.add("MOVAAudioDecode", samples=ref(parts, 1), audio_vae=audio_loader)
    frames = graph.add("VAEDecode", samples=ref(parts), vae=vae)
    video = graph.add("MOVACombineVideo", images=ref(frames), audio=ref(sound), fps=24.0)
    saved = graph.add("SaveVideo", video=ref(video), filename_prefix="video/x", format="mp4", codec="h264")
    return graph.save(latent, f"{name}.safetensors"), saved


def make_clip(server: Server, graph: Graph, experts: Sequence[list], vaes: Sequence[Path], name: str) -> Clip:
    """Run that workflow, and read its MP4 back."""
    latents, saved = workflow(graph, experts, vaes, name)
    result = ran(server, graph)
    path = server.base / f"{name}.mp4"
    path.write_bytes(server.view(result.outputs[saved]["images"][0]))
    _, sound, sample_rate, _ = read_clip(path)
    assert sound is not None
    return Clip(server.tensors(result, latents), read_clip_info(path), sound, sample_rate)


def convert_and_make_clip(server: Server, checkpoint: Path, dtype: str, loader: Loader = core_loader) -> Clip:
    """Both experts and both VAEs as one call of `convert` writes them."""
    *experts, audio_vae, video_vae = converted(server, checkpoint, dtype)
    graph = Graph()
    return make_clip(server, graph, [loader(graph, path.name) for path in experts], (audio_vae, video_vae), dtype)


def check_clip(clip: Clip) -> None:
    """9 frames of 48 x 32, 24 a second, and their sound, as in the workflow; neither is empty."""
    info = clip.info
    assert (info.frames, info.width, info.height, info.fps) == (9, 48, 32, 24.0)
    assert (info.video_codec, info.audio_codec, info.sample_rate) == ("h264", "aac", 48000)
    assert abs(clip.sound.shape[-1] / clip.sample_rate - 9 / 24) < 0.03  # AAC comes in packets of 0.021 s
    assert clip.sound.abs().max() > 1e-3 and torch.isfinite(clip.sound).all()
    assert all(latent.abs().max() > 0.1 for latent in clip.latents.values())


def apart(one: Clip, other: Clip) -> dict[str, float]:
    """The distance of the latents relative to their length."""
    pairs = {name: (one.latents[name], other.latents[name]) for name in ("video", "audio")}
    return {name: float((a - b).norm() / b.norm()) for name, (a, b) in pairs.items()}
