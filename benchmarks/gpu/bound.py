"""FLOPs of one forward, from the sizes of the model and the clip: a multiplication and an addition are two."""

import math
from typing import NamedTuple

from mova.model.config import TowerConfig
from mova.model.presets import Preset
from mova.sampling.conditioning import audio_latents, latent_frames

TEXT_TOKENS = 512
RATE = 790e12  # FLOP/s in bf16 of an H100 or H200 on random data, for comparison with docs/benchmarks.md


class Work(NamedTuple):
    """Matrix products, and scores and weighted sums of attention."""

    products: int
    scores: int


def tokens(preset: Preset) -> tuple[int, int]:
    """Video and audio tokens of a clip."""
    t, h, w = latent_frames(preset.frames), preset.height // 8, preset.width // 8
    video = t * h * w // math.prod(preset.model.video_dit.patch_size)
    return video, audio_latents(preset.frames, preset.fps)


def of_tower(tower: TowerConfig, length: int) -> Work:
    """A tower's embeddings, blocks and head, without the bridge."""
    d, patch = tower.dim, math.prod(tower.patch_size)
    block = 4 * length * d * d + 2 * length * d * d + 2 * TEXT_TOKENS * d * d + 2 * length * d * tower.ffn_dim
    time = tower.freq_dim * d + d * d + 6 * d * d
    text = TEXT_TOKENS * (tower.text_dim * d + d * d)
    ends = length * patch * d * (tower.in_dim + tower.out_dim)
    scores = tower.num_layers * 4 * d * length * (length + TEXT_TOKENS)
    return Work(2 * (tower.num_layers * block + time + text + ends), scores)


def of_forward(preset: Preset) -> Work:
    """One joint forward."""
    video, audio = tokens(preset)
    towers = of_tower(preset.model.video_dit, video), of_tower(preset.model.audio_dit, audio)
    bridge = preset.model.dual_tower_bridge
    a, b = bridge.visual_hidden_dim, bridge.audio_hidden_dim
    products = 2 * video * a * a + 2 * audio * b * a + 2 * audio * b * b + 2 * video * a * b
    scores = 4 * video * audio * (a + b)
    layers = len(bridge.layers)
    return Work(
        sum(tower.products for tower in towers) + 2 * layers * products,
        sum(tower.scores for tower in towers) + layers * scores,
    )
