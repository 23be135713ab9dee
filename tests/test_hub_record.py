"""Two releases in one folder: what the hub's own client leaves beside its files tells them apart."""

import os
import re
import secrets
import shutil

import pytest
from hub import Hub, SnapshotHandler
from huggingface_hub import _local_folder, snapshot_download
from sentences import refusal

from mova.__main__ import main
from mova.checkpoint.hub_record import record_of
from mova.checkpoint.release import open_checkpoint
from mova.checkpoint.weights import open_weights
from mova.tools.tiny import write_tiny

ONE, TWO = (f"video_dit/diffusion_pytorch_model-0000{n}-of-00002.safetensors" for n in (1, 2))
AUDIO = "audio_dit/diffusion_pytorch_model.safetensors"
COMMITS = {"MOVA-360p": "a" * 40, "MOVA-720p": "b" * 40}


@pytest.fixture(scope="module")
def hubs(tiny_checkpoint, tmp_path_factory):
    """Two releases of equal names, shapes and sizes, each on a hub."""
    folder, started = tmp_path_factory.mktemp("releases"), {}
    shutil.copytree(tiny_checkpoint, folder / "MOVA-360p")
    write_tiny(folder / "MOVA-720p", seed=1)
    for name, commit in COMMITS.items():
        hub = started[name] = Hub(folder / name)
        hub.commit, hub.commits, hub.silent = commit, {commit}, set()
        hub.server.RequestHandlerClass = type("Handler", (SnapshotHandler,), {"hub": hub})
    with started["MOVA-360p"].running(), started["MOVA-720p"].running():
        yield started


@pytest.fixture(scope="module")
def fetched(hubs, tmp_path_factory):
    """The 360p release as the client downloads it into a folder."""
    return download(hubs["MOVA-360p"], tmp_path_factory.mktemp("fetched") / "MOVA-360p")


@pytest.fixture
def folder(fetched, tmp_path):
    """A copy with its times, to be changed. Each at a path of its own: the client remembers which lists it has kept."""
    return shutil.copytree(fetched, tmp_path / secrets.token_hex(4) / "MOVA-360p")


def download(hub, folder, *only, commit=None):
    """As `hf download` with --include does; of only some files, it leaves what a stop after them would leave."""
    snapshot_download(
        hub.repository, local_dir=folder, endpoint=hub.url, revision=commit or hub.commit,
        allow_patterns=list(only) or None, cache_dir=folder.parent / "cache",
    )  # fmt: skip
    return folder


def forget_lists(folder):
    """As a client does that keeps no lists of a commit's files."""
    shutil.rmtree(folder / ".cache/huggingface/trees")


def note_of(folder, name):
    return folder / ".cache/huggingface/download" / f"{name}.metadata"


def test_the_note_is_read_as_the_client_reads_it(folder):
    weights = sorted(folder.rglob("*.safetensors"))
    assert len(weights) == 9
    for file in weights:
        record, name = record_of(file), file.relative_to(folder).as_posix()
        wanted = _local_folder.read_download_metadata(folder, name)
        assert (record.root, record.name) == (folder, name)
        assert (record.commit, record.etag, record.time) == (wanted.commit_hash, wanted.etag, wanted.timestamp)


def test_a_whole_folder_works_and_its_commit_is_told(folder, tmp_path, capsys):
    small = ["--width", "16", "--height", "16", "--frames", "1", "--steps", "1", "--prompt", "a rocket"]
    assert main(["info", str(folder)]) == 0
    assert capsys.readouterr().out.count(", commit aaaaaaa\n") == 7
    assert main(["convert", str(folder), str(tmp_path), "--parts", "high_noise"]) == 0
    assert main(["generate", "--checkpoint", str(folder), "--out", str(tmp_path / "clip.mp4"), *small]) == 0


def test_a_folder_without_notes_works(folder, capsys):
    shutil.rmtree(folder / ".cache")
    assert main(["info", str(folder)]) == 0
    assert "commit" not in capsys.readouterr().out


@pytest.mark.parametrize("lists", [True, False])
@pytest.mark.parametrize("changed", [ONE, TWO])
def test_a_shard_of_another_release_is_refused_wherever_the_folder_is_opened(
    hubs, folder, tmp_path, capsys, changed, lists
):
    download(hubs["MOVA-720p"], folder, changed)
    if not lists:
        forget_lists(folder)
    message = refusal(open_checkpoint, folder)
    commits = {ONE: "aaaaaaa", TWO: "aaaaaaa", changed: "bbbbbbb"}
    mixed = "releases" if lists else "downloads"  # without the lists, it is not proven
    told = f"{folder} mixes two {mixed}: {ONE} is of commit {commits[ONE]}, {TWO} of {commits[TWO]}; "
    assert message.startswith(told) and "files that are right are kept" in message
    assert refusal(open_weights, folder / "video_dit") == message
    clip = ["--prompt", "a rocket", "--out", str(tmp_path / "clip.mp4")]
    for command in (
        ["generate", "--checkpoint", str(folder), *clip],
        ["convert", str(folder), str(tmp_path / "models")],
        ["info", str(folder)],
        ["info", str(folder / "video_dit")],
    ):
        assert main(command) == 1
        out, err = capsys.readouterr()
        assert message in err and not out
    assert not (tmp_path / "clip.mp4").exists() and not (tmp_path / "models").exists()


def test_a_download_that_the_client_calls_finished_but_that_kept_an_old_shard_is_refused(hubs, folder):
    """Where the hub does not answer for a file, the client keeps the one that is there, and only warns."""
    hub = hubs["MOVA-720p"]
    hub.silent.add(TWO)
    try:
        download(hub, folder)
    finally:
        hub.silent.clear()
    assert f"{ONE} is of commit bbbbbbb, {TWO} of aaaaaaa" in refusal(open_checkpoint, folder)
    open_checkpoint(download(hub, folder))


@pytest.mark.parametrize("release", COMMITS)
def test_the_remedies_help(hubs, folder, release):
    download(hubs["MOVA-720p"], folder, TWO)
    refusal(open_checkpoint, folder)
    hub = hubs[release]
    hub.asked.clear()
    open_checkpoint(download(hub, folder))
    assert bool(hub.fetched(ONE)) == (release == "MOVA-720p")  # what was right is kept
    assert record_of(folder / ONE).commit == record_of(folder / TWO).commit == COMMITS[release]


def test_deleting_the_notes_is_a_way_out(hubs, folder):
    download(hubs["MOVA-720p"], folder, TWO)
    refusal(open_checkpoint, folder)
    shutil.rmtree(folder / ".cache/huggingface")
    open_checkpoint(folder)


@pytest.mark.parametrize("changed", [ONE, AUDIO])
def test_a_later_commit_of_the_same_files_is_no_other_release(hubs, folder, changed):
    """A page of the repository was edited, and one file asked for again: the client notes the new commit on it."""
    hub, later = hubs["MOVA-360p"], "c" * 40
    hub.commits.add(later)
    hub.commit = later
    try:
        download(hub, folder, changed)
    finally:
        hub.commit = COMMITS["MOVA-360p"]
    assert record_of(folder / changed).commit == later != record_of(folder / TWO).commit
    open_checkpoint(folder)
    forget_lists(folder)  # now it could be another release; a part is made of files that are fetched together
    if changed == ONE:
        assert f"{ONE} is of commit ccccccc, {TWO} of aaaaaaa" in refusal(open_checkpoint, folder)
    else:
        open_checkpoint(folder)


@pytest.mark.parametrize("part", ["audio_dit", "dual_tower_bridge", "video_dit", "video_dit_2"])
def test_parts_trained_together_must_not_be_of_two_releases(hubs, folder, part, capsys):
    download(hubs["MOVA-720p"], folder, f"{part}/*")
    message = refusal(open_checkpoint, folder)
    assert "mixes two releases" in message and f"{part}/" in message and "bbbbbbb" in message
    forget_lists(folder)
    open_checkpoint(folder)  # nothing proves it: parts may have been fetched one by one while the repository changed
    assert main(["info", str(folder)]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if re.match(rf"{part}\b", line))
    assert line.endswith(", commit bbbbbbb")


@pytest.mark.parametrize("part", ["audio_vae", "video_vae", "text_encoder"])
def test_other_parts_may_be_of_another_release(hubs, folder, part):
    download(hubs["MOVA-720p"], folder, f"{part}/*")
    assert record_of(next((folder / part).glob("*.safetensors"))).commit == COMMITS["MOVA-720p"]
    open_checkpoint(folder)


def test_settings_of_another_commit_are_not_asked(hubs, folder):
    """They are small, come first, and what they say is checked against the weights."""
    download(hubs["MOVA-720p"], folder, "*.json")
    assert record_of(folder / "video_dit/config.json").commit == COMMITS["MOVA-720p"]
    open_checkpoint(folder)


@pytest.mark.parametrize(
    "content",
    [
        *[b"", b"\0" * 200, b"b" * 40, b"main\n0\n9e99\n", b"b" * 40 + b"\n0\nsoon\n", b"b" * 40 + b"\n0\nnan\n"],
        *["ü".encode() * 99, b"../" * 13 + b"b\n0\n9e99\n", b"b" * 10**6],
    ],
    ids=range(9),
)
def test_a_damaged_note_is_ignored_and_left_as_it_is(folder, content):
    note = note_of(folder, ONE)
    note.write_bytes(content)
    open_checkpoint(folder)
    assert record_of(folder / ONE) is None and note.read_bytes() == content
    note.unlink()
    note.mkdir()
    open_checkpoint(folder)


@pytest.mark.parametrize("seconds", [0.5, 60])
def test_a_file_changed_after_its_note_is_not_judged_by_it(hubs, folder, seconds):
    download(hubs["MOVA-720p"], folder, TWO)
    time = record_of(folder / TWO).time
    os.utime(folder / TWO, (time, time + seconds))
    if seconds < 1:
        refusal(open_checkpoint, folder)
    else:
        open_checkpoint(folder)


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"files": []}', b'{"files": {"%s": 3}}' % ONE.encode(), b"\xff"])
def test_a_damaged_list_proves_nothing(hubs, folder, content):
    download(hubs["MOVA-720p"], folder, AUDIO)
    (folder / ".cache/huggingface/trees" / f"{'b' * 40}.json").write_bytes(content)
    open_checkpoint(folder)
    download(hubs["MOVA-720p"], folder, TWO)
    refusal(open_checkpoint, folder)


def test_the_folder_may_be_named_from_within(hubs, folder, monkeypatch):
    download(hubs["MOVA-720p"], folder, TWO)
    for inside, path in ((folder, "."), (folder, "video_dit/../"), (folder.parent, folder.name)):
        monkeypatch.chdir(inside)
        assert f"{folder} mixes" in refusal(open_checkpoint, path)
    monkeypatch.chdir(folder / "video_dit")
    assert f"{folder} mixes" in refusal(open_weights, folder.__class__("."))
