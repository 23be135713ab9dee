"""What training needs is known before anything is loaded, and is what the counter of live tensors finds."""

import pytest
import train_memory
from slow import slow
from train_memory import CLIPS, WAYS, measure

from mova import PRESETS, MovaError
from mova.sampling.conditioning import audio_latents, latent_frames
from mova.train import checkpointing
from mova.train.memory import GIB, Clip, check_room, needed
from mova.train.settings import Settings

CONFIG = PRESETS["MOVA-360p"].model
# The bars, in GiB: activations with inputs in RAM; a card; RAM for weights and inputs, with both experts in fp8.
ACTIVATIONS = dict(zip(CLIPS, (1.6, 3.5, 8.0, 14.0), strict=True))
CARD = {CLIPS[1]: 8, CLIPS[2]: 12}
RAM = {CLIPS[1]: 36, CLIPS[2]: 48}
THRIFTY = Settings(offload_activations=True)


def clip_of(size):
    tokens = latent_frames(size.frames) * (size.height // 16) * (size.width // 16)
    return Clip(tokens, audio_latents(size.frames, 24.0))


@pytest.fixture
def counted(monkeypatch):
    monkeypatch.setattr(checkpointing, "to_ram", checkpointing.to_ram)  # put back what measure replaces
    return lambda clip, way: measure(clip, WAYS[way], layers=2).peak / GIB


@pytest.mark.parametrize(
    ("way", "settings", "size"),
    [
        ("pieces, inputs in RAM", THRIFTY, CLIPS[0]),
        pytest.param("pieces, inputs in RAM", THRIFTY, CLIPS[2], marks=slow("as at the first size")),
        ("layers, inputs in RAM", Settings(checkpoints="layers", offload_activations=True), CLIPS[0]),
    ],
)
def test_what_is_told_of_activations_is_what_the_counter_finds(counted, way, settings, size):
    found = counted(size, way)
    told = needed(CONFIG, settings, clip_of(size)).activations / GIB
    assert told == pytest.approx(found, rel=0.03)
    if settings is THRIFTY:
        gradients = 0.33  # of a LoRA of the release's depth, which the counter has with them
        assert found + gradients <= ACTIVATIONS[size]


@pytest.mark.parametrize("size", CLIPS, ids=str)
def test_a_consumer_card_has_room(size):
    need = needed(CONFIG, THRIFTY, clip_of(size))
    assert need.activations / GIB + 0.33 <= ACTIVATIONS[size]
    assert need.card / GIB <= CARD.get(size, 12)
    assert need.ram / GIB <= RAM.get(size, 50)


def test_too_small_a_card_is_told_with_what_would_fit():
    clip = clip_of(CLIPS[2])
    wide = Settings(checkpoints="layers", base="bf16", resident_layers=4)
    assert "GiB on the card" in check_room(CONFIG, wide, clip, None)
    assert "GiB on the card" in check_room(CONFIG, wide, clip, 80 * GIB)
    with pytest.raises(MovaError, match="with --checkpoints pieces it would fit"):
        check_room(CONFIG, wide, clip, 32 * GIB)
    with pytest.raises(MovaError, match="--checkpoints pieces --resident-layers 0 --offload-activations it would fit"):
        check_room(CONFIG, wide, clip, 12 * GIB)
    with pytest.raises(MovaError, match="prepare smaller or shorter clips"):
        check_room(CONFIG, wide, clip, 4 * GIB)


def test_more_settings_need_more():
    clip = clip_of(CLIPS[1])
    base = needed(CONFIG, THRIFTY, clip)
    more = {
        "targets": "attention+mlp", "rank": 32, "resident_layers": 4, "offload_activations": False, "base": "bf16",
        "checkpoints": "layers",
    }  # fmt: skip
    for name, value in more.items():
        assert needed(CONFIG, Settings(**{"offload_activations": True, name: value}), clip).card > base.card, name
    assert needed(CONFIG, Settings(experts="high", offload_activations=True), clip).ram < base.ram - 12 * GIB
    assert train_memory.CLIPS[0] == (448, 256, 49)
