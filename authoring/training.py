"""The workflow that trains a LoRA, and makes a clip with it."""

from .canvas import Output, Page
from .fold import fold
from .steps import NARROW, Models, Size, condition, decode, encode_text, load_models, sample, save, start
from .times import DRAFT

LEFT = 446  # of the first of six columns
FOLDER, NAME = "my_clips", "my_lora"


def clip_with_lora(
    page: Page, video: Output, prompt: Output, clip: Output, vae: Output, audio_vae: Output, high: Output, low: Output
) -> dict[str, Output]:
    """Folded: a clip of both experts as they are given, from the first frame of a video."""
    images, _, length, fps, width, height, _ = page.add("MOVAFitVideo", video=video, length=DRAFT.frames)
    texts = encode_text(page, clip, prompt)
    conditioned = condition(page, texts, vae, Size(width, height, length, fps), start_image=images)
    made = sample(page, Models(high, low, clip, vae, audio_vae), conditioned)
    return decode(page, made, vae, audio_vae, fps)


def gather(page: Page, models: Models, title: str, file: str, caption: str, folder: Output | str) -> list[Output]:
    """A video and its folder of clips to train on."""
    (video,) = page.add("LoadVideo", title, file=file)
    encoders = {"clip": models.clip, "vae": models.vae, "audio_vae": models.audio_vae}
    return [video, *page.add("MOVATrainingClip", video=video, **encoders, caption=caption, folder=folder)]


def train_a_lora(page: Page) -> None:
    page.gap = 17  # it has six columns
    start(
        page,
        "**Train a LoRA on your own clips**, picture and sound.\n\n1. Choose two clips of 2 to 8 seconds, and say what "
        "is seen and heard in each. More: copy both nodes and link *folder*; each run can add clips.\n2. **Run**. "
        "Stopped, it goes on at the next run. The LoRA lies in *output/loras*.",
        LEFT,
    )
    models = load_models(page)
    page.group("2  Clips", NARROW)
    caption = 'A man in a red coat walks through the snow and says: "What a day!" Snow crunches under his boots.'
    video, folder = gather(page, models, "First clip", "your_first_clip.mp4", caption, FOLDER)
    page.beside(NARROW)
    caption = "A man in a red coat sits by a fire at night. The fire crackles, an owl calls."
    _, folder = gather(page, models, "Second clip", "your_second_clip.mp4", caption, folder)
    page.group("3  Train, and try it", NARROW)
    experts = {"model_high": models.high, "model_low": models.low}
    lora_high, lora_low, _, _ = page.add("MOVATrainLoRA", **experts, folder=folder, lora_name=NAME)
    page.beside(NARROW)
    (high,) = page.add("LoraModelLoader", "LoRA, high noise", model=models.high, lora=lora_high)
    (low,) = page.add("LoraModelLoader", "LoRA, low noise", model=models.low, lora=lora_low)
    words = 'A man in a red coat stands at the sea and shouts: "Hello!" Waves roar.'
    (prompt,) = page.add("PrimitiveStringMultiline", "Prompt of the trial", value=words)
    given = {"video": video, "prompt": prompt, "clip": models.clip, "vae": models.vae, "audio_vae": models.audio_vae}
    (made,) = fold(page, "A clip with the LoRA", clip_with_lora, **given, high=high, low=low)
    page.group("4  Clip", 240)
    save(page, made)
