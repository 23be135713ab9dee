"""What the tests of downloads share: the folders' contents, and a run that is stopped at a moment."""

import pytest

from mova.download.run import download

SHARDS = [f"video_dit/diffusion_pytorch_model-0000{n}-of-00002.safetensors" for n in (1, 2)]
HIGH = ["high_noise"]


def files_in(folder):
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


def contents(folder):
    return {name: path.read_bytes() for name, path in files_in(folder).items()}


def bytes_in(folder):
    return sum(path.stat().st_size for path in files_in(folder).values())


def same_files(folder, wanted, part=""):
    found, wanted = contents(folder), {name: data for name, data in contents(wanted).items() if part in name}
    assert found.keys() == wanted.keys()
    assert [name for name in found if found[name] != wanted[name]] == []


def stop_at(moment):
    """A progress function that stops the run, as Ctrl-C does, at a moment."""

    def progress(name, done, total):
        if moment(name, done, total):
            raise KeyboardInterrupt

    return progress


def stopped(folder, moment, **options):
    with pytest.raises(KeyboardInterrupt):
        list(download("someone/tiny", folder, progress=stop_at(moment), **options))


def during_the_second_shard(name, done, total):
    return name == "fetching video_dit 00002-of-00002"
