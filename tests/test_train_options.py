"""What a training run can be told, and what of it is refused."""

import pytest
import torch

from mova.__main__ import main
from mova.train.cache import Cache, Entry, key_of
from mova.train.draws import draw
from mova.train.settings import RECIPES, Settings, settings_from


@pytest.fixture(scope="module")
def cache(tiny_checkpoint, tmp_path_factory):
    """A folder with one clip of nothing, as `train prepare` writes them."""
    made = Cache(tmp_path_factory.mktemp("cache"))
    latents = {"video": torch.zeros(16, 2, 4, 6), "condition": torch.zeros(20, 2, 4, 6), "audio": torch.zeros(128, 11)}
    told = {"frames": 5, "width": 48, "height": 32, "fps": 24.0, "sound": True}
    clip, text = key_of("clip"), key_of("text")
    made.write(made.clip_path(clip), latents, told)
    made.write_text(text, torch.ones(1, 512, 4096))
    made.write_index([Entry("a.mp4", "a", clip, text)], text, tiny_checkpoint, {})
    return made.folder


def test_chance_follows_from_the_seed_and_the_step():
    settings = Settings(caption_dropout=0.25, accumulation=2)
    draws = [draw(settings, 5, 0.358, step, part) for step in range(400) for part in range(2)]
    assert draws == [draw(settings, 5, 0.358, step, part) for step in range(400) for part in range(2)]
    for start in range(0, 800, 5):
        assert sorted(chosen.clip for chosen in draws[start : start + 5]) == list(range(5))
    assert 0.2 < sum(chosen.without_caption for chosen in draws) / 800 < 0.3
    high = [chosen.timestep for number, chosen in enumerate(draws) if number // 2 % 2 == 0]
    low = [chosen.timestep for number, chosen in enumerate(draws) if number // 2 % 2 == 1]
    assert min(high) >= 900 > max(low) and min(low) < 100 and max(high) > 990
    assert len({chosen.noise_seed for chosen in draws}) == 800
    assert draws[0] != draw(Settings(seed=1, accumulation=2), 5, 0.358, 0, 0)


def test_the_published_recipe_is_the_published_one():
    found = settings_from("published", {})
    assert (found.rank, found.alpha, found.lr, found.weight_decay, found.clip) == (16, 16, 1e-4, 0.01, 1.0)
    assert (found.accumulation, found.warmup_steps, found.steps, found.experts) == (4, 500, 50_000, "both")
    assert [found.expert_of(step) for step in range(3)] == ["video_dit", "video_dit_2", "video_dit"]
    assert settings_from("published", {"rank": 32}).rank == 32
    low = settings_from("published-low-resource", {})
    assert (low.rank, low.alpha, low.lr_schedule) == (8, 8, "low_resource") and set(RECIPES) > {"published"}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["--steps", "0"], "--steps is 0"),
        (["--rank", "-1"], "--rank is -1"),
        (["--alpha", "nan"], "--alpha is nan"),
        (["--lr", "0"], "--lr is 0.0"),
        (["--lr", "7"], "--lr is 7.0"),
        (["--targets", "mlp"], "--targets is 'mlp'; choose attention, attention+mlp"),
        (["--parts", "video,sound"], "--parts is 'video,sound'"),
        (["--parts", ""], "--parts is ''"),
        (["--experts", "two"], "--experts is 'two'; choose both, high, low"),
        (["--base", "int4"], "--base is 'int4'; choose bf16, fp8"),
        (["--dtype", "fp8"], "--dtype is 'fp8'"),
        (["--warmup", "6"], "--warmup is 6"),
        (["--caption-dropout", "1"], "--caption-dropout is 1.0"),
        (["--weight-decay", "-1"], "--weight-decay is -1.0"),
        (["--switch-every", "6"], "--switch-every 6 leaves no step"),
        (["--save-every", "0"], "--save-every is 0"),
        (["--checkpoints", "none", "--offload-activations"], "--offload-activations needs --checkpoints"),
        (["--sample-every", "2", "--experts", "low"], "--sample-every needs both experts"),
        (["--recipe", "theirs"], "no recipe called 'theirs'; choose ours, published"),
        (["--checkpoints", "all"], "--checkpoints is 'all'"),
        (["--lr-schedule", "linear"], "--lr-schedule is 'linear'"),
        (["--out", "lora.pt"], "ends in .safetensors"),
        (["--out", "nowhere/l.safetensors"], "does not exist"),
        (["--checkpoint", "nowhere"], "nowhere is not a folder"),
        (["--device", "abacus"], "'abacus' cannot be used"),
    ],
)
def test_wrong_options_are_told_before_weights_are_loaded(cache, tmp_path, monkeypatch, capsys, wrong, told):
    monkeypatch.setattr("mova.train.base.load_experts", lambda *_: pytest.fail("weights were loaded"))
    monkeypatch.chdir(tmp_path)
    assert main(["train", str(cache), "--out", "l.safetensors", "--device", "cpu", "--steps", "6", *wrong]) == 1
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error: ") and told in message and message.endswith(".")
