"""What the hub's own client leaves of an attempt that was killed, and what it means for the folder.

Its names are made by the client itself, and what a kill leaves is checked on a client that is killed.
"""

import os
import subprocess
import sys
import time

import pytest
from hub import SnapshotHandler
from huggingface_hub import _local_folder
from sentences import refusal

from mova.checkpoint.release import open_checkpoint
from mova.checkpoint.unfinished import unfinished

SHARD = "video_dit/diffusion_pytorch_model-00002-of-00002.safetensors"
ETAG = "e" * 64
MINUTE = 60


@pytest.fixture
def attempt(copy):
    """Leaves what a killed client leaves of a file, `age` seconds old."""

    def leave(name, age=0, unique=True):
        paths = _local_folder.get_local_download_paths(copy, name)
        paths.lock_path.touch()
        left = paths.incomplete_path(ETAG)
        if unique:  # as since huggingface_hub 1.12 or so
            left = left.with_name(f"{left.stem}.0123abcd.incomplete")
        left.write_bytes(b"{")
        os.utime(left, (time.time() - age,) * 2)
        return paths

    return leave


@pytest.mark.parametrize("unique", [True, False])
@pytest.mark.parametrize("locked", [True, False])
def test_a_file_that_is_not_there_is_arriving(copy, attempt, unique, locked):
    paths = attempt(SHARD, unique=unique)
    (copy / SHARD).unlink()
    if not locked:
        paths.lock_path.unlink()
    (found,) = unfinished(copy)
    assert (found == SHARD) == locked  # else it is not known which file it is, only that there is one
    assert "not finished (1 files in .cache/huggingface/download" in refusal(open_checkpoint, copy)


def test_many_attempts_at_one_file_are_one_file(copy, attempt):
    attempt(SHARD, unique=True)
    attempt(SHARD, unique=False)
    (copy / SHARD).unlink()
    assert unfinished(copy) == [SHARD]


@pytest.mark.parametrize("name", [SHARD, "model_index.json"])
def test_what_is_left_of_an_attempt_at_a_file_that_came_later_says_nothing(copy, attempt, name):
    attempt(name, age=MINUTE)
    os.utime(copy / name)
    assert unfinished(copy) == []
    (copy / "video_dit/config.json").unlink()
    assert "not finished" not in refusal(open_checkpoint, copy)


def test_a_file_older_than_what_arrives_is_to_be_replaced_unless_its_note_says_it_is_the_same(copy, attempt):
    attempt(SHARD)
    os.utime(copy / SHARD, (time.time() - MINUTE,) * 2)
    assert unfinished(copy) == [SHARD]
    for etag, left in (("d" * 64, [SHARD]), (ETAG, [])):
        _local_folder.write_download_metadata(copy, SHARD, "c" * 40, etag)
        assert unfinished(copy) == left


def test_a_killed_client_is_seen_until_the_next_one_is_done(hub, tmp_path):
    """The real client, killed in the middle of a file, and begun again."""
    hub.silent, hub.hold[SHARD] = set(), 1000
    hub.server.RequestHandlerClass = type("Handler", (SnapshotHandler,), {"hub": hub})
    get = "snapshot_download(sys.argv[1], revision=sys.argv[2], local_dir=sys.argv[3])"
    code = f"import sys; from huggingface_hub import snapshot_download; {get}"
    command = [sys.executable, "-c", code, hub.repository, hub.commit, str(tmp_path / "tiny")]
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as child:
        try:
            assert hub.held.wait(60)
            until = time.monotonic() + 60  # the other files arrive meanwhile
            while unfinished(tmp_path / "tiny") != [SHARD] and time.monotonic() < until:
                time.sleep(0.05)
        finally:
            child.kill()
    assert unfinished(tmp_path / "tiny") == [SHARD]
    assert "start it again" in refusal(open_checkpoint, tmp_path / "tiny")
    hub.hold.clear()
    hub.released.set()
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120)
    left = list((tmp_path / "tiny").rglob("*.incomplete"))
    assert unfinished(tmp_path / "tiny") == [] and len(left) == 1, left
    open_checkpoint(tmp_path / "tiny")
