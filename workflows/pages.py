"""Each workflow, described in a function that writes its page. A new one goes into WORKFLOWS and card.CARDS."""

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


GREETING = (
    "A crayon drawing comes alive: the girl in the pink dress waves with both hands and says cheerfully: "
    '"Hello! What a day!" Birds sing, a light wind blows.'
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


def sound_for_a_video(page: Page) -> None:
    about(
        page,
        "**Sound for a video that you have.** Its frames are kept as they are; MOVA makes the sound to them.\n\n"
        "1. Choose the video in group 3a, and how much of it.\n"
        "2. Say in group 2 what is seen and what is to be heard.\n3. Queue.",
    )
    models = load_models(page)
    texts = encode_text(
        page,
        load_clip(page),
        "A glass falls from a table onto a stone floor and shatters; splinters ring. The room echoes faintly.",
        "Describe the video too, not only the sound: the prompt guides both.",
    )
    page.group("3a  Video and length")
    (video,) = page.add("LoadVideo", file="your_video.mp4")
    images, _, fps, *_ = page.add("GetVideoComponents", video=video)
    (frames,) = page.add("ImageFromBatch", "Length: this many frames", image=images, batch_index=0, length=193)
    page.note(
        "Size and length",
        "**length** must be 4 k + 1 and not more frames than the video has: 193 are 8 seconds at 24 a second, 97 are "
        "4. Begin later with **batch_index**.\n\n"
        "**640 x 352** and **1280 x 720** are the released sizes. Only MOVA sees the video in this size: the clip "
        "is saved with the frames as they were.\n\n"
        "The rate is the video's own; MOVA was trained at 24.",
    )
    page.group("3b  Size")
    (scaled,) = page.add(
        "ImageScale",
        "Size that MOVA sees",
        image=frames,
        upscale_method="lanczos",
        width=640,
        height=352,
        crop="center",
    )
    width, height, length = page.add("GetImageSize", image=scaled)
    page.group("3c  The video as a latent", below=True)
    size = {"width": width, "height": height, "length": length, "start_image": scaled}
    conditioned = condition(page, texts, models.vae, fps, **size)
    (kept,) = page.add("VAEEncode", pixels=scaled, vae=models.vae)
    (latent,) = page.add("MOVACombineLatent", video=kept, audio=conditioned[2], keep_video=True)
    made = sample(page, models, conditioned, latent)
    page.group("5  Output", 440)
    _, audio = page.add("MOVASeparateLatent", latent=made)
    (sound,) = page.add("MOVAAudioDecode", samples=audio, audio_vae=models.audio_vae)
    save(page, frames, sound, fps)


def video_for_a_sound(page: Page) -> None:
    about(
        page,
        "**A video for a sound that you have**: speech, a song, a noise. The sound is kept as it is; MOVA makes the "
        "picture to it.\n\n1. Choose the sound and a first picture in group 3a.\n2. Say in group 2 what is seen and "
        "what is heard.\n3. Queue.",
    )
    models = load_models(page)
    texts = encode_text(
        page,
        load_clip(page),
        'A crayon drawing comes alive: the girl in the pink dress looks at us and says: "Hello! What a day!"',
        "Write the words that are spoken in your sound, and say who speaks them.",
    )
    page.group("3a  Sound and picture")
    (audio,) = page.add("LoadAudio", audio="your_sound.wav")
    image = load_image(page, "First picture")
    page.group("3b  Size and length", below=True)
    fps = frame_rate(page)
    (length,) = page.add("PrimitiveInt", "Length in frames", value=193)
    page.note(
        "Size and length",
        CROPPED + "\n\nA longer sound is cut, a shorter one is followed by silence. MOVA hears it in mono; the clip is "
        "saved with the sound as it was.",
    )
    page.group("3c  The sound as a latent")
    conditioned = condition(page, texts, models.vae, fps, length=length, start_image=image)
    (kept,) = page.add("MOVAAudioEncode", audio=audio, audio_vae=models.audio_vae, length=length, fps=fps)
    (latent,) = page.add("MOVACombineLatent", video=conditioned[2], audio=kept, keep_audio=True)
    made = sample(page, models, conditioned, latent)
    page.group("5  Output", 440)
    video, _ = page.add("MOVASeparateLatent", latent=made)
    save(page, decode_video(page, video, models.vae), audio, fps)


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
