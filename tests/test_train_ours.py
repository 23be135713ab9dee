"""Training replaces no file that it has not written, and none that is finished without being told to."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from train_runs import TRAIN

from mova import MovaError
from mova.__main__ import main
from mova.clip.runtime import Runtime
from mova.train import prepare
from mova.train.cache import Cache, Entry
from mova.train.media import Shapes
from mova.train.ours import check_not_finished, check_out, save_picture
from mova.train.output import write_log, write_lora, write_split
from mova.train.samples import Sample

PAIR = {f"video_dit.blocks.0.self_attn.q.lora_{part}.weight": torch.zeros(2, 2) for part in "AB"}
SAID = {"steps": 4, "steps_done": 2}


def picture(path):
    Image.new("RGB", (8, 8)).save(path)


FOREIGN = {
    "lora.safetensors": lambda path: save_file(PAIR, path),
    "lora.csv": lambda path: path.write_text("name,price\n"),
    "lora.png": picture,
    "lora_high_noise.safetensors": lambda path: write_lora(path, PAIR, 1.0, SAID),  # of a run of that name
    "lora_low_noise.safetensors": lambda path: path.write_bytes(b"notes"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_somebody_else_s_file_where_a_run_writes_is_refused_before_anything_loads(place, tmp_path, capsys, name):
    FOREIGN[name](tmp_path / name)
    before = (tmp_path / name).read_bytes()
    out, cache = tmp_path / "lora.safetensors", str(place / "cache")
    command = ["train", cache, "--out", str(out), *TRAIN, "--checkpoint", str(tmp_path / "not needed"), "--split"]
    assert main(command) == 1
    told = capsys.readouterr().err.strip()
    assert told.startswith(f"error: {tmp_path / name} is there already, and is not of a training run")
    assert "move it away, or give another --out" in told and (tmp_path / name).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_a_run_has_written_itself_is_replaced_unless_it_is_finished(tmp_path):
    out = tmp_path / "lora.safetensors"
    write_lora(out, PAIR, 1.0, SAID)
    write_log(out.with_suffix(".csv"), [])
    save_picture(out.with_suffix(".png"), Image.new("RGB", (8, 8)))
    assert len(write_split(out, PAIR, 1.0, SAID)) == 1
    check_out(out, split=True)
    check_not_finished(out)
    write_lora(out, PAIR, 1.0, {**SAID, "steps_done": 4})
    check_out(out)
    with pytest.raises(MovaError, match="was trained to its end; give another --out, or move it away"):
        check_not_finished(out)


ENTRY = Entry("a.mp4", "thing", "1" * 32, "2" * 32)


def encoding(monkeypatch, *names):
    """Have prepare make clips of these names, of nothing."""

    def encode_all(checkpoint, samples, cache, shapes, runtime, prepared, done):
        prepared.entries += [replace(ENTRY, name=name) for name in names]
        cache.write_index(prepared.entries, "0" * 32, Path("release"), {})

    monkeypatch.setattr(prepare, "encode_all", encode_all)
    monkeypatch.setattr(prepare, "find_samples", lambda data, skipped: [Sample("a.mp4", data, "thing")])


def prepared(folder, told=None):
    runtime = Runtime(torch.device("cpu"), torch.float32, notice=(told if told is not None else []).append)
    return prepare.prepare(None, Path("data"), folder, Shapes([(48, 32)], [5], 24.0), runtime)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("clips.json", lambda path: path.write_text('{"my": "list"}')),
        ("clips.json", lambda path: path.write_text("notes")),
        ("contact_sheet.png", picture),
    ],
)
def test_prepare_leaves_somebody_else_s_files_alone(tmp_path, monkeypatch, name, write):
    encoding(monkeypatch, "a.mp4")
    write(tmp_path / name)
    before = (tmp_path / name).read_bytes()
    with pytest.raises(MovaError, match=rf"{name} is there already, and is not of a training run"):
        prepared(tmp_path)
    assert (tmp_path / name).read_bytes() == before and [path.name for path in tmp_path.iterdir()] == [name]


def test_prepare_does_not_take_the_place_of_clips_that_were_gathered_in_comfyui(tmp_path, monkeypatch):
    encoding(monkeypatch, "a.mp4")
    Cache(tmp_path).write_index([ENTRY], "0" * 32, None, {})
    before = (tmp_path / "clips.json").read_text()
    with pytest.raises(MovaError, match="holds clips that were gathered in ComfyUI; give another --out"):
        prepared(tmp_path)
    assert (tmp_path / "clips.json").read_text() == before


def test_clips_that_prepare_no_longer_finds_are_told(tmp_path, monkeypatch):
    told = []
    encoding(monkeypatch, "a.mp4", "b.mp4")
    prepared(tmp_path, told)
    assert not told
    encoding(monkeypatch, "b.mp4", "c.mp4")
    prepared(tmp_path, told)
    assert told == [f"{tmp_path} had 1 more ('a.mp4'), not in data: they are no longer trained on."]


def test_what_an_earlier_version_has_prepared_is_prepared_again(tmp_path, monkeypatch):
    encoding(monkeypatch, "a.mp4")
    (tmp_path / "clips.json").write_text(json.dumps({"format": "mova-training-cache", "version": 0}))
    assert prepared(tmp_path).entries == [ENTRY]
