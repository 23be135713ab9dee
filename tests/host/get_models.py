"""A server that begins with empty model folders, and the hub that it asks: what MOVA Get Models meets."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from client import Server
from graphs import Graph
from hub import Hub
from wan_files import wan_hub

from mova.download.needed import DTYPE, NEEDED, file_for
from mova.download.run import RELEASES

HERE = Path(__file__).parent
RELEASE = "MOVA-360p"
FILES = {part: file_for(part, RELEASE, DTYPE).as_posix() for part in NEEDED}
ALL, NAMED = "all five files", "what this workflow names"
SLOW = "video_dit/diffusion_pytorch_model-00002-of-00002.safetensors"  # which can be held back


# Where VAEs go is elsewhere, as extra_model_paths.yaml can have it.
EXTRA = """
large_disk:
  base_path: {}
  is_default: true
  vae: vae
"""


def stand_in(release: Path, folder: Path) -> Hub:
    """The hub: a small release under the name of the published one, and the files for Wan."""
    hub = Hub(release, RELEASES[RELEASE])
    hub.beside = [wan_hub(folder)]
    return hub


@contextlib.contextmanager
def empty_server(host: tuple[Path, str], base: Path, hub: Hub, *arguments: str) -> Iterator[Server]:
    """A server with no models at all, whose hub is that one."""
    (base / "large/vae").mkdir(parents=True)
    (base / "extra.yaml").write_text(EXTRA.format(base / "large"), encoding="utf-8")
    server = Server(*host, base, "--extra-model-paths-config", str(base / "extra.yaml"), *arguments)
    server.add_pack("comfyui-mova", HERE.parents[1])
    server.add_pack("probe", HERE / "probe")
    given = {"HF_ENDPOINT": hub.url, "HF_HUB_DOWNLOAD_TIMEOUT": "1", "HF_HOME": str(base / "hub"), "HF_TOKEN": "hf_x"}
    given["MOVA_NO_DOWNLOADS"] = ""
    before = {name: os.environ.get(name) for name in given}
    os.environ |= given
    try:
        server.start()
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    try:
        yield server
    finally:
        server.stop()


def place(server: Server, part: str) -> Path:
    """Where the file of a part belongs on this server."""
    return server.base / ("large" if FILES[part].startswith("vae") else "models") / FILES[part]


def empty(server: Server) -> None:
    """Remove all files; the folders stay, or the host's lists of them fail."""
    shutil.rmtree(server.base / "models/.mova-download", ignore_errors=True)
    for path in files_of(server):
        path.unlink()


def files_of(server: Server) -> list[Path]:
    folders = (server.base / "models", server.base / "large")
    return [path for folder in folders for path in folder.rglob("*") if path.is_file()]


def there(server: Server) -> set[str]:
    """Files in the model folders, each where it belongs."""
    found = {path.relative_to(server.base).as_posix() for path in files_of(server)}
    assert not [name for name in found if name.startswith("models/vae/")], found
    return {name.split("/", 1)[1] for name in found}


def get_models(parts: str = ALL, **others: str) -> Graph:
    graph = Graph()
    graph.add("MOVAGetModels", **{"release": RELEASE, "format": DTYPE, "parts": parts, **others})
    return graph
