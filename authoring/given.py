"""Workflows that keep what is given: sound for a video, a video for a sound."""

from .canvas import Output, Page
from .fold import fold
from .steps import (
    LAST,
    SAMPLER,
    SECOND,
    SIZE,
    UPRIGHT,
    Size,
    choose_size,
    condition,
    encode_text,
    load_image,
    load_models,
    sample,
    save,
    start,
)
from .times import DRAFT


def keep_video(page: Page, latent: Output, images: Output, vae: Output) -> dict[str, Output]:
    """Folded: the given frames as the video of a latent, which the sampler keeps."""
    (kept,) = page.add("VAEEncode", pixels=images, vae=vae)
    return {"latent": page.add("MOVACombineLatent", video=kept, audio=latent, keep_video=True)[0]}


def keep_sound(
    page: Page, latent: Output, audio: Output, audio_vae: Output, length: Output, fps: Output
) -> dict[str, Output]:
    """Folded: the given sound as the audio of a latent, which the sampler keeps."""
    (kept,) = page.add("MOVAAudioEncode", audio=audio, audio_vae=audio_vae, length=length, fps=fps)
    return {"latent": page.add("MOVACombineLatent", video=latent, audio=kept, keep_audio=True)[0]}


def video_with_sound(page: Page, latent: Output, vae: Output, audio: Output, fps: Output) -> dict[str, Output]:
    """Folded: the video that was made, and the given sound as it was."""
    video, _ = page.add("MOVASeparateLatent", latent=latent)
    (images,) = page.add("VAEDecode", samples=video, vae=vae)
    return {"video": page.add("MOVACombineVideo", images=images, audio=audio, fps=fps)[0]}


def sound_onto_video(
    page: Page, latent: Output, audio_vae: Output, video: Output, begin: Output, length: Output, fps: Output
) -> dict[str, Output]:
    """Folded: the sound that was made, and the same frames of the video in their own size."""
    _, audio = page.add("MOVASeparateLatent", latent=latent)
    (sound,) = page.add("MOVAAudioDecode", samples=audio, audio_vae=audio_vae)
    own = {"start": begin, "length": length, "fps": fps, "width": 0, "height": 0}
    frames, *_ = page.add("MOVAFitVideo", "The same frames in their own size", video=video, **own)
    return {"video": page.add("MOVACombineVideo", images=frames, audio=sound, fps=fps)[0]}


def sound_for_a_video(page: Page) -> None:
    start(
        page,
        "**Sound for a video that you have**; its frames are kept as they are.\n\n1. Choose the video, of any length.\n"
        "2. Write what is seen and what is to be heard.\n3. **Run**. *MOVA Fit Video* says what it left out.",
    )
    models = load_models(page)
    page.group("2  Video", SECOND)
    (video,) = page.add("LoadVideo", file="your_video.mp4")
    images, _, length, fps, width, height, begin = page.add("MOVAFitVideo", video=video, length=DRAFT.frames)
    page.group("3  Prompt, and make it", SIZE)
    texts = encode_text(
        page,
        models.clip,
        "A glass falls from a table onto a stone floor and shatters; splinters ring. The room echoes faintly.",
    )
    conditioned = condition(page, texts, models.vae, Size(width, height, length, fps), start_image=images)
    kept = {"latent": conditioned[2], "images": images, "vae": models.vae}
    (latent,) = fold(page, "Keep the video", keep_video, **kept)
    page.beside(SAMPLER)
    made = sample(page, models, conditioned, latent)
    page.group("4  Clip", LAST)
    parts = {"audio_vae": models.audio_vae, "video": video, "begin": begin, "length": length, "fps": fps}
    (result,) = fold(page, "Sound onto the video", sound_onto_video, latent=made, **parts)
    save(page, result)


def video_for_a_sound(page: Page) -> None:
    start(
        page,
        "**A video for a sound that you have**: speech, a song, a noise. The sound is kept as it is.\n\n1. Choose the "
        "sound and a first picture.\n2. Write what is seen, and word for word what is spoken.\n3. **Run**. A longer "
        "sound is cut, a shorter one followed by silence.",
    )
    models = load_models(page)
    page.group("2  Sound, picture and size", SECOND)
    (audio,) = page.add("LoadAudio", audio="your_sound.wav")
    image = load_image(page)
    size = choose_size(page, UPRIGHT, picture=image)
    page.group("3  Prompt, and make it", SIZE)
    texts = encode_text(
        page,
        models.clip,
        'A crayon drawing comes alive: the girl in the pink dress looks at us and says: "Hello! What a day!"',
    )
    conditioned = condition(page, texts, models.vae, size, start_image=image)
    kept = {"audio": audio, "audio_vae": models.audio_vae, "length": size.length, "fps": size.fps}
    (latent,) = fold(page, "Keep the sound", keep_sound, latent=conditioned[2], **kept)
    page.beside(SAMPLER)
    made = sample(page, models, conditioned, latent)
    page.group("4  Clip", LAST)
    parts = {"vae": models.vae, "audio": audio, "fps": size.fps}
    (result,) = fold(page, "Video with your sound", video_with_sound, latent=made, **parts)
    save(page, result)
