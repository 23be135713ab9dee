"""Files that are whole or not there."""

import os
import subprocess
import sys
import weakref
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch
from clips import moving_frames
from safetensors.torch import load_file, save, save_file
from test_command_line import ROOT

from mova import MovaError
from mova.clip.media import check_output, encode
from mova.files import alone, check_name, whole_file


def test_what_failed_has_let_go_of_the_file_before_it_is_removed(tmp_path, monkeypatch):
    """Windows does not remove a file that a tensor is mapped from, and would keep gigabytes nobody asked for."""
    mapped, freed, unlink = [], [], Path.unlink

    def verify(path):
        tensor = load_file(path)["x"]
        mapped.append(weakref.ref(tensor.untyped_storage()))
        raise MovaError("It is not what was written.")

    def watched(path, **options):
        freed.append(mapped[0]() is None)
        unlink(path, **options)

    monkeypatch.setattr(Path, "unlink", watched)
    with pytest.raises(MovaError, match="not what was written"), whole_file(tmp_path / "a.safetensors") as temporary:
        save_file({"x": torch.ones(3)}, temporary)
        verify(temporary)
    assert freed == [True] and not list(tmp_path.iterdir())


@pytest.mark.parametrize("held", [2, 9])
def test_a_new_file_that_a_virus_scanner_holds_is_renamed_when_it_lets_go(tmp_path, monkeypatch, held):
    tries, replace = [], os.replace

    def while_held(source, target):
        tries.append(source)
        if len(tries) <= held:
            raise PermissionError(13, "Access is denied")
        replace(source, target)

    monkeypatch.setattr("mova.files.WINDOWS", True)
    monkeypatch.setattr("os.replace", while_held)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    if held == 2:
        with whole_file(tmp_path / "a.txt") as temporary:
            temporary.write_bytes(b"whole")
        assert (tmp_path / "a.txt").read_bytes() == b"whole" and len(list(tmp_path.iterdir())) == 1
    else:
        with (
            pytest.raises(MovaError, match="no other program has it open"),
            whole_file(tmp_path / "a.txt") as temporary,
        ):
            temporary.write_bytes(b"whole")
        assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="there an open file is lock enough")
def test_on_a_disk_without_locks_nobody_is_kept_off_by_what_a_dead_process_has_left(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(37, "No locks available")

    path = tmp_path / "a.mp4"
    with alone(path), pytest.raises(MovaError, match="Another process is making"), alone(path):
        pass
    assert not list(tmp_path.iterdir())
    with alone(path):
        (mark,) = tmp_path.iterdir()
    mark.touch()
    monkeypatch.setattr("fcntl.flock", no_locks)
    with alone(path):
        pass
    assert list(tmp_path.iterdir()) == [mark], "it may be another's"
    monkeypatch.undo()
    with alone(path), alone(tmp_path / "b.mp4"):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["nul.safetensors", "CON", "com1.tar.mp4", "lpt³.png", "aux .mp4"])
def test_a_device_s_name_is_refused_on_windows_where_what_is_written_would_go_there(tmp_path, monkeypatch, name):
    monkeypatch.setattr("mova.files.WINDOWS", True)
    with pytest.raises(MovaError, match="a device is called so; give another name"):
        check_name(tmp_path / name)
    for other in ("null.mp4", "console", "com10.mp4", "my.nul", "lpt.mp4"):
        check_name(tmp_path / other)


def test_a_colon_is_refused_on_windows_where_a_hidden_stream_would_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr("mova.files.WINDOWS", True)
    path = tmp_path / "at 12:30.mp4"
    with pytest.raises(MovaError, match="cannot be a file's name on Windows; take the colon out"), whole_file(path):
        pass
    with pytest.raises(MovaError, match="take the colon out"):
        check_output(path)
    assert not list(tmp_path.iterdir())


def write_header(path):
    import gguf

    writer = gguf.GGUFWriter(path, "wan")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()


def write_raw(path):
    with av.open(os.path.abspath(path), "w", format="mp4") as container:
        encode(container, moving_frames(3), Fraction(24), None, 48000, 17)


WRITERS = {
    "bytes": lambda path: path.write_bytes(save({"x": torch.ones(3)})),
    "gguf": write_header,
    "text": lambda path: path.write_text("whole", encoding="utf-8"),
    "clip": write_raw,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_that_is_being_written_is_left_alone_and_one_of_a_dead_process_is_removed(tmp_path, kind):
    left = tmp_path / ".a.mova-0123abcd.part"
    others = [tmp_path / name for name in ("b.part", ".b.0123abcd.part", ".b.mova-0123abcd.part.txt", "a.safetensors")]
    for path in (left, *others):
        path.write_bytes(b"something")
    before = set(tmp_path.iterdir())
    with whole_file(tmp_path / "a.safetensors") as temporary:
        assert not left.exists()
        WRITERS[kind](temporary)
        remove_in_another_process(tmp_path)
        with whole_file(tmp_path / "b.txt") as other:
            other.write_bytes(b"whole")
        assert temporary.exists()
    assert (tmp_path / "a.safetensors").stat().st_size > 4
    assert set(tmp_path.iterdir()) == before - {left} | {tmp_path / "b.txt"}


def remove_in_another_process(folder):
    code = "import sys; from pathlib import Path; from mova.files import remove_leftovers as r; r(Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, check=True)


def test_a_killed_process_leaves_nothing_that_the_next_one_does_not_remove(tmp_path):
    code = """
import sys, time
from pathlib import Path
from mova.files import alone, whole_file
with whole_file(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(bytes(1000))
    print(flush=True)
    time.sleep(600)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "a.bin")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline()
        remove_in_another_process(tmp_path)
        (left,) = tmp_path.iterdir()
        process.kill()
    assert left.stat().st_size == 1000
    remove_in_another_process(tmp_path)
    assert not list(tmp_path.iterdir())


def test_where_files_cannot_be_locked_they_are_written_and_nothing_is_removed(tmp_path, monkeypatch):
    """As on some network drives."""
    monkeypatch.setattr("mova.files.lock", lambda held, wait=False: False)
    left = tmp_path / ".a.mova-0123abcd.part"
    left.write_bytes(b"perhaps another machine's")
    with whole_file(tmp_path / "a.txt") as temporary:
        temporary.write_bytes(b"whole")
    assert (tmp_path / "a.txt").read_bytes() == b"whole" and left.exists()


def test_a_leftover_s_name_that_leads_elsewhere_is_not_followed(tmp_path):
    outside = tmp_path / "outside.txt"
    outside.write_text("kept")
    (tmp_path / "folder").mkdir()
    link = tmp_path / "folder" / ".a.mova-0123abcd.part"
    try:
        link.symlink_to(outside)
    except OSError:
        pytest.skip("no right to make links here")
    with whole_file(tmp_path / "folder" / "a.txt") as temporary:
        temporary.write_bytes(b"whole")
    assert outside.read_text() == "kept"
