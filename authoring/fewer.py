"""Workflows that compute less: few steps with distilled LoRAs, and two stages."""

from mova.model.presets import DEFAULT

from .canvas import Output, Page
from .fold import fold
from .steps import (
    GREETING,
    HUB,
    NARROW,
    SAMPLER,
    SIZE,
    clip,
    condition,
    encode_text,
    load_image,
    load_models,
    picture_and_prompt,
    sample,
    start,
)
from .times import DRAFT, FAST, FULL, HALF, PLANS, high_steps, stage_table, table

LEFT = 440
LORA_FOLDER = f"{HUB}/Comfy-Org/Wan_2.2_ComfyUI_Repackaged/resolve/main/split_files/loras"
LORAS = {noise: f"wan2.2_i2v_lightx2v_4steps_lora_v1_{noise}_noise.safetensors" for noise in ("high", "low")}
LARGE = "MOVA-720p"


def put_loras(page: Page, high: Output, low: Output) -> dict[str, Output]:
    """Folded, for the names of the files are long: each expert's own LoRA."""
    made = {}
    for at, (noise, expert) in enumerate((("high", high), ("low", low))):
        file = {"name": LORAS[noise], "url": f"{LORA_FOLDER}/{LORAS[noise]}", "directory": "loras"}
        values = {f"model_{noise}": expert, "lora_name": LORAS[noise]}
        made[noise] = page.add("MOVALoraLoader", f"LoRA, {noise} noise", download=file, **values)[at]
    return made


def fast(page: Page) -> None:
    start(
        page,
        "**Few steps**, by LoRAs distilled for Wan 2.2, which ComfyUI offers (*models/loras*). They know no sound: it "
        "takes 4 steps in each (**audio_steps**), with guidance of its own (**audio_cfg**).\n\nNot seen nor heard with "
        "MOVA's own weights yet: compare with workflow 1.",
        plans=f"\n\nMinutes on an RTX card, computed, not measured:\n\n{table((FAST, DRAFT, PLANS[-1]))}",
    )
    models = load_models(page)
    image, size, texts = picture_and_prompt(page, models)
    page.group("3  Make it", SIZE)
    high, low = fold(page, "LoRAs for few steps", put_loras, high=models.high, low=models.low)
    page.space(130)
    conditioned = condition(page, texts, models.vae, size, start_image=image)
    page.beside(SAMPLER)
    own = {"steps": FAST.steps, "cfg": FAST.cfg, "audio_cfg": DEFAULT.guidance, "audio_steps": 4}
    clip(page, sample(page, models._replace(high=high, low=low), conditioned, **own), models, size.fps)


def enlarge(page: Page, denoised: Output, noisy: Output) -> dict[str, Output]:
    """Folded: the picture as it is expected, twice as large, and the sound as far as it has come."""
    small, _ = page.add("MOVASeparateLatent", latent=denoised)
    (large,) = page.add("LatentUpscaleBy", samples=small, upscale_method="bicubic", scale_by=2.0)
    return {"latent": page.add("MOVACombineLatent", video=large, audio=noisy)[0]}


def two_stages(page: Page) -> None:
    page.gap = 17
    start(
        page,
        "**MOVA-720p in two stages**: the high-noise expert works in half size, the low-noise expert in full size. The "
        "picture is enlarged and begun anew there; the sound goes on. Change size and length in both.\n\nNot seen with "
        "MOVA's own weights yet. With Prism, FreeVideo found the like softer, and speech lost.",
        LEFT,
        plans=f"\n\nMinutes at 1280 x 704 on an RTX card, computed, not measured:\n\n{stage_table()}",
    )
    models = load_models(page, LARGE)
    page.group("2  Picture and prompt", NARROW)
    image = load_image(page)
    texts = encode_text(page, models.clip, GREETING)
    (sigmas,) = page.add("MOVAScheduler", steps=DRAFT.steps, shift=DEFAULT.shift)
    levels = page.add("SplitSigmas", "Steps of the high one", sigmas=sigmas, step=high_steps(DRAFT))
    page.group("3  Sizes", NARROW)
    given = {"positive": texts[0], "negative": texts[1], "vae": models.vae, "start_image": image}
    half, full = (
        page.add("MOVAConditioning", title, width=width, height=height, length=DRAFT.frames, **given)
        for title, (width, height) in (("Half size", HALF), ("Full size", FULL))
    )
    (sampler,) = page.add("KSamplerSelect", sampler_name="euler")

    def stage(at: int, noise: Output, latent: Output) -> list[Output]:
        texts = dict(zip(("positive", "negative"), (half, full)[at], strict=False))
        (guider,) = page.add("MOVAGuider", model=models[at], **texts, cfg=DRAFT.cfg)
        parts = {"noise": noise, "guider": guider, "sampler": sampler, "sigmas": levels[at]}
        title = f"Sampler, {('high', 'low')[at]} noise"
        return page.add("SamplerCustomAdvanced", title, latent_image=latent, **parts)

    page.group("4a  Half size, high noise", NARROW)
    (noise,) = page.add("RandomNoise", noise_seed=42)
    noisy, denoised = stage(0, noise, half[2])
    (video_noise,) = page.add("MOVAVideoNoise", noise=noise)
    page.group("4b  Full size, low noise", NARROW)
    (latent,) = fold(page, "Enlarge the picture", enlarge, denoised=denoised, noisy=noisy)
    made, _ = stage(1, video_noise, latent)
    (fps,) = page.add("PrimitiveFloat", "Frames a second", value=DEFAULT.fps)
    clip(page, made, models, fps, width=240, release=LARGE)
