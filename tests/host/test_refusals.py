"""Every wrong input that we know of, through each node of ours that can get it: what the user is told, word by word
where it matters; that it is one line; and that no weight was loaded for it."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from bench import AUDIO, VIDEO, Bench
from client import refusal
from graphs import CONFIG, Graph, numbers, ref
from huggingface_hub._local_folder import write_download_metadata
from huggingface_hub._tree_cache import TreeCacheEntry, write_tree_cache
from safetensors.torch import load_file, save_file

from mova.checkpoint import read_header
from mova.tiny import write_part


@dataclass(frozen=True)
class Case:
    name: str
    sentence: str
    build: Callable[[Bench], None]
    builds_models: bool  # whether a node before the one that refuses builds a model (from a mapped file)


CASES: list[Case] = []


def refused(sentence: str, *ways, builds_models: bool = False):
    """A workflow that is refused with this sentence; one for each of the ways in which its build can be called."""

    def keep(build):
        for way in ways or [()]:
            way = way if isinstance(way, tuple) else (way,)
            name = " ".join([build.__name__, *(str(part) for part in way)]).replace("_", " ")
            CASES.append(Case(name, sentence, lambda bench, way=way: build(bench, *way), builds_models))
        return build

    return keep


def shown(bench, *outputs):
    """A node at the end of the workflow, so that it runs."""
    for output in outputs:
        bench.add("PreviewAny", source=output)


def number(bench, value):
    """A number from another node: the host does not check it against a node's limits."""
    kind = "PrimitiveInt" if isinstance(value, int) else "PrimitiveFloat"
    return ref(bench.add(kind, value=value))


def text(bench, width=4096):
    return ref(bench.add("ProbeText", width=width))


def tensors(bench, name, **parts):
    save_file(parts, bench.server.base / f"input/{name}.safetensors")
    return f"{name}.safetensors"


# The loaders


def experts(bench, high="mova_high", low="mova_low"):
    names = {"high_noise": high, "low_noise": low}
    names = {slot: name if "-" in name or name == "none" else f"{name}.safetensors" for slot, name in names.items()}
    loader = bench.add("MOVAModelLoader", weight_dtype="default", **names)
    shown(bench, ref(loader), ref(loader, 1))


def changed(bench, name, lacks=None, config=None):
    """Another file beside the golden ones, made from mova_high without one tensor or with another config: its name."""
    folder = bench.server.base / "models/diffusion_models"
    state = load_file(folder / "mova_high.safetensors")
    state.pop(lacks, None)
    save_file(state, folder / f"{name}.safetensors", {"config": config} if config else None)
    return name


def cut_off(folder, source, name):
    shutil.copy(folder / source, folder / name)
    with open(folder / name, "r+b") as file:
        file.truncate((folder / source).stat().st_size // 2)


@refused(
    "mova_low.safetensors is the low-noise expert, chosen as high_noise; choose the high-noise one there (are the two "
    "swapped?)."
)
def swapped_experts_in_the_loader(bench):
    experts(bench, "mova_low", "mova_high")


@refused("mova_high.safetensors is chosen for both experts; choose the low-noise file, or none.")
def the_same_file_twice_in_the_loader(bench):
    experts(bench, "mova_high", "mova_high")


@refused("mova_high.safetensors is the high-noise expert, chosen as low_noise; choose the low-noise one there")
def a_released_folder_and_the_wrong_file(bench):
    experts(bench, "MOVA-golden", "mova_high")


@refused("wan.safetensors is not a MOVA file (it lacks ")
def a_file_of_another_model_in_the_loader(bench):
    experts(bench, "wan")


@refused("cut.safetensors is cut off: the last")
def a_cut_off_file_in_the_loader(bench):
    cut_off(bench.server.base / "models/diffusion_models", "mova_high.safetensors", "cut.safetensors")
    experts(bench, "cut")


@refused("not in", "high", "low")
def a_missing_file_in_the_loader(bench, slot):
    experts(bench, **{slot: "gone"})


@refused("lacks blocks.1.ffn.2.weight; download it again, or convert it again.")
def a_file_with_a_missing_tensor_in_the_loader(bench):
    experts(bench, changed(bench, "no_ffn", lacks="blocks.1.ffn.2.weight"))


@refused("has a config in its metadata that is not a JSON object with MOVA's settings; convert it again.",
         "{", "[1]", '{"transformer": [1]}')  # fmt: skip
def a_file_with_a_damaged_configuration_in_the_loader(bench, config):
    experts(bench, changed(bench, "damaged_config", config=config))


@refused("names an unknown expert in its metadata; convert it again.", '"middle"', "[]", "null")
def a_file_of_an_unknown_expert_in_the_loader(bench, expert):
    experts(bench, changed(bench, "unknown_expert", config=f'{{"transformer": {{"expert": {expert}}}}}'))


@refused("pickled.pt is a pickle, which can hold code; use a .safetensors file.")
def a_pickle_in_the_loader(bench):
    torch.save({}, bench.server.base / "models/diffusion_models/pickled.pt")
    loader = bench.add("MOVAModelLoader", weight_dtype="default", high_noise="pickled.pt", low_noise="none")
    shown(bench, ref(loader))


def folder(bench, name):
    models = bench.server.base / "models/diffusion_models"
    shutil.copytree(models / "MOVA-golden", models / name, dirs_exist_ok=True)
    return models / name


@refused("dual_tower_bridge/config.json does not exist;")
def a_released_folder_that_lacks_a_part(bench):
    shutil.rmtree(folder(bench, "MOVA-parts") / "dual_tower_bridge")
    experts(bench, "MOVA-parts", "MOVA-parts")


@refused("is cut off: the last", "audio_dit", "video_dit")
def a_released_folder_with_a_cut_off_part(bench, part):
    place = folder(bench, f"MOVA-cut-{part}") / part
    weights = "diffusion_pytorch_model.safetensors"
    cut_off(place, weights, "cut")
    (place / "cut").replace(place / weights)
    experts(bench, f"MOVA-cut-{part}", f"MOVA-cut-{part}")


SHARD = "video_dit/diffusion_pytorch_model-0000{}-of-00002.safetensors"


@refused(f"{SHARD.format(1)} is of commit aaaaaaa, {SHARD.format(2)} of bbbbbbb; start the download")
def a_released_folder_with_a_shard_of_another_release(bench):
    place = folder(bench, "MOVA-mixed")
    weights = place / "video_dit/diffusion_pytorch_model.safetensors"
    write_part(place / "video_dit", CONFIG["video_dit"], load_file(weights), shards=2)
    weights.unlink()
    for number, commit in (1, "a"), (2, "b"):
        write_download_metadata(place, SHARD.format(number), commit * 40, "0" * 64)
    experts(bench, "MOVA-mixed", "MOVA-mixed")


@refused("video_dit/diffusion_pytorch_model.safetensors is of commit aaaaaaa, audio_dit/diffusion_pytorch_model.safe")
def a_released_folder_with_a_part_of_another_release(bench):
    place = folder(bench, "MOVA-parts-mixed")
    names = [f"{part}/diffusion_pytorch_model.safetensors" for part in ("video_dit", "audio_dit")]
    for name, commit in zip(names, "ab", strict=True):
        write_download_metadata(place, name, commit * 40, commit * 64)
    listed = {name: TreeCacheEntry(1, "b" * 40, lfs_sha256="b" * 64, lfs_size=1) for name in names}
    write_tree_cache(place / ".cache/huggingface", "b" * 40, listed)
    experts(bench, "MOVA-parts-mixed", "MOVA-parts-mixed")


def audio_vae(bench, name):
    shown(bench, ref(bench.add("MOVAAudioVAELoader", vae_name=name)))


@refused("cut_audio.safetensors is cut off: the last")
def a_cut_off_audio_vae(bench):
    cut_off(bench.server.base / "models/vae", "golden_audio.safetensors", "cut_audio.safetensors")
    audio_vae(bench, "cut_audio.safetensors")


@refused("other.safetensors is not MOVA's audio VAE (it lacks")
def a_file_of_another_model_as_audio_vae(bench):
    save_file({"decoder.conv1.weight": torch.zeros(4, 4)}, bench.server.base / "models/vae/other.safetensors")
    audio_vae(bench, "other.safetensors")


@refused("has a config in its metadata that is not", "{", "[1]")
def an_audio_vae_with_a_damaged_configuration(bench, config):
    place = bench.server.base / "models/vae"
    save_file(load_file(place / "golden_audio.safetensors"), place / "config.safetensors", {"config": config})
    audio_vae(bench, "config.safetensors")


@refused("not in")
def a_missing_audio_vae(bench):
    audio_vae(bench, "gone.safetensors")


# Text


@refused("There is no text encoder in clip; load umt5_xxl with Load CLIP, type wan.")
def a_checkpoint_without_a_text_encoder(bench):
    clip = ref(bench.add("ProbeNothing"), 1)
    shown(bench, ref(bench.add("MOVATextEncode", clip=clip, prompt="a cat", negative_prompt="")))


# The clip's size, rate and pictures


def clip(bench, vae=None, linked=False, **settings):
    size = {"width": 96, "height": 64, "length": 9, "fps": 24.0, "batch_size": 1}
    settings = {name: number(bench, value) if linked else value for name, value in settings.items()}
    conds = {"positive": text(bench), "negative": text(bench)}
    node = bench.add("MOVAConditioning", vae=vae or bench.wan_vae(), **{**conds, **size, **settings})
    shown(bench, ref(node))


for setting, value, sentence in (
    ("width", 100, "The width 100 is not a multiple of 16; the nearest that works is 96."),
    ("height", 7, "The height 7 is not a multiple of 16; the nearest that works is 16."),
    ("length", 10, "10 frames do not make whole latent frames (4k + 1); the nearest that work: 9 or 13."),
    ("length", 0, "0 frames do not make whole latent frames (4k + 1); the nearest that work: 1."),
    ("fps", 0.0, "The frame rate 0.0 is out of range; it must be from 1 to 120 a second (24 is the release's)."),
):

    @refused(sentence, *((setting, value, how) for how in ("typed in", "from another node")))
    def a_size_or_rate_that_does_not_work(bench, setting, value, how):
        clip(bench, linked=how != "typed in", **{setting: value})


@refused("The VAE in vae is MOVA's audio VAE, but MOVA's video needs the Wan 2.1 VAE; load wan_2.1_vae there.")
def the_audio_vae_for_the_video(bench):
    clip(bench, bench.audio_vae())


@refused("The VAE in vae is missing, but MOVA's video needs the Wan 2.1 VAE; load wan_2.1_vae there.")
def no_vae_for_the_video(bench):
    clip(bench, ref(bench.add("ProbeNothing"), 2))


@refused("The pictures in start_image have the shape [1, 64, 96, 1], not [pictures, height, width, 3 colours];")
def a_picture_of_one_channel(bench):
    name = tensors(bench, "grey", images=torch.zeros(1, 64, 96, 1))
    picture = ref(bench.add("ProbeImages", file=name, sample_rate=48000))
    node = bench.add(
        "MOVAConditioning", vae=bench.wan_vae(), positive=text(bench), start_image=picture,
        negative=text(bench), width=96, height=64, length=9, fps=24.0, batch_size=1,
    )  # fmt: skip
    shown(bench, ref(node))


# Schedule and guidance


@refused("The number of steps is 0; it must be at least 1 (50 is the release's).")
def no_steps(bench):
    shown(bench, ref(bench.add("MOVAScheduler", steps=number(bench, 0), shift=5.0, denoise=1.0)))


@refused("The shift is 0.0; it must be above 0")
def no_shift(bench):
    shown(bench, ref(bench.add("MOVAScheduler", steps=3, shift=number(bench, 0.0), denoise=1.0)))


@refused("Denoise is 0.0; it must be above 0 and at most 1 (1 starts from pure noise).")
def no_denoise(bench):
    shown(bench, ref(bench.add("MOVAScheduler", steps=3, shift=5.0, denoise=number(bench, 0.0))))


# The samplers: ours, and the core's custom one with our guider

WAYS = "joint", "guider"


def sampled(bench, way, model=None, latent=None, noise=None, **inputs):
    """What the case gives, and else the golden inputs."""
    model, latent = model or bench.plain_model, latent or ref(bench.given, 2)
    conds = {"positive": ref(bench.given), "negative": ref(bench.given, 1)}
    if way == "joint":
        node = bench.joint(model, bench.given, latent, **({"noise": noise} if noise else {}))
        bench.nodes[node]["inputs"] |= inputs
    else:
        guider = bench.add("MOVAGuider", model=model, cfg=2.0, **{**conds, **inputs})
        sigmas = ref(bench.add("MOVAScheduler", steps=2, shift=5.0, denoise=1.0))
        node = bench.custom(ref(guider), sigmas, noise or ref(bench.add("RandomNoise", noise_seed=7)), latent)
    bench.save(ref(node))


def latent(bench, name, **parts):
    return ref(bench.add("ProbeGivenLatent", file=tensors(bench, name, **parts)))


def zeros(**parts):
    return {"video": torch.zeros(VIDEO), "audio": torch.zeros(AUDIO), **parts}


@refused("is WAN21, not MOVA; load a MOVA file there.", *WAYS, builds_models=True)
def another_model(bench, way):
    sampled(bench, way, bench.model("wan"))


@refused("There is no model in", *WAYS)
def no_model(bench, way):
    sampled(bench, way, ref(bench.add("ProbeNothing")))


for high, low, sentence in (
    ("mova_high", "wan", "The model in model_low is WAN21, not MOVA; load a MOVA file there."),
    ("mova_low", "mova_high", "The model in model_high is the low-noise expert, as its file says; connect the "),
    ("mova_high", "half_high", "The model in model_low is the high-noise expert, as its file says; connect the "),
    ("bare_high", "bare_high", "model_high and model_low are the same expert; load the low-noise file for model_low,"),
):

    @refused(sentence, (high, low), builds_models=True)
    def wrong_experts(bench, high, low):
        sampled(bench, "joint", bench.model(high), model_low=bench.model(low))


@refused("model_high and model_low are the same expert;", builds_models=True)
def the_same_model_for_both_inputs(bench):
    model = bench.model("bare_high")
    sampled(bench, "joint", model, model_low=model)


@refused("model_high and model_low are the same expert;", builds_models=True)
def copies_of_one_file_as_both_experts(bench):
    models = bench.server.base / "models/diffusion_models"
    shutil.copy(models / "bare_high.safetensors", models / "bare_copy.safetensors")
    sampled(bench, "joint", bench.model("bare_high"), model_low=bench.model("bare_copy"))


@refused("model_high and model_low are of different MOVA models; load both experts from the same release.",
         builds_models=True)  # fmt: skip
def experts_of_two_models(bench):
    models = bench.server.base / "models/diffusion_models"
    state = load_file(models / "bare_low.safetensors")
    last = f"blocks.{CONFIG['video_dit']['num_layers'] - 1}."
    save_file({n: t for n, t in state.items() if not n.startswith(last)}, models / "fewer_layers.safetensors")
    sampled(bench, "joint", model_low=bench.model("fewer_layers"))


@refused("MOVA needs text features 4096 wide, not 64; load the text encoder umt5_xxl with the type wan.",
         *((way, which) for way in WAYS for which in ("positive", "negative")), builds_models=True)  # fmt: skip
def text_of_another_encoder(bench, way, which):
    sampled(bench, way, **{which: text(bench, 64)})


@refused("The conditioning has no image part; put MOVA Conditioning between the text and the sampler.",
         *WAYS, builds_models=True)  # fmt: skip
def text_straight_from_the_encoder(bench, way):
    sampled(bench, way, positive=text(bench))


@refused("take the latent of MOVA Conditioning, or put ", *((way, kind) for way in WAYS
         for kind in ("image", "video", "audio")), builds_models=True)  # fmt: skip
def a_latent_of_one_part(bench, way, kind):
    if kind == "image":
        given = ref(bench.add("EmptyLatentImage", width=96, height=64, batch_size=1))
    else:
        given = latent(bench, f"only_{kind}", video=zeros()[kind])
    sampled(bench, way, latent=given)


@refused("MOVA samples a video latent of 16 channels together with an audio latent of 128, not [1, 48, 3, 8, 12] and "
         "[1, 128, 11];", *WAYS, builds_models=True)  # fmt: skip
def a_video_latent_of_another_model(bench, way):
    sampled(bench, way, latent=latent(bench, "wide", **zeros(video=torch.zeros(1, 48, 3, 8, 12))))


@refused("The latent has 2 video(s) but 1 audio(s); give both the same batch size.", *WAYS, builds_models=True)
def two_videos_and_one_sound(bench, way):
    sampled(bench, way, latent=latent(bench, "two_videos", **zeros(video=torch.zeros(2, *VIDEO[1:]))))


@refused("The conditioning is for a video latent of [16, 3, 8, 12], but the latent is [16, 4, 8, 12] (they must be the "
         "same, of even height and width); give both the same width, height and length.",
         *WAYS, builds_models=True)  # fmt: skip
def a_latent_longer_than_the_conditioning(bench, way):
    sampled(bench, way, latent=latent(bench, "longer", **zeros(video=torch.zeros(1, 16, 4, 8, 12))))


@refused("The audio latent is 11 long, but 9 frames at 24 a second need 19; encode the audio with MOVA Audio Encode "
         "for that length and frame rate.", *WAYS, builds_models=True)  # fmt: skip
def sound_of_another_length_than_the_frames(bench, way):
    rated = [ref(bench.add("ProbeFrameRate", conditioning=ref(bench.given, i), fps=24.0)) for i in range(2)]
    sampled(bench, way, positive=rated[0], negative=rated[1])


@refused("The audio mask has the shape [2, 3, 4, 5, 6], which does not fit the audio latent [1, 128, 11]; make it from "
         "a mask of one channel and the same length.", *WAYS, builds_models=True)  # fmt: skip
def an_audio_mask_of_the_wrong_shape(bench, way):
    masks = {"video_mask": torch.ones(1, 1, *VIDEO[2:]), "audio_mask": torch.ones(2, 3, 4, 5, 6)}
    sampled(bench, way, latent=latent(bench, "audio_mask", **zeros(**masks)))


@refused("The video mask has the shape [1, 3, 3, 8, 12], which does not fit the video latent [1, 16, 3, 8, 12]; make "
         "it from a mask of one channel and the same length.", *WAYS, builds_models=True)  # fmt: skip
def a_video_mask_of_the_wrong_shape(bench, way):
    masks = {"video_mask": torch.ones(1, 3, *VIDEO[2:]), "audio_mask": torch.ones(1, 1, AUDIO[2])}
    sampled(bench, way, latent=latent(bench, "video_mask", **zeros(**masks)))


@refused("The noise is [1, 16, 3, 8, 12] and [1, 128, 11], but the latent is [1, 16, 3, 8, 12] and [1, 128, 20]; "
         "connect RandomNoise.", *WAYS, builds_models=True)  # fmt: skip
def noise_of_another_size(bench, way):
    sampled(
        bench,
        way,
        latent=latent(bench, "more_sound", **zeros(audio=torch.zeros(1, 128, 20))),
        noise=ref(bench.given, 3),
    )


for setting, value, sentence in (
    ("steps", 0, "The number of steps is 0; it must be at least 1 (50 is the release's)."),
    ("video_shift", 0.0, "The shift is 0.0; it must be above 0"),
    ("audio_shift", 0.0, "The shift is 0.0; it must be above 0"),
    ("denoise", 0.0, "Denoise is 0.0; it must be above 0 and at most 1 (1 starts from pure noise)."),
    ("boundary", float("nan"), "boundary is nan; give a number."),
    ("a2v_scale", float("nan"), "a2v_scale is nan; give a number."),
    ("cfg", -1.0, "The guidance is -1.0; it must be 0 or more (the release's is 5, 1 turns it off)."),
    ("bridge_cfg", float("nan"), "The bridge guidance is nan; it must be 0 or more"),
):

    @refused(sentence, (setting, value), builds_models=True)
    def a_setting_out_of_range(bench, setting, value):
        sampled(bench, "joint", **{setting: number(bench, value) if value == value else value})


@refused("they must fall step by step from 1 or less to 0, as those of MOVA Scheduler do.", "flipped", "part", "none",
         builds_models=True)  # fmt: skip
def sigmas_that_are_no_schedule(bench, kind):
    sigmas = ref(bench.add("MOVAScheduler", steps=4, shift=5.0, denoise=1.0))
    if kind == "flipped":
        sigmas = ref(bench.add("FlipSigmas", sigmas=sigmas))
    else:
        sigmas = ref(bench.add("SplitSigmas", sigmas=sigmas, step=2 if kind == "part" else 0))
    if kind == "none":
        sigmas = ref(bench.add("SplitSigmas", sigmas=sigmas, step=0))
    sampled(bench, "joint", sigmas=sigmas)


@refused("audio_shift_ratio is 0.0; it must be above 0 (1: as the video's).", ("audio_shift_ratio", 0.0),
         builds_models=True)  # fmt: skip
@refused("v2a_scale is nan; give a number.", ("v2a_scale", float("nan")), builds_models=True)
def a_setting_of_the_guider_out_of_range(bench, setting, value):
    sampled(bench, "guider", **{setting: number(bench, value) if value == value else value})


# Latents apart and together


@refused("take the latent of MOVA Conditioning, or put video and audio together with MOVA Combine Latent.",
         "image", "video", "audio")  # fmt: skip
def a_latent_that_cannot_be_separated(bench, kind):
    if kind == "image":
        given = ref(bench.add("EmptyLatentImage", width=96, height=64, batch_size=1))
    else:
        given = latent(bench, f"only_{kind}", video=zeros()[kind])
    shown(bench, ref(bench.add("MOVASeparateLatent", latent=given)))


@refused("MOVA Combine Latent needs a video latent [B, 16, T, H, W] and an audio latent [B, 128, L], not [1, 128, 11] "
         "and [1, 16, 3, 8, 12]; are the two swapped?")  # fmt: skip
def swapped_latents(bench):
    video, audio = bench.both_parts(bench.latent())
    bench.save(bench.together(audio, video))


@refused("MOVA Combine Latent needs a video latent [B, 16, T, H, W] and an audio latent [B, 128, L], not [1, 4, 8, 12] "
         "and [1, 128, 11]")  # fmt: skip
def an_image_latent_with_sound(bench):
    image = ref(bench.add("EmptyLatentImage", width=96, height=64, batch_size=1))
    bench.save(bench.together(image, bench.audio(bench.latent())))


@refused("The video mask has the shape [1, 3, 3, 8, 12], which does not fit the video latent [1, 16, 3, 8, 12];")
def a_mask_of_the_wrong_shape_in_combine(bench):
    masks = {"video_mask": torch.ones(1, 3, *VIDEO[2:]), "audio_mask": torch.ones(1, 1, AUDIO[2])}
    bench.save(bench.together(*bench.both_parts(latent(bench, "video_mask", **zeros(**masks)))))


# Sound and video


def sound(bench, rate=48000, **parts):
    return ref(bench.add("ProbeImages", file=tensors(bench, "refused_sound", **parts), sample_rate=rate), 1)


def encoded(bench, audio, vae=None, **settings):
    values = {"length": 9, "fps": 24.0, **settings}
    vae = vae or bench.audio_vae()
    shown(bench, ref(bench.add("MOVAAudioEncode", audio=audio, audio_vae=vae, **values)))


@refused("The VAE in audio_vae is one for video with 16 latent channels, not MOVA's audio VAE; load that with MOVA "
         "Audio VAE Loader.", "decode", "encode")  # fmt: skip
def the_video_vae_for_the_sound(bench, what):
    if what == "encode":
        encoded(bench, sound(bench, waveform=numbers("w", 1, 1, 18000)), bench.wan_vae())
    else:
        shown(bench, ref(bench.add("MOVAAudioDecode", samples=bench.audio(bench.latent()), audio_vae=bench.wan_vae())))


@refused("The VAE in audio_vae is missing, not MOVA's audio VAE; load that with MOVA Audio VAE Loader.")
def no_vae_for_the_sound(bench):
    nothing = ref(bench.add("ProbeNothing"), 2)
    shown(bench, ref(bench.add("MOVAAudioDecode", samples=bench.audio(bench.latent()), audio_vae=nothing)))


@refused("MOVA's audio VAE decodes latents [batch, 128, length], not [1, ", "image", "video")
def a_latent_without_sound(bench, kind):
    image = ref(bench.add("EmptyLatentImage", width=96, height=64, batch_size=1))
    given = image if kind == "image" else bench.video(bench.latent())
    shown(bench, ref(bench.add("MOVAAudioDecode", samples=given, audio_vae=bench.audio_vae())))


@refused("There is no sound in audio (the video it is from may have none); leave this node out.")
def a_video_without_sound(bench):
    encoded(bench, ref(bench.add("ProbeNothing"), 3))


@refused("The sound in audio has the shape [1, 2, 0], not [batch, channels, samples]; load another.",
         "encode", "combine")  # fmt: skip
def a_sound_without_samples(bench, what):
    audio = sound(bench, waveform=torch.zeros(1, 2, 0))
    if what == "encode":
        encoded(bench, audio)
    else:
        picture = ref(bench.add("EmptyImage", width=96, height=64, batch_size=9, color=0))
        shown(bench, ref(bench.add("MOVACombineVideo", images=picture, fps=24.0, audio=audio)))


@refused("10 frames do not make whole latent frames (4k + 1); the nearest that work: 9 or 13.",
         "typed in", "from another node")  # fmt: skip
def a_sound_for_a_length_that_does_not_work(bench, how):
    length = 10 if how == "typed in" else number(bench, 10)
    encoded(bench, sound(bench, waveform=numbers("w", 1, 1, 18000)), length=length)


@refused("The frame rate 0.0 is out of range;", "typed in", "from another node")
def a_sound_at_a_rate_of_0(bench, how):
    fps = 0.0 if how == "typed in" else number(bench, 0.0)
    encoded(bench, sound(bench, waveform=numbers("w", 1, 1, 18000)), fps=fps)


@refused("The frame rate 0.0 is out of range;", "typed in", "from another node")
def a_video_at_a_rate_of_0(bench, how):
    picture = ref(bench.add("EmptyImage", width=96, height=64, batch_size=9, color=0))
    fps = 0.0 if how == "typed in" else number(bench, 0.0)
    shown(bench, ref(bench.add("MOVACombineVideo", images=picture, fps=fps)))


@refused("The pictures in images have the shape [0, 64, 96, 3], not [pictures, height, width, 3 colours];")
def a_video_of_no_pictures(bench):
    name = tensors(bench, "no_pictures", images=torch.zeros(0, 64, 96, 3))
    pictures = ref(bench.add("ProbeImages", file=name, sample_rate=48000))
    shown(bench, ref(bench.add("MOVACombineVideo", images=pictures, fps=24.0)))


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_it_is_refused_in_one_sentence_and_nothing_is_loaded(server, files, case):
    bench = Bench(server)
    case.build(bench)
    before = server.log.read_text()
    found = refusal(server, bench)
    assert case.sentence in found
    log = server.log.read_text()[len(before) :]
    assert "weights are asked for" not in log
    assert case.builds_models or "model weight dtype" not in log


def test_a_run_that_works_does_load(server, files):
    """So that what the test above looks for in the log is there to be seen."""
    models, bench = server.base / "models/diffusion_models", Bench(server)
    shutil.copy(models / "mova_high.safetensors", models / "works.safetensors")
    sampled(bench, "joint", bench.model("works"))
    before = len(server.log.read_text())
    bench.run()
    log = server.log.read_text()[before:]
    assert "weights are asked for" in log and "model weight dtype" in log


@pytest.mark.parametrize(
    ("high", "low", "told"),
    [
        ("MOVA-360p", "MOVA-720p", "'MOVA-360p', the low-noise one from 'MOVA-720p';"),
        ("MOVA-360p", "MOVA-golden", "'MOVA-360p', the low-noise one from 'MOVA-golden';"),
        ("MOVA-360p", "MOVA-360p", None),
        ("MOVA-360p", None, None),
    ],
    ids=["two files", "a file and a folder", "one source", "a file that does not say"],
)
def test_experts_of_two_sources_are_loaded_and_it_is_said(server, files, high, low, told):
    """A merged or a finetuned expert may be meant to go with one of another source."""
    models, names = server.base / "models/diffusion_models", {}
    for expert, source in ("high", high), ("low", low):
        if source == "MOVA-golden":  # the folder
            names[expert] = source
            continue
        names[expert] = f"{expert}_of_{source}".replace("-", "_")
        golden, metadata = models / f"mova_{expert}.safetensors", {"source": source} if source else {}
        save_file(load_file(golden), models / f"{names[expert]}.safetensors", metadata | read_header(golden)[1])
    bench = Graph()
    experts(bench, **names)
    result = server.run(bench.nodes)
    assert result.error is None
    notices = [text for _, text in result.notices]
    assert len(notices) == bool(told) and all(f"The high-noise expert comes from {told}" in text for text in notices)
