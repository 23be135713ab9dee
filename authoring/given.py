"""Workflows that keep what is given: sound for a video, a video for a sound."""

from .canvas import Page
from .steps import (
    CROPPED,
    about,
    condition,
    decode_video,
    encode_text,
    frame_rate,
    load_clip,
    load_image,
    load_models,
    sample,
    save,
)


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
    page.group("3a  Video, length and size")
    (video,) = page.add("LoadVideo", file="your_video.mp4")
    (start,) = page.add("PrimitiveFloat", "Begin after these seconds", value=0.0)
    images, _, length, fps, width, height = page.add(
        "MOVAFitVideo", "What MOVA sees", video=video, start=start, length=193, width=640, height=352
    )
    page.note(
        "Size and length",
        "**length**: frames at most; of a shorter video all that make 4 k + 1. 193 are 8 seconds at 24 a second, 97 "
        "are 4.\n\n"
        "**640 x 352** and **1280 x 720** are the released sizes. Only MOVA sees the video in this size: the clip "
        "is saved with the frames as they were.\n\n"
        "The rate is the video's own, unless **fps** says another; MOVA was trained at 24.",
    )
    page.group("3b  As a latent, and as it is saved")
    size = {"width": width, "height": height, "length": length, "start_image": images}
    conditioned = condition(page, texts, models.vae, fps, **size)
    (kept,) = page.add("VAEEncode", pixels=images, vae=models.vae)
    (latent,) = page.add("MOVACombineLatent", video=kept, audio=conditioned[2], keep_video=True)
    own_size = {"start": start, "length": length, "fps": fps, "width": 0, "height": 0}
    frames, *_ = page.add("MOVAFitVideo", "The same frames in their own size", video=video, **own_size)
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
