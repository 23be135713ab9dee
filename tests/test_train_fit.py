"""Prepared clips that are none are told by their file, before anything loads: a folder may come from anywhere."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from mova import PRESETS, MovaError
from mova.checkpoint.release import open_checkpoint
from mova.train.cache import INDEX, Cache
from mova.train.fit import check_items


@pytest.fixture(scope="module")
def config(place):
    return open_checkpoint(place / "release", ("video_dit", "audio_dit", "dual_tower_bridge")).config


@pytest.fixture
def cache(place, tmp_path):
    return Cache(shutil.copytree(place / "cache", tmp_path / "cache"))


def changed(name, change):
    return lambda tensors: {**tensors, name: change(tensors[name]).contiguous()}


LATENTS = {
    "a number": changed("video", lambda video: video.sum()),
    "no frames": changed("video", lambda video: video[0]),
    "no length": changed("audio", lambda audio: audio[:, 0]),
    "no sound": changed("audio", lambda audio: audio[:, :0]),
    "whole numbers": changed("video", lambda video: video.int()),
    "no first frame": lambda tensors: {name: tensors[name] for name in ("video", "audio")},
    "a shorter first frame": changed("condition", lambda condition: condition[:, :1]),
    "fewer channels of it": changed("condition", lambda condition: condition[:10]),
    "an odd size": lambda tensors: {
        **tensors,
        **{name: tensors[name][..., :3].contiguous() for name in ("video", "condition")},
    },
}


@pytest.mark.parametrize("wrong", LATENTS)
def test_a_file_without_a_clip_s_latents_is_named(config, cache, wrong):
    entries, nothing, _ = cache.index()
    path = cache.clip_path(entries[1].clip)
    check_items(config, cache, entries, nothing)
    cache.write(path, LATENTS[wrong](load_file(path)), cache.told(entries[1].clip))
    with pytest.raises(MovaError, match=rf"{path.name} is no prepared clip \(.*\); remove it, and prepare"):
        check_items(config, cache, entries, nothing)


@pytest.mark.parametrize("told", [{}, {"fps": "24"}, {"fps": 0}, {"fps": True}, {"sound": 1}, {"fps": None}])
def test_a_clip_that_does_not_tell_its_rate_or_sound_is_named(config, cache, told):
    entries, nothing, _ = cache.index()
    path, before = cache.clip_path(entries[0].clip), cache.told(entries[0].clip)
    cache.write(path, load_file(path), {**before, **told} if told else {})
    with pytest.raises(MovaError, match=rf"{path.name} is no prepared clip \(it does not tell its frame rate"):
        check_items(config, cache, entries, nothing)


@pytest.mark.parametrize("which", ["a caption", "no caption"])
@pytest.mark.parametrize("shape", [(64,), (600, 64), (0, 64)])
def test_a_file_without_a_caption_s_features_is_named(config, cache, which, shape):
    entries, nothing, _ = cache.index()
    path = cache.text_path(nothing if which == "no caption" else entries[0].text)
    cache.write(path, {"features": torch.zeros(shape)}, {})
    with pytest.raises(MovaError, match=rf"{path.name} is no prepared clip \(it lacks a caption's features"):
        check_items(config, cache, entries, nothing)


def test_clips_of_another_width_of_text_are_of_another_model(cache):
    entries, nothing, _ = cache.index()
    path = cache.text_path(entries[0].text)
    cache.write(path, {"features": torch.zeros(3, 7)}, {})
    with pytest.raises(MovaError, match=r"was prepared for another model \(a\.mp4\)"):
        check_items(PRESETS["MOVA-360p"].model, cache, entries, nothing)


def test_values_that_are_no_numbers_are_told_by_their_file(cache):
    entries, _, _ = cache.index()
    path = cache.clip_path(entries[0].clip)
    tensors = load_file(path)
    cache.write(path, {**tensors, "audio": tensors["audio"] * torch.inf}, cache.told(entries[0].clip))
    with pytest.raises(MovaError, match=rf"{path.name} holds NaN or infinite values"):
        cache.item(entries[0].clip)


@pytest.mark.parametrize("key", ["../../other", "/etc/passwd", "a\0b", "x" * 5000, "\ud800", 3])
def test_a_list_whose_keys_are_none_of_ours_leads_to_no_file(cache, key):
    index = cache.folder / INDEX
    told = json.loads(index.read_text())
    for edit in (lambda: told["clips"][0].update(clip=key), lambda: told.update(nothing=key)):
        edit()
        index.write_text(json.dumps(told))
        with pytest.raises(MovaError, match="is not what this version writes; prepare the clips again"):
            cache.index()
