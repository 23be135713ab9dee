"""Some tens of kills with -9 at random moments; `make kills` has 300."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from slow import slow

KILL = Path(__file__).parent / "kill.py"


@slow("as make kills, with a few")
@pytest.mark.skipif(sys.platform != "linux", reason="kill.py forks a process that has threads")
def test_whatever_moment_a_process_is_killed_at_the_next_one_leaves_what_there_would_be_without(tmp_path):
    command = [sys.executable, KILL, "--times", "9", "--only", "convert", "download", "save"]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {line.split(":")[0]: list(map(int, re.findall(r" (\d+)", line))) for line in done.stdout.splitlines()}
    assert found.keys() == {"convert", "download", "save"}
    for kills, _, not_whole, left_after, others in found.values():
        assert kills == 3 and not_whole == left_after == others == 0
    assert sum(left for _, left, *_ in found.values()) > 0, "no kill fell into the writing"
