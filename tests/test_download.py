"""A download from a hub gives the files that conversion of the whole folder gives, with less on the disk at once."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from downloads import HIGH, SHARDS, bytes_in, contents, during_the_second_shard, files_in, same_files, stopped
from slow import few
from test_command_line import ROOT

from mova import MovaError
from mova.__main__ import main
from mova.checkpoint.header import read_header
from mova.download.run import download, full_name


def test_all_parts_are_what_conversion_gives_and_the_disk_never_holds_both(hub, release, converted, tmp_path, capsys):
    fullest = 0

    def progress(name, done, total):
        nonlocal fullest
        assert 0 <= done <= total
        fullest = max(fullest, bytes_in(tmp_path))

    done = list(download("someone/tiny", tmp_path, progress=progress))
    same_files(tmp_path, converted("bf16"))
    assert len(done) == 5 and not any(file.kept or file.verified for file in done)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    source, result = bytes_in(release), bytes_in(tmp_path)
    shared = bytes_in(release / "audio_dit") + bytes_in(release / "dual_tower_bridge")
    largest = max(hub.size(name) for name in hub.names)
    assert result < fullest < result + largest + shared + 10**6 < source + result
    assert [len(hub.fetched(name)) for name in hub.names if name.endswith(".safetensors")] == [1] * 9


@pytest.mark.parametrize("dtype", ["fp8_e4m3_scaled", "gguf_q8_0", "fp32"])
def test_every_kind_of_format_is_written_the_same(hub, converted, tmp_path, dtype):
    (file,) = download("someone/tiny", tmp_path, dtype, HIGH, verified=True)
    assert file.verified
    same_files(tmp_path, converted(dtype), "high_noise")


@pytest.mark.parametrize(
    ("dtype", "encode"),
    [("nvfp4", "mova.checkpoint.quantize.encode"), ("gguf_q4_0", "mova.checkpoint.gguf_file.encoded")],
)
def test_verifying_encodes_nothing_a_second_time(hub, tmp_path, monkeypatch, dtype, encode):
    """Of a whole release it takes half an hour."""
    module, name = encode.rsplit(".", 1)
    real, calls = getattr(sys.modules[module], name), []
    monkeypatch.setattr(encode, lambda *arguments: calls.append(arguments) or real(*arguments))
    (file,) = download("someone/tiny", tmp_path, dtype, HIGH, verified=True)
    expected = {name for name in hub.names if name.startswith(("video_dit/", "audio_dit/", "dual_tower_bridge/"))}
    tensors = sum(len(read_header(hub.folder / name)[0]) for name in expected if name.endswith(".safetensors"))
    assert file.verified and len(calls) == tensors > 100


@pytest.mark.parametrize(
    "moment",
    [
        lambda name, done, total: name == "fetching video_dit 00001-of-00002" and done > total / 2,
        lambda name, done, total: name == "writing video_dit 00001-of-00002" and done > total / 2,
        lambda name, done, total: name == "fetching video_dit 00002-of-00002",
        lambda name, done, total: name == "writing dual_tower_bridge",
    ],
)
@pytest.mark.parametrize("dtype", ["bf16", "gguf_q8_0"])
def test_stopped_at_any_moment_the_same_call_goes_on(hub, converted, tmp_path, moment, dtype):
    stopped(tmp_path, moment, dtype=dtype, parts=HIGH)
    assert not list(tmp_path.glob("diffusion_models/tiny*"))  # nothing that ComfyUI could take for a model
    list(download("someone/tiny", tmp_path, dtype, HIGH))
    same_files(tmp_path, converted(dtype), "high_noise")
    for name in SHARDS:
        parts = hub.fetched(name)
        assert parts[-1][0] + parts[-1][1] == hub.size(name)
        assert sum(sent for _, sent in parts[:1]) == hub.size(name) or parts[1][0] > 0  # not again from the beginning


def test_a_connection_that_breaks_is_taken_up_where_it_broke(hub, converted, tmp_path):
    size = hub.size(SHARDS[1])
    hub.cut[SHARDS[1]] = size // 3
    list(download("someone/tiny", tmp_path, parts=HIGH))
    same_files(tmp_path, converted("bf16"), "high_noise")
    assert hub.fetched(SHARDS[1]) == [(0, size // 3), (size // 3, size - size // 3)]


def test_files_on_another_host_are_followed_there_without_the_token(hub, converted, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.elsewhere, hub.cut[SHARDS[0]] = True, 10**6
    list(download("someone/tiny", tmp_path, parts=HIGH))
    same_files(tmp_path, converted("bf16"), "high_noise")
    assert hub.tokens == {"127.0.0.1": {"Bearer hf_secret"}, "localhost": {None}}
    assert hub.fetched(SHARDS[0]) == [(0, 10**6), (10**6, hub.size(SHARDS[0]) - 10**6)]


# On Windows there is one way to end another process, which it cannot listen to, under the name of SIGTERM.
SIGNALS = [signal.SIGTERM] if os.name == "nt" else [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]


@pytest.mark.parametrize("how", few(SIGNALS, SIGNALS[-1]))
def test_a_killed_process_leaves_what_the_next_one_goes_on_from(hub, converted, tmp_path, how):
    size = hub.size(SHARDS[1])
    hub.hold[SHARDS[1]] = size // 2
    command = [sys.executable, "-m", "mova", "download", "someone/tiny", str(tmp_path), "--parts", "high_noise"]
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path.parent / "home")}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as child:
        try:
            assert hub.held.wait(60)
            part = tmp_path / ".mova-download" / "tiny" / (SHARDS[1] + ".part")
            for _ in range(100):  # until what was sent has arrived
                if part.exists() and part.stat().st_size >= size // 2 - 2**16:
                    break
                time.sleep(0.05)
            child.send_signal(how)
            told = child.communicate(timeout=60)[1]
        finally:
            child.kill()
    if how != SIGNALS[-1]:
        assert child.returncode == 130
        assert told.endswith("stopped; what has arrived stays; the same command goes on from there.\n")
    arrived = part.stat().st_size
    assert 0 < arrived <= size // 2
    hub.hold.clear()
    hub.released.set()
    assert subprocess.run(command, cwd=ROOT, env=environment, timeout=120).returncode == 0
    same_files(tmp_path, converted("bf16"), "high_noise")
    assert hub.fetched(SHARDS[1])[1] == (arrived, size - arrived)
    assert len(hub.fetched(SHARDS[0])) == 1
    assert not list((tmp_path.parent / "home").rglob("*.safetensors"))  # no copy in the user's cache


def test_a_connection_that_stays_lost_ends_the_run_and_the_next_goes_on(hub, converted, tmp_path, monkeypatch):
    monkeypatch.setattr("mova.download.hub.LONGEST_PAUSE", 0.01)

    def leave(name, done, total):
        if name == "fetching video_dit 00002-of-00002":
            hub.refusal = (503, "")

    hub.cut[SHARDS[1]] = 1000
    with pytest.raises(MovaError, match=r"refuses someone/tiny/video_dit/.*HTTP status 503.*the same command again"):
        list(download("someone/tiny", tmp_path, parts=HIGH, progress=leave))
    hub.refusal = None
    list(download("someone/tiny", tmp_path, parts=HIGH))
    same_files(tmp_path, converted("bf16"), "high_noise")


def test_an_unfinished_download_stays_at_its_commit(hub, converted, tmp_path):
    stopped(tmp_path, during_the_second_shard, parts=HIGH)
    hub.commit = "b" * 40
    hub.commits.add(hub.commit)
    list(download("someone/tiny", tmp_path, parts=HIGH))
    same_files(tmp_path, converted("bf16"), "high_noise")
    other = tmp_path.parent / "other"
    hub.commit, hub.commits = "a" * 40, {"a" * 40}
    stopped(other, during_the_second_shard, parts=HIGH)
    hub.commit, hub.commits = "b" * 40, {"b" * 40}
    with pytest.raises(MovaError, match=r"no longer has the commit that this download began with; delete the folder"):
        list(download("someone/tiny", other, parts=HIGH))
    shutil.rmtree(other / ".mova-download")
    list(download("someone/tiny", other, parts=HIGH))
    same_files(other, converted("bf16"), "high_noise")


def test_other_parts_do_not_disturb_an_unfinished_one(hub, converted, tmp_path):
    stopped(tmp_path, during_the_second_shard, parts=HIGH)
    list(download("someone/tiny", tmp_path, parts=["audio_vae"]))
    list(download("someone/tiny", tmp_path, parts=HIGH))
    assert len(hub.fetched(SHARDS[0])) == 1
    wanted = contents(converted("bf16"))
    assert contents(tmp_path) == {name: wanted[name] for name in wanted if "high_noise" in name or "audio_vae" in name}


def test_a_finished_file_is_kept_and_nothing_of_it_is_fetched(hub, tmp_path, capsys):
    command = ["download", "someone/tiny", str(tmp_path), "--parts", "audio_vae,video_vae", "--verify"]
    assert main(command) == 0
    assert capsys.readouterr().out.count("(verified: it is what its source gives)") == 2
    asked = len(hub.asked)
    assert main(command) == 0
    assert capsys.readouterr().out.count("(kept: it was there already)") == 2
    assert not [name for name, *_ in hub.asked[asked:] if name.endswith(".safetensors")]
    assert len(files_in(tmp_path)) == 2


def test_without_its_tokenizer_the_text_encoder_is_left_out(hub, tmp_path, capsys):
    hub.names.remove("tokenizer/spiece.model")
    assert main(["download", "someone/tiny", str(tmp_path)]) == 0
    assert "text_encoder is left out" in capsys.readouterr().err
    assert len(files_in(tmp_path)) == 4


def test_the_releases_have_short_names():
    assert full_name("MOVA-360p") == "OpenMOSS-Team/MOVA-360p"
    assert full_name("MOVA-720p") == "OpenMOSS-Team/MOVA-720p"
    assert full_name("a.b/C_d-2") == "a.b/C_d-2"
