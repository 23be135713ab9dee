"""What the pages have in common: the files they name, their notes, and the groups from models to output."""

from collections.abc import Callable
from typing import Any, NamedTuple

from .canvas import Output, Page

HUB = "https://huggingface.co"
WAN = f"{HUB}/Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files"
TEXT_ENCODER = {
    "name": "umt5_xxl_fp8_e4m3fn_scaled.safetensors",
    "url": f"{WAN}/text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors",
    "directory": "text_encoders",
}
WAN_VAE = {"name": "wan_2.1_vae.safetensors", "url": f"{WAN}/vae/wan_2.1_vae.safetensors", "directory": "vae"}

DTYPE = "fp8_e4m3_scaled"
OPTIONS = f"--dtype {DTYPE} --parts high_noise,low_noise,audio_vae"
FILES = f"""## Files

MOVA is published as a folder: [MOVA-360p]({HUB}/OpenMOSS-Team/MOVA-360p) or \
[MOVA-720p]({HUB}/OpenMOSS-Team/MOVA-720p). In ComfyUI's folder, with the Python that runs ComfyUI, make the files \
that are named here (`custom_nodes/ComfyUI-MOVA` is this pack's folder):

- from the hub: `python custom_nodes/ComfyUI-MOVA download MOVA-360p models {OPTIONS}`
- or of a folder that you have: `python custom_nodes/ComfyUI-MOVA convert PATH/TO/MOVA-360p models {OPTIONS}`
- or put the folder as it is into `models/diffusion_models`, and choose it in the MOVA loaders. It is in bf16, \
twice the size, unless **weight_dtype** says fp8.

The other two files, if you do not have them from Wan:

- [{TEXT_ENCODER["name"]}]({TEXT_ENCODER["url"]}) into `models/text_encoders`
- [{WAN_VAE["name"]}]({WAN_VAE["url"]}) into `models/vae`

Press **R** in ComfyUI when new files are in place."""

SIZE = """**640 x 352** and **1280 x 720** are the released sizes; each side must be a multiple of 16.

**length** is the number of frames, 4 k + 1: 193 are 8 seconds at 24 a second, 97 are 4 seconds."""

CROPPED = (
    SIZE
    + """

Pictures are cropped to this shape from their centre: for upright ones take an upright size, such as **352 x 640**."""
)

SAMPLING = """**50 steps, cfg 5, both shifts 5, boundary 0.9**: the released values.

- cfg 1: half the time, without negative prompt
- bridge_cfg above 1: sound closer to the picture (lip sync), for a third evaluation in each step
- audio_shift below video_shift: the sound takes shape first"""

TWO_PARTS = "Picture and sound in one prompt: who and what is seen, what moves, what is heard. Put speech in words."

GREETING = (
    "A crayon drawing comes alive: the girl in the pink dress waves with both hands and says cheerfully: "
    '"Hello! What a day!" Birds sing, a light wind blows.'
)


class Models(NamedTuple):
    high: Output
    low: Output
    vae: Output
    audio_vae: Output


def about(page: Page, what: str) -> None:
    page.group("Read me", 420)
    page.note("What this does", what)
    page.note("Which files, and where", FILES)


def load_models(page: Page) -> Models:
    page.group("1  Models", 480)
    experts = {f"{part}_noise": f"MOVA-360p_{part}_noise_{DTYPE}.safetensors" for part in ("high", "low")}
    high, low = page.add("MOVAModelLoader", **experts)
    (vae,) = page.add("VAELoader", download=WAN_VAE, vae_name=WAN_VAE["name"])
    (audio_vae,) = page.add("MOVAAudioVAELoader", vae_name="MOVA-360p_audio_vae.safetensors")
    return Models(high, low, vae, audio_vae)


def load_clip(page: Page) -> Output:
    (clip,) = page.add(
        "CLIPLoader", download=TEXT_ENCODER, clip_name=TEXT_ENCODER["name"], type="wan", device="default"
    )
    return clip


def encode_text(page: Page, clip: Output, prompt: str, note: str = TWO_PARTS) -> list[Output]:
    """Positive and negative."""
    page.group("2  Prompt", below=True)
    texts = page.add("MOVATextEncode", clip=clip, prompt=prompt)
    page.note("Writing a prompt", note)
    return texts


def frame_rate(page: Page) -> Output:
    (fps,) = page.add("PrimitiveFloat", "Frames a second", value=24.0)
    return fps


def load_image(page: Page, title: str) -> Output:
    return page.add("LoadImage", title, image="example.png")[0]


def condition(page: Page, texts: list[Output], vae: Output, fps: Output, **values: Any) -> list[Output]:
    """Positive, negative and an empty latent."""
    return page.add("MOVAConditioning", positive=texts[0], negative=texts[1], vae=vae, fps=fps, **values)


def sample(page: Page, models: Models, conditioned: list[Output], latent: Output | None = None) -> Output:
    page.group("4  Sampling")
    page.note("Good values", SAMPLING)
    positive, negative, empty = conditioned
    (made,) = page.add(
        "MOVAJointSampler",
        model_high=models.high,
        model_low=models.low,
        positive=positive,
        negative=negative,
        latent=latent or empty,
        seed=42,
    )
    return made


def decode_video(page: Page, latent: Output, vae: Output) -> Output:
    return page.add("VAEDecode", samples=latent, vae=vae)[0]


def save(page: Page, images: Output, audio: Output, fps: Output) -> None:
    (video,) = page.add("MOVACombineVideo", images=images, audio=audio, fps=fps)
    page.add("SaveVideo", video=video, filename_prefix="video/MOVA", format="mp4", codec="h264")


def decode_and_save(
    page: Page, made: Output, models: Models, fps: Output, decode: Callable[..., Output] = decode_video
) -> None:
    page.group("5  Output", 440)
    video, audio = page.add("MOVASeparateLatent", latent=made)
    images = decode(page, video, models.vae)
    (sound,) = page.add("MOVAAudioDecode", samples=audio, audio_vae=models.audio_vae)
    save(page, images, sound, fps)
