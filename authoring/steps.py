"""What the pages have in common: the files they name, their notes, and the columns from models to clip."""

from typing import Any, NamedTuple

from mova.checkpoint.release import EXPERTS
from mova.download.needed import DTYPE, file_for
from mova.download.singles import SINGLES

from .canvas import Output, Page
from .fold import fold
from .times import DRAFT, table

HUB, RELEASE = "https://huggingface.co", "MOVA-360p"


def single_file(part: str) -> dict[str, str]:
    """Of a file for Wan what the missing-model dialog asks for."""
    single = SINGLES[part]
    url = f"{HUB}/{single.repository}/resolve/main/{single.name}"
    return {"name": single.path.name, "url": url, "directory": single.folder}


TEXT_ENCODER, WAN_VAE = single_file("wan_text_encoder"), single_file("wan_vae")
WIDE, UPRIGHT = "MOVA-360p wide, 640 x 352", "MOVA-360p the picture's shape"

FILES = """

Files missing? Press **Run**: *MOVA Get Models* fetches them (69 GiB to load, 59 GiB of disk). Then **Run** again."""
PLANS = f"""

Minutes on an RTX card, computed, not measured:

{table()}"""

GREETING = (
    "A crayon drawing comes alive: the girl in the pink dress waves with both hands and says cheerfully: "
    '"Hello! What a day!" Birds sing, a light wind blows.'
)
FIRST, SECOND, SIZE, SAMPLER, LAST = 460, 291, 245, 301, 271  # widths of the columns
NARROW = 225  # where there are six


class Models(NamedTuple):
    high: Output
    low: Output
    clip: Output
    vae: Output
    audio_vae: Output


class Size(NamedTuple):
    width: Output
    height: Output
    length: Output
    fps: Output


def start(page: Page, what: str, width: int = FIRST, more: str = "", plans: str = PLANS) -> None:
    """The first column begins with the page's note; `more` is what several pages say, too."""
    page.group("1  Models", width)
    page.note(
        "Start here", page.say(what) + ("\n" + page.say(more) if more else "") + page.say(FILES) + page.say(plans)
    )


def load_models(page: Page, release: str = RELEASE) -> Models:
    files = {part: file_for(part, release, DTYPE).name for part in (*EXPERTS, "audio_vae")}
    high, low = page.add("MOVAModelLoader", **{part: files[part] for part in EXPERTS})
    encoder = {"clip_name": TEXT_ENCODER["name"], "type": "wan", "device": "default"}
    (clip,) = page.add("CLIPLoader", download=TEXT_ENCODER, **encoder)
    (vae,) = page.add("VAELoader", download=WAN_VAE, vae_name=WAN_VAE["name"])
    (audio_vae,) = page.add("MOVAAudioVAELoader", vae_name=files["audio_vae"])
    return Models(high, low, clip, vae, audio_vae)


def load_image(page: Page, title: str = "First picture") -> Output:
    return page.add("LoadImage", title, image="example.png")[0]


def choose_size(page: Page, size: str = WIDE, seconds: float = DRAFT.seconds, picture: Output | None = None) -> Size:
    given = {"picture": picture} if picture else {}
    return Size(*page.add("MOVASize", size=size, seconds=seconds, **given))


def encode_text(page: Page, clip: Output, prompt: str | Output) -> list[Output]:
    """Positive and negative. The title says which box is which: on the canvas a full one has no name."""
    return page.add("MOVATextEncode", "Prompt; below: negative", clip=clip, prompt=prompt)


def picture_and_prompt(page: Page, models: Models, width: int = SECOND) -> tuple[Output, Size, list[Output]]:
    """The second column of most pages: a first picture, the clip's size in its shape, and the texts."""
    page.group("2  Picture and prompt", width)
    image = load_image(page)
    return image, choose_size(page, UPRIGHT, picture=image), encode_text(page, models.clip, GREETING)


def condition(page: Page, texts: list[Output], vae: Output, size: Size, **values: Any) -> list[Output]:
    """Positive, negative and an empty latent."""
    return page.add("MOVAConditioning", positive=texts[0], negative=texts[1], vae=vae, **size._asdict(), **values)


def sample(
    page: Page, models: Models, conditioned: list[Output], latent: Output | None = None, **settings: Any
) -> Output:
    positive, negative, empty = conditioned
    given = {"positive": positive, "negative": negative, "latent": latent or empty}
    experts = {"model_high": models.high, "model_low": models.low}
    values = {"seed": 42, "steps": DRAFT.steps, "cfg": DRAFT.cfg, **settings}
    return page.add("MOVAJointSampler", **experts, **given, **values)[0]


def decode(page: Page, latent: Output, vae: Output, audio_vae: Output, fps: Output) -> dict[str, Output]:
    """Folded: from the latent to the clip."""
    video, audio = page.add("MOVASeparateLatent", latent=latent)
    (images,) = page.add("VAEDecode", samples=video, vae=vae)
    (sound,) = page.add("MOVAAudioDecode", samples=audio, audio_vae=audio_vae)
    return {"video": page.add("MOVACombineVideo", images=images, audio=sound, fps=fps)[0]}


def decode_in_tiles(page: Page, latent: Output, vae: Output, audio_vae: Output, fps: Output) -> dict[str, Output]:
    """The same, with less memory."""
    video, audio = page.add("MOVASeparateLatent", latent=latent)
    sizes = {"tile_size": 256, "overlap": 64, "temporal_size": 32, "temporal_overlap": 8}
    (images,) = page.add("VAEDecodeTiled", samples=video, vae=vae, **sizes)
    (sound,) = page.add("MOVAAudioDecode", samples=audio, audio_vae=audio_vae)
    return {"video": page.add("MOVACombineVideo", images=images, audio=sound, fps=fps)[0]}


def save(page: Page, video: Output, release: str = RELEASE) -> None:
    """The clip, and below it what brings the models; it is linked to nothing, and there is room."""
    page.add("SaveVideo", "Your clip", video=video, filename_prefix="video/MOVA", format="mp4", codec="h264")
    page.group("Missing models", below=True)
    page.add("MOVAGetModels", release=release)


def clip(
    page: Page,
    made: Output,
    models: Models,
    fps: Output,
    build: Any = decode,
    width: int = LAST,
    release: str = RELEASE,
) -> None:
    """The last column."""
    page.group("4  Clip", width)
    decoders = {"vae": models.vae, "audio_vae": models.audio_vae}
    (video,) = fold(page, "From latent to clip", build, latent=made, **decoders, fps=fps)
    save(page, video, release)
