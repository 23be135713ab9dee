"""Each workflow, described in a function that writes its page. A new one goes into WORKFLOWS and card.CARDS."""

from mova.model.presets import DEFAULT

from .canvas import Output, Page
from .enhancing import OPTIONAL, Z_IMAGE, language_model, paint, prompt_of
from .fewer import fast, two_stages
from .fold import fold
from .given import sound_for_a_video, video_for_a_sound
from .steps import (
    GREETING,
    NARROW,
    SAMPLER,
    SECOND,
    SIZE,
    UPRIGHT,
    choose_size,
    clip,
    condition,
    decode_in_tiles,
    encode_text,
    load_image,
    load_models,
    picture_and_prompt,
    sample,
    start,
)
from .times import DRAFT, high_steps
from .training import train_a_lora

LEFT = 446  # of the first of six columns
LIGHTHOUSE = (
    "A lighthouse on a cliff in a storm at dusk, seen from the sea. Waves break on the rocks with a roar, the wind "
    "howls, and a foghorn sounds twice."
)


def image_to_video(page: Page) -> None:
    page.gap = 17  # it has six columns
    start(
        page,
        "A picture and a prompt become a clip **with its sound**.\n\n1. Choose your picture.\n2. Write what is seen "
        "and heard, speech in quotation marks.\n3. **Run**. The clip lies in *output/video*.",
        LEFT,
        OPTIONAL,
    )
    models = load_models(page)
    page.group("2  Picture and prompt", NARROW)
    image = load_image(page)
    size = choose_size(page, UPRIGHT, picture=image)
    model = language_model(page)
    page.beside(NARROW)
    texts = encode_text(page, models.clip, prompt_of(page, GREETING, model, image))
    page.group("3  Make it", NARROW)
    page.space(360)
    conditioned = condition(page, texts, models.vae, size, start_image=image)
    page.beside(NARROW)
    clip(page, sample(page, models, conditioned), models, size.fps, width=240)


def text_to_video(page: Page) -> None:
    page.gap = 17
    start(
        page,
        "A clip with sound from **words alone**. MOVA was trained with a first picture: without one a **white** frame "
        "stands in, and the clip may stay one flat colour. Then set **text_only_frame** to *none*, or take workflow 9.",
        LEFT,
        OPTIONAL,
    )
    models = load_models(page)
    page.group("2  Size and prompt", NARROW)
    size = choose_size(page)
    model = language_model(page)
    page.beside(NARROW)
    texts = encode_text(page, models.clip, prompt_of(page, LIGHTHOUSE, model))
    page.group("3  Make it", NARROW)
    page.space(200)
    conditioned = condition(page, texts, models.vae, size)
    page.beside(NARROW)
    clip(page, sample(page, models, conditioned), models, size.fps, width=240)


def first_and_last_frame(page: Page) -> None:
    start(
        page,
        "A clip with sound **from one picture to another**.\n\n1. Choose both pictures; the clip has the shape of the "
        "first.\n2. Write what happens in between.\n3. **Run**.",
    )
    models = load_models(page)
    page.group("2  Pictures", SECOND)
    first, last = load_image(page), load_image(page, "Last picture")
    page.group("3  Prompt and size, and make it", SIZE)
    texts = encode_text(page, models.clip, GREETING)
    size = choose_size(page, UPRIGHT, picture=first)
    conditioned = condition(page, texts, models.vae, size, start_image=first, end_image=last)
    page.beside(SAMPLER)
    made = sample(page, models, conditioned)
    clip(page, made, models, size.fps)


def low_memory(page: Page) -> None:
    start(
        page,
        "With **less memory**: frames are decoded in tiles, and the prompt is kept in files, so that the text encoder "
        "can stay out.\n\n1. **Run**: 2a keeps the prompt, and the clip is made.\n2. Press **R**, choose the two files "
        "in 2b.\n3. Select all of 2a (**Ctrl** and draw a frame), mute it (**Ctrl M**).",
    )
    models = load_models(page)
    page.group("2a  Keep the prompt", SECOND)
    names = ("positive", "negative")
    made = encode_text(page, models.clip, GREETING)
    kept = [
        page.add("MOVASaveConditioning", conditioning=text, filename_prefix=f"conditioning/{name}")[0]
        for name, text in zip(names, made, strict=True)
    ]
    page.group("2b  The kept prompt", below=True)
    texts: list[Output] = []
    for title, name, text in zip(("Prompt", "Negative prompt"), names, kept, strict=True):
        file = f"conditioning/{name}_00001_.conditioning.safetensors [output]"
        texts += page.add("MOVALoadConditioning", title, file=file, conditioning=text)
    page.group("3  Picture, and make it", SIZE)
    image = load_image(page)
    (fps,) = page.add("PrimitiveFloat", "Frames a second", value=DEFAULT.fps)
    shape = {"length": DRAFT.frames, "fps": fps, "start_image": image}
    conditioned = page.add("MOVAConditioning", positive=texts[0], negative=texts[1], vae=models.vae, **shape)
    page.beside(SAMPLER)
    clip(page, sample(page, models, conditioned), models, fps, decode_in_tiles)


def lora(page: Page) -> None:
    start(
        page,
        "With a **LoRA** on both experts. Put it into *models/loras*, choose it in MOVA LoRA Loader, and write its "
        "trigger word first in the prompt.\n\n**Wan 2.2 I2V** LoRAs are pairs: use two loaders, the high-noise file "
        "with only **model_high** connected, the other with only **model_low**.",
    )
    models = load_models(page)
    image, size, texts = picture_and_prompt(page, models, SECOND - 35)
    page.group("3  LoRA, and make it", SIZE + 35)  # for the name of the file
    experts = {"model_high": models.high, "model_low": models.low}
    high, low, _ = page.add("MOVALoraLoader", **experts, lora_name="your_lora.safetensors")
    page.space(130)
    conditioned = condition(page, texts, models.vae, size, start_image=image)
    page.beside(SAMPLER)
    clip(page, sample(page, models._replace(high=high, low=low), conditioned), models, size.fps)


def advanced(page: Page) -> None:
    page.gap = 17  # it has six columns
    start(
        page,
        "**ComfyUI's own sampling nodes**, one for each expert, so that sampler, noise levels and guidance can "
        "differ.\n\nThe low-noise expert takes over at noise **0.9**: step 8 of 20, 11 of 30, 18 of 50.\n\n"
        "**bridge_cfg** above 1 ties sound and picture closer (lip sync).",
        446,
    )
    models = load_models(page)
    image, size, texts = picture_and_prompt(page, models, NARROW)
    page.group("3  Noise levels", NARROW)
    (sigmas,) = page.add("MOVAScheduler", steps=DRAFT.steps, shift=DEFAULT.shift)
    levels = page.add("SplitSigmas", "Steps of the high one", sigmas=sigmas, step=high_steps(DRAFT))
    conditioned = condition(page, texts, models.vae, size, start_image=image)

    def denoise(title: str, expert: Output, sampler: Output, noise: Output, sigmas: Output, latent: Output) -> Output:
        texts = {"positive": conditioned[0], "negative": conditioned[1]}
        (guider,) = page.add("MOVAGuider", model=expert, **texts, cfg=DRAFT.cfg, bridge_cfg=2.0)
        parts = {"noise": noise, "guider": guider, "sampler": sampler, "sigmas": sigmas, "latent_image": latent}
        return page.add("SamplerCustomAdvanced", title, **parts)[0]

    page.group("4a  High-noise expert", NARROW)
    (sampler,) = page.add("KSamplerSelect", sampler_name="euler")
    (noise,) = page.add("RandomNoise", noise_seed=42)
    latent = denoise("Sampler, high noise", models.high, sampler, noise, levels[0], conditioned[2])
    page.group("4b  Low-noise expert", NARROW)
    (noise,) = page.add("DisableNoise")
    latent = denoise("Sampler, low noise", models.low, sampler, noise, levels[1], latent)
    clip(page, latent, models, size.fps, width=240)  # less is not enough for Save Video


def picture_first(page: Page) -> None:
    page.gap = 17
    start(
        page,
        "Words become a **first picture**, and the picture a clip: surer than words alone.\n\n1. Write one line, "
        "speech in quotation marks.\n2. **Run**. Qwen3 makes a full prompt of it, Z-Image-Turbo paints how it begins, "
        "MOVA goes on from there. ComfyUI offers these three files itself.",
        LEFT,
    )
    models = load_models(page)
    page.group("2  Words", NARROW)
    model = language_model(page, Z_IMAGE["clip"], "lumina2")
    (typed,) = page.add("PrimitiveStringMultiline", "Your prompt", value=LIGHTHOUSE)
    full, _ = page.add("MOVAEnhancePrompt", "Full prompt", clip=model, prompt=typed)
    page.beside(NARROW)
    opening, _ = page.add("MOVAEnhancePrompt", "How it begins", clip=model, prompt=full, goal="first picture")
    size = choose_size(page)
    given = {"clip": model, "prompt": opening, "width": size.width, "height": size.height}
    (image,) = fold(page, "First picture", paint, **given)
    page.group("3  Make it", NARROW)
    texts = encode_text(page, models.clip, full)
    conditioned = condition(page, texts, models.vae, size, start_image=image)
    page.beside(NARROW)
    clip(page, sample(page, models, conditioned), models, size.fps, width=240)


# By the names of their files, which people read and search among the templates.
WORKFLOWS = {
    "mova_1_image_to_video_with_sound": image_to_video,
    "mova_2_text_to_video_with_sound": text_to_video,
    "mova_3_first_and_last_frame_with_sound": first_and_last_frame,
    "mova_4_foley_sound_for_a_video": sound_for_a_video,
    "mova_5_talking_video_for_a_sound": video_for_a_sound,
    "mova_6_low_memory": low_memory,
    "mova_7_lora": lora,
    "mova_8_advanced_two_samplers": advanced,
    "mova_9_text_to_picture_to_clip": picture_first,
    "mova_10_train_a_lora": train_a_lora,
    "mova_11_fast": fast,
    "mova_12_two_stages": two_stages,
}
