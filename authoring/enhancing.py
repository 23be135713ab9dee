"""A prompt that a language model may make more of, and a first picture of it by an image model."""

from .canvas import Output, Page
from .fold import fold
from .steps import HUB
from .to_api import BYPASSED


def file_of(repository: str, name: str, folder: str = "text_encoders", path: str = "") -> dict[str, str]:
    """Of a file what the missing-model dialog asks for."""
    return {"name": name, "url": f"{HUB}/{repository}/resolve/main/{path}{folder}/{name}", "directory": folder}


SEEING = file_of("Comfy-Org/Krea-2", "qwen3vl_4b_fp8_scaled.safetensors")
SPLIT = "split_files/"
Z_IMAGE = {
    "clip": file_of("Comfy-Org/z_image_turbo", "qwen_3_4b.safetensors", path=SPLIT),
    "model": file_of("Comfy-Org/z_image_turbo", "z_image_turbo_bf16.safetensors", "diffusion_models", SPLIT),
    "vae": file_of("Comfy-Org/z_image_turbo", "ae.safetensors", "vae", SPLIT),
}
OPTIONAL = (
    f"*For a fuller prompt*: put [{SEEING['name'].removesuffix('.safetensors')}]({SEEING['url']}) into "
    "*models/text_encoders*, select both pale nodes, press **Ctrl B**."
)


def language_model(page: Page, file: dict[str, str] = SEEING, kind: str = "qwen_image") -> Output:
    """Folded: a file's name needs a wide column. The page does not ask for the one that is not needed."""

    def load(page: Page) -> dict[str, Output]:
        download = {} if file is SEEING else {"download": file}
        return {"clip": page.add("CLIPLoader", clip_name=file["name"], type=kind, device="default", **download)[0]}

    return fold(page, "Language model", load)[0]


def prompt_of(page: Page, prompt: str, model: Output, image: Output | None = None) -> Output:
    """The user's words; what makes more of them is bypassed, so that they pass through."""
    (typed,) = page.add("PrimitiveStringMultiline", "Your prompt", value=prompt)
    made = page.add("MOVAEnhancePrompt", clip=model, prompt=typed, **({"image": image} if image else {}))
    for output in (model, made[0]):
        output.node["mode"] = BYPASSED
    return made[0]


def paint(page: Page, clip: Output, prompt: Output, width: Output, height: Output) -> dict[str, Output]:
    """Folded: Z-Image-Turbo, as ComfyUI's own template has it."""
    (model,) = page.add(
        "UNETLoader", download=Z_IMAGE["model"], unet_name=Z_IMAGE["model"]["name"], weight_dtype="default"
    )
    (vae,) = page.add("VAELoader", download=Z_IMAGE["vae"], vae_name=Z_IMAGE["vae"]["name"])
    (model,) = page.add("ModelSamplingAuraFlow", model=model, shift=3.0)
    (positive,) = page.add("CLIPTextEncode", clip=clip, text=prompt)
    (negative,) = page.add("ConditioningZeroOut", conditioning=positive)
    (latent,) = page.add("EmptySD3LatentImage", width=width, height=height)
    texts = {"positive": positive, "negative": negative, "latent_image": latent}
    sampling = {"steps": 8, "cfg": 1.0, "sampler_name": "res_multistep", "scheduler": "simple"}
    (made,) = page.add("KSampler", model=model, **texts, seed=42, **sampling)
    return {"image": page.add("VAEDecode", samples=made, vae=vae)[0]}
