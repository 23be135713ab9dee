"""What packs plug into the blocks of a model of the host's, found once in each forward."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import Tensor, nn

from ...mova.model.joint import KernelsByPlace, Layer
from ...mova.model.layers import patches
from ...mova.model.rope import Turn, from_wan, to_wan
from ...mova.model.tower import BLOCK_PARTS, BlockInput, Plugged
from .kernels import ATTENTION_PATCHES, options_of, with_options
from .replaced import is_replaced


def replaced_parts(block: nn.Module) -> set[str]:
    parts = {name for name in BLOCK_PARTS if is_replaced(getattr(block, name))}
    return parts | {"block"} if is_replaced(block) else parts


class Hooks(NamedTuple):
    """For each block of a tower what is plugged into it; None where nothing is in any."""

    video: list[Plugged | None] | None
    audio: list[Plugged | None] | None


def find(video: Any, audio: Any, turns: tuple[Turn, Turn], used: KernelsByPlace) -> Hooks:
    """Look through the blocks of both towers. Attention patches are for the video's, as those of the host's Wan."""

    def tower(blocks: Any, turn: Turn, options: dict[str, Any]) -> list[Plugged | None] | None:
        attn1, attn2 = (bool(patches(options, name)) for name in ATTENTION_PATCHES)
        found = [frozenset(replaced_parts(block) | ({"self_attn"} if attn1 else set())) for block in blocks]
        if not any(found) and not attn2:
            return None
        # As large as a table of the tokens' positions: made only for those who get it.
        freqs = to_wan(turn.table) if any(parts & {"self_attn", "block"} for parts in found) else None
        return [Plugged(parts, freqs, options) if parts or attn2 else None for parts in found]

    options = options_of(used.video), options_of(used.audio)
    return Hooks(tower(video, turns[0], options[0]), tower(audio, turns[1], options[1]))


def plug(layer: Layer, hooks: Hooks) -> Layer:
    """The layer with what is plugged into its blocks."""
    video = layer.video if hooks.video is None else replace(layer.video, plugged=hooks.video[layer.index])
    audio = layer.audio
    if hooks.audio is not None and layer.index < len(hooks.audio):
        audio = replace(layer.audio, plugged=hooks.audio[layer.index])
    return layer if (video, audio) == (layer.video, layer.audio) else replace(layer, video=video, audio=audio)


@dataclass
class Replacements:
    """patches_replace["dit"]: functions that run in place of a layer. They get the arguments of the host's Wan.

    The rotation is made in Wan's form for the first of them in a forward.
    """

    functions: dict[tuple[str, int], Callable]
    transformer_options: dict[str, Any]
    freqs: Tensor | None = None

    def run(self, layer: Layer, video: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """One layer. Beside Wan's arguments there is "audio": audio tokens.

        A function that knows only of "img" and does not call the layer leaves out the audio's layer, too.
        """
        function = self.functions.get(("double_block", layer.index))
        if function is None:
            return layer(video, audio)
        if self.freqs is None:
            plugged = layer.video.plugged
            made = None if plugged is None else plugged.freqs
            self.freqs = to_wan(layer.video.rotation.table) if made is None else made
        given: dict[str, Any] = {"txt": layer.video.context, "vec": layer.video.modulation[:, None], "pe": self.freqs}
        given["transformer_options"] = self.transformer_options
        done = {"audio": audio}

        def original(args: dict[str, Any]) -> dict[str, Tensor]:
            changed = {name: args[name] for name in given if args.get(name, given[name]) is not given[name]}
            called = replace(layer, video=changed_input(layer.video, **changed)) if changed else layer
            # Copies: the layer works in place, and the function may still need what it passed.
            img, done["audio"] = called(args["img"].clone(), args.get("audio", audio).clone())
            return {"img": img, "audio": done["audio"]}

        out = function({"img": video, "audio": audio, **given}, {"original_block": original})
        return out["img"].clone(), out.get("audio", done["audio"]).clone()


def changed_input(
    given: BlockInput,
    txt: Tensor | None = None,
    vec: Tensor | None = None,
    pe: Tensor | None = None,
    transformer_options: dict[str, Any] | None = None,
) -> BlockInput:
    """A video block's input with what a pack has passed on in place of what it got."""
    if txt is not None:
        given = replace(given, context=txt)
    if vec is not None:
        given = replace(given, modulation=vec.squeeze(1) if vec.ndim == 4 else vec)
    if pe is not None:
        given = replace(given, rotation=from_wan(pe))
    if transformer_options is not None:
        given = replace(given, kernels=with_options(given.kernels, transformer_options))
    plugged = given.plugged
    if plugged is not None:
        options = plugged.transformer_options if transformer_options is None else transformer_options
        given = replace(
            given, plugged=replace(plugged, freqs=plugged.freqs if pe is None else pe, transformer_options=options)
        )
    return given


def after_block(
    functions: list[Callable], layer: Layer, video: Tensor, latents: Tensor, transformer_options: dict[str, Any]
) -> Tensor:
    """patches["double_block"]: functions that the host's Wan (from v0.32 on) calls with the tokens after each block."""
    for function in functions:
        given = {"img": video.clone(), "x": latents, "vec": layer.time[:, None], "block_index": layer.index}
        out = function({**given, "img_offset": 0, "transformer_options": transformer_options})
        video = out["img"].clone()  # the next layer works in place, and others may keep what they get and give
    return video
