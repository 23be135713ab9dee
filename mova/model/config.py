"""Sizes of a MOVA model: read from config.json, from safetensors metadata, or from the tensor shapes themselves."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import MovaError
from ..shorten import short
from .config_values import MAX_SIZE, fits, known_fields, refuse_variants
from .stored_config import stored_config

Shapes = Mapping[str, Sequence[int]]
# Layers that the published bridge can skip, by the name its config.json gives to the choice. `n` is the audio depth.
INTERACTION_STRATEGIES: dict[str, Callable[[int], Iterable[int]]] = {
    "full": lambda n: range(n),
    "shallow_focus": lambda n: range(min(10, n // 3)),
    "distributed": lambda n: range(0, n, 3),
    "progressive": lambda n: [*range(min(8, n)), *range(8, n, 3)],
    "custom": lambda n: [i for i in (0, 2, 4, 6, 8, 12, 16, 20) if i < n],
}


@dataclass(frozen=True)
class TowerConfig:
    """One tower (video or audio), in the names of the published config.json."""

    dim: int
    in_dim: int
    ffn_dim: int
    out_dim: int
    text_dim: int
    num_heads: int
    num_layers: int
    patch_size: tuple[int, ...]
    freq_dim: int = 256
    eps: float = 1e-6

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads


@dataclass(frozen=True)
class BridgeConfig:
    """The cross-attention between the towers, in the names of the published config.json."""

    visual_layers: int
    audio_layers: int
    visual_hidden_dim: int
    audio_hidden_dim: int
    audio_fps: float
    head_dim: int
    interaction_strategy: str
    apply_cross_rope: bool
    apply_first_frame_bias_in_rope: bool = False

    @property
    def layers(self) -> tuple[int, ...]:
        """Indices of the blocks in front of which the towers exchange information."""
        depth = min(self.visual_layers, self.audio_layers)
        return tuple(INTERACTION_STRATEGIES[self.interaction_strategy](depth))


@dataclass(frozen=True)
class AudioVAEConfig:
    """The audio VAE (DAC with a Gaussian bottleneck), in the names of the published config.json."""

    encoder_dim: int = 128
    encoder_rates: tuple[int, ...] = (2, 3, 4, 5, 8)
    latent_dim: int = 128
    decoder_dim: int = 2048
    decoder_rates: tuple[int, ...] = (8, 5, 4, 3, 2)
    sample_rate: int = 48000

    @property
    def hop(self) -> int:
        """Samples per latent."""
        return math.prod(self.encoder_rates)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "AudioVAEConfig":
        """From the contents of audio_vae/config.json; raises MovaError for a variant that MOVA does not use."""
        refuse_variants("audio_vae", values, {"continuous": True})
        config = known_fields(cls, "audio_vae", values)
        if math.prod(config.encoder_rates) != math.prod(config.decoder_rates):
            raise MovaError(
                f"audio_vae/config.json: encoder_rates {list(config.encoder_rates)} and decoder_rates "
                f"{list(config.decoder_rates)} do not have the same product; take the released config.json."
            )
        if config.decoder_dim % 2 ** len(config.decoder_rates):
            raise MovaError(
                f"audio_vae/config.json: decoder_dim {config.decoder_dim} cannot be halved {len(config.decoder_rates)} "
                "times; take the released config.json."
            )
        return config


@dataclass(frozen=True)
class MovaConfig:
    """The joint model: one video expert, the audio tower and the bridge."""

    video_dit: TowerConfig
    audio_dit: TowerConfig
    dual_tower_bridge: BridgeConfig

    @classmethod
    def from_dict(cls, values: Mapping[str, Mapping[str, Any]]) -> "MovaConfig":
        """From the contents of the three config.json files, keyed by their folders.

        Raises MovaError if a part or a value is missing, if the parts do not fit each other, or for a variant of the
        published code that no release uses (image cross-attention, pooled AdaLN, another audio VAE).
        """
        for part in ("video_dit", "audio_dit", "dual_tower_bridge"):
            if not isinstance(values.get(part), Mapping):
                raise MovaError(f"The model's configuration lacks {part}; take {part}/config.json from the release.")
        for part in ("video_dit", "audio_dit"):
            refuse_variants(part, values[part], {"has_image_input": False, "has_ref_conv": False})
            refuse_variants(part, values[part], {"add_control_adapter": False, "seperated_timestep": False})
        refuse_variants("audio_dit", values["audio_dit"], {"vae_type": "dac"})
        bridge = values["dual_tower_bridge"]
        refuse_variants("dual_tower_bridge", bridge, {"pooled_adaln": False, "trainable_condition_scale": False})
        config = cls(
            known_fields(TowerConfig, "video_dit", values["video_dit"]),
            known_fields(TowerConfig, "audio_dit", values["audio_dit"]),
            known_fields(BridgeConfig, "dual_tower_bridge", bridge),
        )
        config.check()
        return config

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> "MovaConfig":
        """From the shapes of a joint state dict (video tower at the root, `audio_dit.*`, `dual_tower_bridge.*`).

        What shapes cannot tell (head size, audio latents a second, RoPE of the bridge) is taken as released.
        Raises MovaError if the tensors are not those of a joint MOVA model.
        """
        prefix = "dual_tower_bridge.audio_to_video_conditioners."
        video = tower_from_shapes(shapes, "", RELEASED.video_dit.head_dim)
        audio = tower_from_shapes(shapes, "audio_dit.", RELEASED.audio_dit.head_dim)
        layers = {name[len(prefix) :].split(".")[0] for name in shapes if name.startswith(prefix)}
        found = sorted(int(layer) if layer.isdecimal() else -1 for layer in layers)
        depth = min(video.num_layers, audio.num_layers)
        strategy = next((name for name, layers in INTERACTION_STRATEGIES.items() if found == list(layers(depth))), None)
        if not found or strategy is None:
            raise MovaError(
                f"The bridge has layers {short(found)}, which no MOVA release uses; "
                "give the model's config.json (dual_tower_bridge) with the weights."
            )
        bridge = dataclasses.replace(
            RELEASED.dual_tower_bridge,
            visual_layers=video.num_layers,
            audio_layers=audio.num_layers,
            visual_hidden_dim=video.dim,
            audio_hidden_dim=audio.dim,
            interaction_strategy=strategy,
        )
        config = cls(video, audio, bridge)
        config.check()
        return config

    @classmethod
    def from_file(cls, shapes: Shapes, metadata: Mapping[str, str], where: object = "The file") -> "MovaConfig":
        """From a file's header: the `config` in its metadata (see stored_config), else the shapes of the tensors.

        Raises MovaError if neither makes a joint MOVA model.
        """
        return cls.from_dict(stored_config(metadata, where)) if "config" in metadata else cls.from_shapes(shapes)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """The three parts as config.json holds them."""
        return dataclasses.asdict(self)

    def check(self) -> None:
        """Raise MovaError unless the three parts fit each other."""
        video, audio, bridge = self.video_dit, self.audio_dit, self.dual_tower_bridge
        for part, tower, axes in (("video_dit", video, 3), ("audio_dit", audio, 1)):
            if tower.num_heads < 1 or tower.dim % tower.num_heads or tower.head_dim % 2:
                raise MovaError(
                    f"{part}/config.json: dim {tower.dim} does not split into {tower.num_heads} heads of even size; "
                    "take the config.json that belongs to the weights."
                )
            if tower.freq_dim % 2:
                raise MovaError(
                    f"{part}/config.json: freq_dim {tower.freq_dim} must be even; "
                    "take the config.json that belongs to the weights."
                )
            if len(tower.patch_size) != axes:
                raise MovaError(
                    f"{part}/config.json: patch_size {list(tower.patch_size)} must have {axes} number(s); "
                    "take the config.json that belongs to the weights."
                )
        expected = {
            "visual_layers": video.num_layers,
            "audio_layers": audio.num_layers,
            "visual_hidden_dim": video.dim,
            "audio_hidden_dim": audio.dim,
        }
        for name, value in expected.items():
            if getattr(bridge, name) != value:
                raise MovaError(
                    f"dual_tower_bridge/config.json: {name} is {getattr(bridge, name)}, but the towers have {value}; "
                    "take all parts from one release."
                )
        if bridge.interaction_strategy not in INTERACTION_STRATEGIES:
            raise MovaError(
                f"dual_tower_bridge/config.json: interaction_strategy {short(bridge.interaction_strategy)} is unknown; "
                f"it must be one of {', '.join(INTERACTION_STRATEGIES)}."
            )
        if audio.num_layers > video.num_layers or video.text_dim != audio.text_dim:
            raise MovaError(
                "video_dit and audio_dit do not belong together (the audio tower is the deeper one, or their text "
                "sizes differ); take all parts from one release."
            )
        for dim in (video.dim, audio.dim):
            if dim % bridge.head_dim or bridge.head_dim % 2:
                raise MovaError(
                    f"dual_tower_bridge/config.json: head_dim {bridge.head_dim} is odd or does not divide a tower's "
                    f"width {dim}; take the config.json that belongs to the weights."
                )


def tower_from_shapes(shapes: Shapes, prefix: str, head_dim: int) -> TowerConfig:
    """Sizes of the tower whose tensors are called `prefix + name`; heads are taken to be `head_dim` wide."""

    def shape(name: str, axes: int = 2) -> Sequence[int]:
        found = shapes.get(prefix + name)
        if found is None:
            raise MovaError(
                f"The file lacks {prefix + name}, so it is not a joint MOVA model; "
                "use an expert with its audio tower and bridge in one file, or the released folder."
            )
        if len(found) < axes or not all(fits(size, int, MAX_SIZE) for size in found):
            raise MovaError(
                f"The file's {prefix + name} has the shape {short(list(found))}, which no tower has; "
                "use an expert as the release has it, or the released folder."
            )
        return found

    dim, in_dim, *patch = shape("patch_embedding.weight", 3)
    start = prefix + "blocks."
    blocks = {name[len(start) :].split(".")[0] for name in shapes if name.startswith(start)}
    return TowerConfig(
        dim=dim,
        in_dim=in_dim,
        ffn_dim=shape("blocks.0.ffn.0.weight")[0],
        out_dim=shape("head.head.weight")[0] // math.prod(patch),
        text_dim=shape("text_embedding.0.weight")[1],
        num_heads=max(1, dim // head_dim),
        num_layers=len(blocks),
        patch_size=tuple(patch),
        freq_dim=shape("time_embedding.0.weight")[1],
    )


# Both releases (360p and 720p) have these sizes.
RELEASED = MovaConfig(
    video_dit=TowerConfig(
        dim=5120, in_dim=36, ffn_dim=13824, out_dim=16, text_dim=4096, num_heads=40, num_layers=40, patch_size=(1, 2, 2)
    ),
    audio_dit=TowerConfig(
        dim=1536, in_dim=128, ffn_dim=8960, out_dim=128, text_dim=4096, num_heads=12, num_layers=30, patch_size=(1,)
    ),
    dual_tower_bridge=BridgeConfig(
        visual_layers=40,
        audio_layers=30,
        visual_hidden_dim=5120,
        audio_hidden_dim=1536,
        audio_fps=50.0,
        head_dim=128,
        interaction_strategy="full",
        apply_cross_rope=True,
    ),
)
