"""Files that are whole or not there."""

import os
import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mova import MovaError
from mova.clip.media import check_output
from mova.files import whole_file


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


def test_a_colon_is_refused_on_windows_where_a_hidden_stream_would_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr("mova.files.WINDOWS", True)
    path = tmp_path / "at 12:30.mp4"
    with pytest.raises(MovaError, match="cannot be a file's name on Windows; take the colon out"), whole_file(path):
        pass
    with pytest.raises(MovaError, match="take the colon out"):
        check_output(path)
    assert not list(tmp_path.iterdir())
