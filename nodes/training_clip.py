"""A clip and its caption to train on: encoded once, into a folder that many runs fill."""

import re
from typing import Any

from comfy_api.latest import io, ui
from torch import Tensor

from ..mova import MovaError
from ..mova.errors import first_line
from ..mova.model.presets import DEFAULT
from ..mova.model.text import clean, cut_notice
from ..mova.shorten import short
from ..mova.train.cache import Cache, Entry, key_of, make_folder
from ..mova.train.media import Shapes, clip_of
from ..mova.train.prepare import check_shapes, clip_told, encode_clip
from ..mova.train.samples import Sample, checked_caption
from .host import finite, notice
from .host.checks import check_audio_vae, check_clip, check_video_vae, video_vae_notice
from .host.given_video import looked_at, source_of
from .host.training_clips import hear_with, key_of_source, key_of_weights, name_of, see_with
from .host.training_places import CLIPS, clips_folder, name_fault
from .inputs import fps_input
from .text import cut

SIZES, FRAMES = "640x352 352x640 480x480", "49 97 145 193"
MOST = 40  # of a list


def shapes_of(sizes: str, frames: str, fps: float) -> Shapes:
    """What is chosen, as `train prepare` has it. Raises MovaError for what is no size or length."""
    pairs = [re.fullmatch(r"(\d{1,5})[xX](\d{1,5})", word) for word in words(sizes)]
    if not pairs or None in pairs:
        raise MovaError(f"sizes is {short(sizes)}; give one or more of width x height, as in {SIZES}.")
    lengths = words(frames)
    if not lengths or not all(word.isdecimal() and len(word) < 6 for word in lengths):
        raise MovaError(f"frames is {short(frames)}; give one or more numbers of frames, as in {FRAMES}.")
    shapes = Shapes(
        [(int(pair[1]), int(pair[2])) for pair in pairs if pair], sorted({int(word) for word in lengths}), fps
    )
    check_shapes(shapes)
    return shapes


def words(text: str) -> list[str]:
    found = text.replace(",", " ").split()
    if len(found) > MOST:
        raise MovaError(f"There are {len(found)} values in {short(text)}; give at most {MOST}.")
    return found


def literal(text: str) -> str:
    """A caption in which parentheses are parentheses, and no weights."""
    return text.replace("(", r"\(").replace(")", r"\)")


def features_of(clip: Any, caption: str) -> Tensor:
    """UMT5's features of a caption, [1, tokens, width]."""
    tokens, count = cut(clip.tokenize(literal(clean(caption))))
    if told := cut_notice(count, "caption"):
        notice.show(told)
    features = clip.encode_from_tokens_scheduled(tokens)[0][0].float().cpu()
    finite.check(features, "What the text encoder made of the caption", "load another file of umt5_xxl")
    return features


def text_key(cache: Cache, clip: Any, caption: str) -> str:
    """The key of a caption's features, which are made if they are not there."""
    key = key_of(clean(caption), key_of_weights(clip, "cond_stage_model"))
    if not cache.has(cache.text_path(key)):
        cache.write_text(key, features_of(clip, caption))
    return key


class MOVATrainingClip(io.ComfyNode):
    """One clip of many."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MOVATrainingClip",
            display_name="MOVA Training Clip",
            category="MOVA/training",
            description="Encodes a video with its sound, and its caption, into a folder that MOVA Train LoRA takes. "
            "What is encoded once is kept; each run can add more clips.",
            search_aliases=["lora dataset", "training data", "prepare clips", "caption"],
            inputs=[
                io.Video.Input(
                    "video", tooltip="From Load Video, also trimmed. Without sound, the picture is trained."
                ),
                io.Clip.Input("clip", tooltip="umt5_xxl, loaded with the type wan."),
                io.Vae.Input("vae", tooltip="The Wan 2.1 VAE."),
                io.Vae.Input("audio_vae", tooltip="From MOVA Audio VAE Loader."),
                io.String.Input(
                    "caption", multiline=True, tooltip="What is seen and heard; speech in quotation marks."
                ),
                io.String.Input(
                    "folder",
                    default="my_clips",
                    tooltip=f"A folder in output/{CLIPS}; link it from another MOVA Training Clip to gather several.",
                ),
                io.String.Input(
                    "sizes",
                    default=SIZES,
                    tooltip="Width x height, multiples of 16; a clip takes the one whose shape is nearest, cropped "
                    "around the centre.",
                ),
                io.String.Input("frames", default=FRAMES, tooltip="4 k + 1 each; a clip takes the most it fills."),
                fps_input(f"Frames a second that the clip is brought to; trained at {DEFAULT.fps:g}."),
                io.Float.Input(
                    "start", default=0.0, min=0.0, max=1e6, step=0.01, tooltip="Seconds left out before it."
                ),
            ],
            outputs=[io.String.Output(display_name="folder", tooltip="For MOVA Train LoRA, or the next clip.")],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, folder=None, sizes=None, frames=None, fps=None) -> bool | str:
        """Before anything runs; what comes from other nodes is checked in execute."""
        if isinstance(folder, str) and (fault := name_fault("folder", folder)):
            return fault
        try:
            shapes_of(
                SIZES if sizes is None else sizes,
                FRAMES if frames is None else frames,
                DEFAULT.fps if fps is None else fps,
            )
        except MovaError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, folder: str | None = None, **_: Any) -> bool:
        """Whether the folder is there: who deletes it begins anew."""
        return not isinstance(folder, str) or (name_fault("folder", folder) is None and clips_folder(folder).is_dir())

    @classmethod
    def execute(
        cls, video, clip, vae, audio_vae, caption: str, folder: str, sizes: str, frames: str, fps: float, start: float
    ) -> io.NodeOutput:
        place, shapes = clips_folder(folder), shapes_of(sizes, frames, fps)
        check_clip(clip)
        check_video_vae(vae)
        check_audio_vae(audio_vae)
        if told := video_vae_notice(vae):
            notice.show(told)
        try:
            caption = checked_caption(caption)
        except MovaError as error:
            raise MovaError(f"This clip cannot be trained: {error}; say in caption what is seen and heard.") from None
        source, window = source_of(video, start, max(shapes.lengths), fps)
        found = key_of_source(source)
        name = name_of(source, start, window, found)
        cache = Cache(place)
        make_folder(place)
        texts = [text_key(cache, clip, text) for text in (caption, "")]
        by = [key_of_weights(part, "first_stage_model") for part in (vae, audio_vae)]
        key = key_of([found], start, window, vars(shapes), by)
        if not cache.has(cache.clip_path(key)):
            rate = audio_vae.audio_sample_rate
            try:
                made = clip_of(source, Sample(name, place, caption, start=start), shapes, rate, window, looked_at)
                encoded = encode_clip(made, fps, rate, see_with(vae), hear_with(audio_vae))
            except MovaError as error:
                raise MovaError(of_the_clip(name, error)) from None
            cache.write(cache.clip_path(key), encoded, clip_told(made, shapes))
            for line in made.notices:
                notice.show(line)
        entries = cache.add(Entry(name, caption, key, texts[0]), texts[1])
        made_of = cache.told(key)
        silent = "" if made_of["sound"] else ", no sound: the picture alone is trained"
        size = f"{made_of['width']} x {made_of['height']}, {made_of['frames']} frames{silent}"
        notice.show_line(f"{name}: {size}; {len(entries)} in output/{CLIPS}/{folder}")
        return io.NodeOutput(folder, ui=ui.PreviewImage(strip(cache.pictures(key)), cls=cls))


def of_the_clip(name: str, error: MovaError) -> str:
    """What preparing says of a clip, as a sentence: in its lists the clip's name stands before it."""
    told = first_line(error).removesuffix(".")
    if told.startswith("has "):
        return f"{name} {told}; give fewer in frames, or a longer video."
    return f"{name}: {told}."


def strip(pictures: Tensor) -> Tensor:
    """A few frames uint8 [N, h, w, 3] side by side, as an IMAGE."""
    return (pictures.float() / 255).permute(1, 0, 2, 3).flatten(1, 2)[None]
