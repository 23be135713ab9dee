"""Whole workflows as single nodes: ComfyUI offers the files of subgraphs/ among its blueprints."""

from collections.abc import Callable
from typing import Any, NamedTuple

from .canvas import Output, Page
from .fold import folded
from .given import keep_sound, keep_video, sound_onto_video, video_with_sound
from .steps import GREETING, UPRIGHT, Size, decode
from .times import DRAFT

Keep = Callable[[Output], Output]
MODELS = {"model_high": "MODEL", "model_low": "MODEL", "clip": "CLIP", "vae": "VAE", "audio_vae": "VAE"}
SETTINGS = {"prompt": "STRING", "seconds": "FLOAT", "seed": "INT", "steps": "INT", "cfg": "FLOAT"}


class Blueprint(NamedTuple):
    """What it is called, what it takes (names and types), what is in it, and what it says of itself."""

    name: str
    inputs: dict[str, str]
    build: Callable[..., dict[str, Output]]
    about: str


def make(page: Page, given: dict[str, Output], size: Size, picture: Output, keep: Keep | None = None) -> Output:
    """The latent that the sampler makes; `keep` puts what is given into the empty one."""
    positive, negative = page.add("MOVATextEncode", clip=given["clip"], prompt=given["prompt"])
    texts = {"positive": positive, "negative": negative, "start_image": picture}
    *conditioned, latent = page.add("MOVAConditioning", vae=given["vae"], **size._asdict(), **texts)
    latent = keep(latent) if keep else latent
    run = {name: given[name] for name in ("model_high", "model_low", "seed", "steps", "cfg")}
    parts = {"positive": conditioned[0], "negative": conditioned[1], "latent": latent}
    return page.add("MOVAJointSampler", **run, **parts)[0]


def sized(page: Page, given: dict[str, Output]) -> Size:
    return Size(*page.add("MOVASize", size=UPRIGHT, seconds=given["seconds"], picture=given["image"]))


def image_to_clip(page: Page, **given: Output) -> dict[str, Output]:
    size = sized(page, given)
    made = make(page, given, size, given["image"])
    return decode(page, made, given["vae"], given["audio_vae"], size.fps)


def sound_for_a_video(page: Page, **given: Output) -> dict[str, Output]:
    fitted = {"video": given["video"], "length": given["length"]}
    images, _, length, fps, width, height, begin = page.add("MOVAFitVideo", **fitted)

    def keep(latent: Output) -> Output:
        return keep_video(page, latent, images, given["vae"])["latent"]

    made = make(page, given, Size(width, height, length, fps), images, keep)
    return sound_onto_video(page, made, given["audio_vae"], given["video"], begin, length, fps)


def video_for_a_sound(page: Page, **given: Output) -> dict[str, Output]:
    size = sized(page, given)

    def keep(latent: Output) -> Output:
        return keep_sound(page, latent, given["audio"], given["audio_vae"], size.length, size.fps)["latent"]

    made = make(page, given, size, given["image"], keep)
    return video_with_sound(page, made, given["vae"], given["audio"], size.fps)


FRAMES = {name: kind for name, kind in SETTINGS.items() if name != "seconds"} | {"length": "INT"}
BLUEPRINTS = (
    Blueprint(
        "MOVA image to clip",
        MODELS | {"image": "IMAGE"} | SETTINGS,
        image_to_clip,
        "A picture and a prompt become a clip with its sound.",
    ),
    Blueprint(
        "MOVA sound for a video",
        MODELS | {"video": "VIDEO"} | FRAMES,
        sound_for_a_video,
        "Foley: sound for a video that you have; its frames are kept.",
    ),
    Blueprint(
        "MOVA video for a sound",
        MODELS | {"audio": "AUDIO", "image": "IMAGE"} | SETTINGS,
        video_for_a_sound,
        "A talking or playing video for a sound that you have, which is kept.",
    ),
    Blueprint(
        "MOVA decode to video",
        {"latent": "LATENT", "vae": "VAE", "audio_vae": "VAE", "fps": "FLOAT"},
        decode,
        "From the latent of picture and sound to the clip.",
    ),
)
VALUES = {"prompt": GREETING, "seconds": DRAFT.seconds, "steps": DRAFT.steps, "cfg": DRAFT.cfg, "length": DRAFT.frames}


def blueprint_file(blueprint: Blueprint, definitions: dict[str, Any]) -> dict[str, Any]:
    """The file: a workflow of one node. `definitions` is what /object_info answers."""
    page = Page(blueprint.name, definitions)
    said = {"category": "MOVA", "description": blueprint.about}
    folded(page, blueprint.name, blueprint.build, blueprint.inputs, **said)
    (definition,) = page.subgraphs
    inside = {node["id"]: node for node in definition["nodes"]}
    for link in definition["links"]:  # what its widgets begin with
        name = blueprint_input(definition, link)
        if name in VALUES:
            set_value(inside[link["target_id"]], link["target_slot"], VALUES[name])
    return page.to_json()


def blueprint_input(definition: dict[str, Any], link: dict[str, Any]) -> str | None:
    """Which of the blueprint's inputs a link comes from."""
    return next((slot["name"] for slot in definition["inputs"] if link["id"] in slot["linkIds"]), None)


def set_value(node: dict[str, Any], slot: int, value: Any) -> None:
    """Give a node's widget a value, by the input that belongs to it."""
    widgets = [one["name"] for one in node["inputs"] if "widget" in one]
    at = widgets.index(node["inputs"][slot]["name"])
    extra = sum(name in ("seed", "noise_seed") for name in widgets[:at])  # the seed's control has a value, too
    node["widgets_values"][at + extra] = value
