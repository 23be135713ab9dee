"""Lists, options and disks that preparing clips refuses: each told in a sentence."""

import json
import os
import re

import pytest
import torch
from clips import moving_frames

from mova import MovaError
from mova.__main__ import main
from mova.checkpoint.release import open_checkpoint
from mova.clip.media import write_clip
from mova.clip.runtime import Runtime
from mova.train.cache import Cache
from mova.train.media import Shapes
from mova.train.prepare import PARTS, prepare
from mova.train.samples import Skipped, find_samples

SHAPES = Shapes([(48, 32), (32, 48)], [5, 9])
CPU = Runtime(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def encoders(tiny_checkpoint):
    return open_checkpoint(tiny_checkpoint, PARTS)


def video(path, count=12):
    write_clip(path, moving_frames(count), 24.0, None)


LINES = {
    "not json": ("{", "it is no"),
    "a list": ("[1]", "is not a JSON object"),
    "no video": ('{"caption": "x"}', "has no video"),
    "no caption": ('{"video": "a.mp4"}', "has no caption"),
    "blank caption": ('{"video": "a.mp4", "caption": " "}', "has no caption"),
    "a number": ('{"video": 3, "caption": "x"}', "has no video, or one that is no text"),
    "unknown": ('{"video": "a.mp4", "caption": "x", "fps": 24}', "has the unknown 'fps'"),
    "twice": ('{"video": "a.mp4", "video": "b.mp4", "caption": "x"}', "'video' twice"),
    "missing": ('{"video": "gone.mp4", "caption": "x"}', "which is no file"),
    "missing sound": ('{"video": "a.mp4", "caption": "x", "audio": "gone.wav"}', "which is no file"),
    "before": ('{"video": "a.mp4", "caption": "x", "start": -1}', "for start"),
    "word": ('{"video": "a.mp4", "caption": "x", "start": "1"}', "for start"),
    "true": ('{"video": "a.mp4", "caption": "x", "seconds": true}', "for seconds"),
    "nan": ('{"video": "a.mp4", "caption": "x", "start": NaN}', "NaN is no JSON number"),
    "huge": ('{"video": "a.mp4", "caption": "x", "start": 1e12}', "for start"),
}


def test_each_bad_line_of_a_list_is_named(tmp_path):
    video(tmp_path / "a.mp4")
    lines = [line for line, _ in LINES.values()]
    (tmp_path / "list.jsonl").write_text("\n".join([*lines, "", '{"video": "a.mp4", "caption": "x"}']))
    skipped = Skipped()
    (sample,) = find_samples(tmp_path / "list.jsonl", skipped)
    assert sample.video == tmp_path / "a.mp4" and len(skipped.reasons) == len(lines)
    for number, (kind, (_, told)) in enumerate(LINES.items(), 1):
        if kind != "not json":
            assert told in skipped.reasons[f"list.jsonl, line {number}"], kind


def test_clips_that_end_before_they_begin_are_named(encoders, tmp_path):
    video(tmp_path / "a.mp4")
    (tmp_path / "noise.wav").write_bytes(os.urandom(3000))
    lines = [
        {"video": "a.mp4", "caption": "x", "start": 9},
        {"video": "a.mp4", "caption": "x", "seconds": 0.05},
        {"video": "a.mp4", "caption": "x", "audio": "noise.wav"},
        {"video": "a.mp4", "caption": "x", "audio": "a.mp4"},
        {"video": "a.mp4", "caption": "good"},
    ]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, lines)))
    made = prepare(encoders, tmp_path / "list.jsonl", tmp_path / "cache", SHAPES, CPU)
    assert [entry.caption for entry in made.entries] == ["good"]
    reasons = list(made.skipped.reasons.values())
    assert len(reasons) == 4 and "cannot be read" in reasons[2] and "has nothing from 0 s on" in reasons[3]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["gone"], "is not a folder of clips, nor a .jsonl file"),
        (["empty"], "is empty; put clips there"),
        (["only_text"], "There is no clip that can be trained on"),
        (["nothing.jsonl"], "is empty; give one"),
        (["latin.jsonl"], "is not UTF-8 text"),
        (["clips", "--sizes", "641x352"], "width 641 is not a multiple of 16"),
        (["clips", "--frames", "48"], "48 frames do not make whole latent frames"),
        (["clips", "--fps", "0"], "frame rate 0.0 is out of range"),
        (["clips", "--checkpoint", "gone"], "gone is not a folder"),
        (["clips", "--out", "clips/a.mp4"], "cannot be made"),
    ],
)
def test_what_cannot_be_prepared_is_told_in_a_sentence(tiny_checkpoint, tmp_path, monkeypatch, capsys, given, told):
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "only_text", "clips"):
        (tmp_path / folder).mkdir()
    (tmp_path / "only_text" / "a.txt").write_text("x")
    video(tmp_path / "clips" / "a.mp4")
    (tmp_path / "clips" / "a.txt").write_text("x")
    (tmp_path / "nothing.jsonl").write_text("\n")
    (tmp_path / "latin.jsonl").write_bytes("ä".encode("latin-1"))
    data, *options = given
    command = ["train", "prepare", data, "--checkpoint", str(tiny_checkpoint), "--out", "cache", "--device", "cpu"]
    assert main([*command, *options]) == 1
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error: ") and told in message and re.search(r"\.\)?\.?$", message)
    assert not (tmp_path / "cache" / "clips.json").exists()


def test_a_full_disk_stops_preparing_and_what_is_encoded_stays(encoders, tmp_path, monkeypatch):
    data = tmp_path / "data"
    data.mkdir()
    for name in "ab":
        video(data / f"{name}.mp4", 12 if name == "a" else 20)
        (data / f"{name}.txt").write_text(name)
    write, full = Cache.write, []

    def fails(cache, path, *given):
        if path.parent.name == "clips":
            full.append(path)
            if len(full) == 2:
                raise MovaError(f"{path} could not be written (No space left on device); check.")
        write(cache, path, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Cache, "write", fails)
        with pytest.raises(MovaError, match="No space left"):
            prepare(encoders, data, tmp_path / "cache", SHAPES, CPU)
    assert prepare(encoders, data, tmp_path / "cache", SHAPES, CPU).kept == 1
