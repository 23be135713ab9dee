"""Each workflow, described in a function that writes its page. A new one goes into WORKFLOWS and card.CARDS."""

from .canvas import Output, Page
from .given import sound_for_a_video, video_for_a_sound
from .steps import (
    CROPPED,
    GREETING,
    SIZE,
    TWO_PARTS,
    about,
    condition,
    decode_and_save,
    encode_text,
    frame_rate,
    load_clip,
    load_image,
    load_models,
    sample,
)


def image_to_video_and_sound(page: Page) -> None:
    about(
        page,
        "A picture and a prompt become a clip **with its sound**, both made together.\n\n"
        "1. Choose your picture in group 3.\n2. Write the prompt in group 2.\n3. Queue.",
    )
    models = load_models(page)
    texts = encode_text(page, load_clip(page), GREETING)
    page.group("3  Picture and size")
    fps, image = frame_rate(page), load_image(page, "First picture")
    page.note("Size and length", CROPPED)
    conditioned = condition(page, texts, models.vae, fps, start_image=image)
    decode_and_save(page, sample(page, models, conditioned), models, fps)


def text_to_video_and_sound(page: Page) -> None:
    about(
        page,
        "A clip with sound from **words alone**.\n\nMOVA was trained with a first picture. Without one its authors "
        "give it a **white** frame; that often leaves the clip one flat colour. What helps is said in group 3.",
    )
    models = load_models(page)
    prompt = (
        "A lighthouse on a cliff in a storm at dusk, seen from the sea. Waves break on the rocks with a roar, the wind "
        "howls, and a foghorn sounds twice."
    )
    texts = encode_text(page, load_clip(page), prompt)
    page.group("3  Picture and size")
    fps = frame_rate(page)
    page.note("Size and length", SIZE)
    page.note(
        "If the clip is one flat colour",
        "- set **text_only_frame** to *none*: no frame is given at all\n- try another seed\n- or make a picture of the "
        "scene with any image model, and use *image_to_video_and_sound*: the surest way",
    )
    conditioned = condition(page, texts, models.vae, fps)
    decode_and_save(page, sample(page, models, conditioned), models, fps)


def first_and_last_frame(page: Page) -> None:
    about(
        page,
        "A clip with sound **from one picture to another**.\n\n1. Choose both pictures in group 3a.\n"
        "2. Describe in group 2 what happens in between.\n3. Queue.",
    )
    models = load_models(page)
    texts = encode_text(
        page, load_clip(page), GREETING, TWO_PARTS + "\n\nSay what leads from the first picture to the last."
    )
    page.group("3a  Pictures")
    first, last = load_image(page, "First picture"), load_image(page, "Last picture")
    page.group("3b  Size and length")
    fps = frame_rate(page)
    page.note("Size and length", CROPPED)
    conditioned = condition(page, texts, models.vae, fps, start_image=first, end_image=last)
    decode_and_save(page, sample(page, models, conditioned), models, fps)


def low_memory(page: Page) -> None:
    about(
        page,
        "As *image_to_video_and_sound*, with less memory:\n\n"
        "- experts in **fp8**, as in all of these workflows (`--dtype nvfp4` makes still smaller ones)\n"
        "- the prompt is **encoded once and kept** in a file, so that the text encoder (6 GiB) can stay out\n"
        "- frames are decoded **in tiles**\n\n"
        "Less still: fewer frames (97) in group 3, smaller tiles in group 5.",
    )
    page.note(
        "How to use groups 2a and 2b",
        "1. Run: group 2a encodes the prompt and keeps it in two files, group 2b passes it on, and the clip is made.\n"
        "2. Press **R**, and choose the two files in group 2b.\n"
        "3. Select all of group 2a (hold **Ctrl** and draw a frame around it) and mute it (**Ctrl M**). From now on "
        "group 2b reads the files, and nothing of 2a is loaded.\n\n"
        "While 2a is not muted, its prompt counts, and no file is read.\n\n"
        "For another prompt: unmute 2a (**Ctrl M** again), write it there, and begin again at 1. It is kept in new "
        "files; their number goes up.",
    )
    models = load_models(page)
    page.group("2a  Encode the prompt; then mute this", 480)
    names = ("positive", "negative")
    made = page.add("MOVATextEncode", clip=load_clip(page), prompt=GREETING)
    kept = [
        page.add("MOVASaveConditioning", conditioning=text, filename_prefix=f"conditioning/{name}")[0]
        for name, text in zip(names, made, strict=True)
    ]
    page.group("2b  The kept prompt", below=True)
    texts = []
    for title, name, text in zip(("Prompt", "Negative prompt"), names, kept, strict=True):
        file = f"conditioning/{name}_00001_.conditioning.safetensors [output]"
        texts += page.add("MOVALoadConditioning", title, file=file, conditioning=text)
    page.group("3  Picture and size")
    fps, image = frame_rate(page), load_image(page, "First picture")
    page.note("Size and length", CROPPED)
    conditioned = condition(page, texts, models.vae, fps, start_image=image)

    def decode_in_tiles(page: Page, latent: Output, vae: Output) -> Output:
        sizes = {"tile_size": 256, "overlap": 64, "temporal_size": 32, "temporal_overlap": 8}
        return page.add("VAEDecodeTiled", samples=latent, vae=vae, **sizes)[0]

    decode_and_save(page, sample(page, models, conditioned), models, fps, decode_in_tiles)


def lora(page: Page) -> None:
    about(
        page,
        "As *image_to_video_and_sound*, with a **LoRA** on both experts.\n\nPut it into `models/loras`, and choose it "
        "in group 1b. For several, put more loaders behind the first.",
    )
    models = load_models(page)
    clip = load_clip(page)
    page.group("1b  LoRA", 420)
    high, low, report = page.add(
        "MOVALoraLoader", model_high=models.high, model_low=models.low, lora_name="your_mova_lora.safetensors"
    )
    page.add("PreviewAny", "What the LoRA changed", source=report)
    page.note(
        "LoRA strengths",
        "One each for the picture (**video**), the sound (**audio**) and what ties them together (**bridge**). 1 is as "
        "trained; 0 leaves that part as it was.\n\n"
        "MOVA's own LoRAs are one file for all. **Wan 2.2 I2V** LoRAs are pairs: use two loaders, the high-noise file "
        "with only **model_high** connected, the other with only **model_low**.",
    )
    texts = encode_text(page, clip, GREETING, TWO_PARTS + "\n\nMany LoRAs have a trigger word; put it first.")
    page.group("3  Picture and size")
    fps, image = frame_rate(page), load_image(page, "First picture")
    page.note("Size and length", CROPPED)
    conditioned = condition(page, texts, models.vae, fps, start_image=image)
    made = sample(page, models._replace(high=high, low=low), conditioned)
    decode_and_save(page, made, models, fps)


def advanced(page: Page) -> None:
    about(
        page,
        "As *image_to_video_and_sound*, from **ComfyUI's own sampling nodes**: one SamplerCustomAdvanced for each "
        "expert, so that sampler, noise levels and guidance can differ between them. With bridge guidance.",
    )
    models = load_models(page)
    texts = encode_text(page, load_clip(page), GREETING)
    page.group("3a  Noise levels")
    (sigmas,) = page.add("MOVAScheduler", steps=50, shift=5.0)
    high_sigmas, low_sigmas = page.add("SplitSigmas", "Steps of the high-noise expert", sigmas=sigmas, step=18)
    (sampler,) = page.add("KSamplerSelect", sampler_name="euler")
    page.note(
        "Where to split",
        "The low-noise expert takes over where the noise falls below **0.9**. With shift 5 that is\n\n"
        "- step **18** of 50\n- step 11 of 30\n- step 8 of 20",
    )
    page.group("3b  Picture and size")
    fps, image = frame_rate(page), load_image(page, "First picture")
    page.note("Size and length", CROPPED)
    positive, negative, latent = condition(page, texts, models.vae, fps, start_image=image)

    def denoise(expert: Output, noise: Output, sigmas: Output, latent: Output) -> Output:
        (guider,) = page.add("MOVAGuider", model=expert, positive=positive, negative=negative, cfg=5.0, bridge_cfg=2.0)
        parts = {"noise": noise, "guider": guider, "sampler": sampler, "sigmas": sigmas, "latent_image": latent}
        return page.add("SamplerCustomAdvanced", **parts)[0]

    page.group("4a  High-noise expert")
    page.note(
        "Bridge guidance",
        "**bridge_cfg** above 1 ties sound and picture closer (lip sync), at some cost in speech quality. 2 is a "
        "start, not a published value; 1 is ordinary guidance.\n\n"
        "It takes a third evaluation in each step, but none if it equals **cfg**.",
    )
    latent = denoise(models.high, page.add("RandomNoise", noise_seed=42)[0], high_sigmas, latent)
    page.group("4b  Low-noise expert")
    latent = denoise(models.low, page.add("DisableNoise")[0], low_sigmas, latent)
    decode_and_save(page, latent, models, fps)


WORKFLOWS = (
    image_to_video_and_sound,
    text_to_video_and_sound,
    first_and_last_frame,
    low_memory,
    lora,
    sound_for_a_video,
    video_for_a_sound,
    advanced,
)
