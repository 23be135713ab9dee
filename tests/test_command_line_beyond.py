"""Mistakes of the command line that have no sense at all: numbers and names beyond measure, a full memory, Ctrl-C."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mova.__main__ import main

ROOT = Path(__file__).parents[1]


def arguments(checkpoint, out, *more):
    given = ["--checkpoint", str(checkpoint), "--prompt", "rain", "--out", str(out)]
    return ["generate", *given, "--width", "48", "--height", "32", "--frames", "5", "--steps", "1", *more]


NINES = "9" * 400
LONG = "a" * 300


@pytest.mark.parametrize("option", ["frames", "width", "height", "steps", "seed"])
def test_a_whole_number_of_hundreds_of_digits_is_a_mistake_of_the_command(tmp_path, capsys, option):
    with pytest.raises(SystemExit) as ended:
        main(arguments(tmp_path, tmp_path / "x.mp4", f"--{option}", NINES))
    assert ended.value.code == 2 and f"argument --{option}: 9999999999... has 400 letters" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["info", LONG], "cannot be used (File name too long)"),
        (["convert", LONG, "out"], "cannot be used (File name too long)"),
        (["convert", "{checkpoint}", LONG], "cannot be used (File name too long)"),
        (["download", "MOVA-360p", LONG], "cannot be used (File name too long)"),
        (["generate", "--checkpoint", "{checkpoint}", "--prompt", "x", "--out", "x.mp4", "--lora", LONG], "File name"),
        (["generate", "--checkpoint", "{checkpoint}", "--prompt", "x", "--out", "x.mp4", "--fps", NINES], "rate inf"),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="Windows has other words for it")
def test_names_too_long_and_numbers_too_large_are_told_in_one_line(
    tiny_checkpoint, tmp_path, capsys, monkeypatch, words, named
):
    monkeypatch.chdir(tmp_path)
    assert main([word.format(checkpoint=tiny_checkpoint) for word in words]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert named in line


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/b", r"a\b", "C:evil", ".", "..", ".hidden", LONG, "a\nb"])
def test_a_name_for_converted_files_cannot_lead_elsewhere(tiny_checkpoint, tmp_path, capsys, name):
    out = tmp_path / "out"
    assert main(["convert", str(tiny_checkpoint), str(out), "--name", name]) == 1
    assert "cannot begin a file's name" in capsys.readouterr().err and not out.exists()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("unable to mmap: Cannot allocate memory (12)")])
def test_memory_that_runs_out_is_not_taken_for_a_damaged_file(tiny_checkpoint, tmp_path, capsys, monkeypatch, error):
    def full(*_, **__):
        raise error

    def no_room(_):
        raise MemoryError

    monkeypatch.setattr("mova.checkpoint.weights.safe_open", full)
    # What cannot be mapped is read in parts, if memory holds one.
    monkeypatch.setattr("mova.checkpoint.unmapped.bytearray", no_room, raising=False)
    assert main(arguments(tiny_checkpoint, tmp_path / "x.mp4")) == 1
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search("memory (of cpu )?is full", told, re.IGNORECASE) and "download it again" not in told


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_while_an_object_is_cleared_away_still_stops_the_command(tmp_path):
    """Python drops what is raised inside __del__: without more the command would go on to its end."""
    code = f"""
import os, signal, sys, time
sys.path.insert(0, {str(ROOT)!r})
from mova import __main__ as command
from mova.commands import small

class Cleared:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)

def run(options):
    Cleared()
    for _ in range(100):
        time.sleep(0.05)
    print("went on")

small.run_info = run
sys.exit(command.main(["info", "x"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 130 and "stopped; " in done.stderr and "went on" not in done.stdout
