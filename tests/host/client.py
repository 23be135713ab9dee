"""A ComfyUI server of our own, and what a user's browser does with it: HTTP and the websocket."""

import base64
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
from warm import Forked, forked, spawned

HERE = Path(__file__).parent
BINARY_TEXT = 3  # what a binary message holds; the others are pictures
START_SECONDS = 180
OWN_COMFYUI = HERE.parents[1] / ".comfyui/ComfyUI"  # where `make comfyui` puts it
RUN_SECONDS = 300  # of one answer: torch compiles for a minute and a half where nothing else is at work
# Of ComfyUI and of the pack. Not torchaudio, which ComfyUI needs up to v0.36 only.
NEEDED = [
    "torch",
    "torchvision",
    "torchsde",
    "einops",
    "transformers",
    "safetensors",
    "aiohttp",
    "scipy",
    "psutil",
    "alembic",
    "av",
    "ftfy",
]


@dataclass
class Result:
    """What came back for one prompt."""

    outputs: dict[str, Any] = field(default_factory=dict)  # of output nodes, as in /history
    executed: list[str] = field(default_factory=list)  # nodes that ran, in order
    cached: list[str] = field(default_factory=list)
    progress: list[tuple[str, int, int]] = field(default_factory=list)  # (node, value, max)
    previews: list[bytes] = field(default_factory=list)  # pictures (JPEG), as a canvas shows them on the node
    notices: list[tuple[str, str]] = field(default_factory=list)  # (node, text that is shown on it)
    others: list[tuple[str, Any]] = field(default_factory=list)  # (kind, data): messages of other packs to their page
    error: str | None = None  # what the user is shown
    traceback: list[str] = field(default_factory=list)
    node: str | None = None  # in which it went wrong


class WebSocket:
    """As much of a websocket client as it takes to listen to ComfyUI (RFC 6455)."""

    def __init__(self, port: int, path: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=RUN_SECONDS)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self.stream = self.socket.makefile("rb")
        if b" 101 " not in self.stream.readline():
            raise RuntimeError("ComfyUI refused the websocket")
        while self.stream.readline().strip():
            pass

    def read(self) -> str | bytes:
        """The next message: text, or bytes of a preview."""
        message, text = b"", True
        while True:
            first, length = self.stream.read(2)
            if length == 126:
                (length,) = struct.unpack(">H", self.stream.read(2))
            elif length == 127:
                (length,) = struct.unpack(">Q", self.stream.read(8))
            data, opcode = self.stream.read(length), first & 15
            if opcode == 8:
                raise RuntimeError("ComfyUI closed the websocket")
            if opcode in (0, 1, 2):
                message, text = message + data, opcode == 1 if opcode else text
                if first & 128:
                    return message.decode() if text else message

    def __enter__(self) -> "WebSocket":
        return self

    def __exit__(self, *_: Any) -> None:
        self.stream.close()
        self.socket.close()


class Server:
    """A ComfyUI process with a base directory of its own."""

    def __init__(self, comfyui: Path, python: str, base: Path, *arguments: str) -> None:
        self.base = base
        for folder in ("custom_nodes", "input", "output", "user", "models/diffusion_models", "models/vae"):
            (base / folder).mkdir(parents=True, exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.command = [python, str(HERE / "launch.py"), str(comfyui / "main.py"), "--cpu", "--port", str(self.port)]
        self.command += ["--base-directory", str(base), "--disable-auto-launch", "--disable-api-nodes"]
        self.command += ["--database-url", "sqlite:///:memory:", "--preview-method", "latent2rgb", *arguments]
        self.log = base / "server.log"
        self.process: subprocess.Popen | Forked | None = None

    def add_pack(self, name: str, folder: Path) -> None:
        place = self.base / "custom_nodes" / name
        try:
            place.symlink_to(folder, target_is_directory=True)
        except OSError:  # on Windows, only developers and administrators may make links
            shutil.copytree(folder, place, ignore=shutil.ignore_patterns(".*", "__pycache__", "demo"))

    def start(self, warm: bool = True) -> "Server":
        """warm: as a fork of a process that has imported the libraries; else as users start it."""
        # The pack's tests must not see the test run's own import paths.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment.setdefault("MOVA_NO_DOWNLOADS", "1")  # no test is to bring 62 GB by chance
        environment.setdefault("OMP_NUM_THREADS", "1")  # for models this small, threads are only in each other's way
        self.process = (forked if warm else spawned)(self.command, self.log, self.base, environment)
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                self.get("/system_stats")
                return self
            except OSError:
                time.sleep(0.2)
        text = self.logged()
        self.stop()
        raise RuntimeError(f"ComfyUI did not start:\n{text[-4000:]}")

    def logged(self) -> str:
        """What ComfyUI has said so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            if os.name == "nt":
                self.process.kill()
            else:
                os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return answer.read()

    def get_json(self, path: str) -> Any:
        return json.loads(self.get(path))

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        data = json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def view(self, entry: dict[str, str]) -> bytes:
        """A file that an output node has written."""
        return self.get("/view?" + urllib.parse.urlencode(entry))

    def submit(
        self, workflow: dict[str, Any], client: str = "", extra: dict[str, Any] | None = None
    ) -> tuple[str | None, str | None]:
        """Post a workflow in API format: the prompt's id, or what the user is told if it is refused at once."""
        _, body = self.post("/prompt", {"prompt": workflow, "client_id": client, "extra_data": extra or {}})
        if "prompt_id" in body:
            return body["prompt_id"], None
        faults = [e for node in (body.get("node_errors") or {}).values() for e in node["errors"]] or [body["error"]]
        return None, "; ".join(f"{e['message']}: {e['details']}" for e in faults)

    def run(
        self, workflow: dict[str, Any], on_event: Callable[[str, dict], None] | None = None, **extra: Any
    ) -> Result:
        """Post a workflow, and follow it on the websocket to its end. `extra`: settings such as preview_method."""
        client, result = uuid.uuid4().hex, Result()
        with WebSocket(self.port, f"/ws?clientId={client}") as events:
            prompt, result.error = self.submit(workflow, client, extra)
            while prompt is not None:
                message = events.read()
                if isinstance(message, bytes):
                    what, length = struct.unpack(">II", message[:8])
                    if what == BINARY_TEXT:
                        node, text = message[8 : 8 + length].decode(), message[8 + length :].decode()
                        result.notices.append((node, text))
                    else:
                        result.previews.append(message[8:])
                    continue
                event = json.loads(message)
                kind, data = event["type"], event["data"]
                if data.get("prompt_id") != prompt:
                    result.others.append((kind, data))
                    continue
                if kind == "executing" and data["node"]:
                    result.executed.append(data["node"])
                elif kind == "execution_cached":
                    result.cached = data["nodes"]
                elif kind == "progress":
                    result.progress.append((data["node"], data["value"], data["max"]))
                elif kind == "execution_error":
                    result.error, result.traceback = data["exception_message"].strip(), data["traceback"]
                    result.node = data["node_id"]
                    break
                elif kind == "execution_interrupted":
                    result.error = "interrupted"
                    break
                elif kind == "execution_success":
                    break
                if on_event:
                    on_event(kind, data)
        if prompt is not None and result.error is None:
            end = time.monotonic() + 10  # the history is written just after the last message
            while prompt not in (history := self.get_json(f"/history/{prompt}")) and time.monotonic() < end:
                time.sleep(0.02)
            result.outputs = history[prompt]["outputs"]
        return result

    def tensors(self, result: Result, node: str) -> dict[str, Any]:
        """What a ProbeSave node has written."""
        (entry,) = result.outputs[node]["tensors"]
        return safetensors.torch.load(self.view(entry))


def ran(server: Server, graph: Any) -> Result:
    """Run a workflow (Graph) to its end, which it must come to without an error."""
    result = server.run(graph.nodes)
    assert result.error is None, result.error + "".join(result.traceback)
    return result


def made(server: Server, graph: Any, *nodes: str) -> list[dict[str, Any]]:
    """Run a workflow, and return the tensors of what these nodes make."""
    saved = [graph.save([node, 0], f"{node}.safetensors") for node in nodes]
    result = ran(server, graph)
    return [server.tensors(result, node) for node in saved]


def refusal(server: Server, graph: Any) -> str:
    """What the user is told when a workflow (Graph) is refused: one line, and the log has no error within an error."""
    before = len(server.logged())
    error = server.run(graph.nodes).error
    assert error and "\n" not in error and "Traceback" not in error, error
    log = server.logged()[before:]
    assert "During handling of the above exception" not in log, log
    return error


def can_run_comfyui(python: str) -> bool:
    """Whether this Python has ComfyUI's requirements and the pack's (they are looked for, not imported)."""
    code = f"import importlib.util as u, sys; sys.exit(not all(u.find_spec(n) for n in {NEEDED!r}))"
    return subprocess.run([python, "-c", code], capture_output=True).returncode == 0


def find_comfyui() -> tuple[Path, str] | str:
    """The ComfyUI to test on and the Python to run it with, or why there is none: the first that can run."""
    given = os.environ.get("COMFYUI_PATH")
    places = [Path(given)] if given else [Path("~/comfy/ComfyUI").expanduser(), OWN_COMFYUI]
    there = [place for place in places if (place / "main.py").is_file()]
    if not there:
        return f"no ComfyUI in {' or '.join(map(str, places))}: run make comfyui, or set COMFYUI_PATH to its folder"
    # ComfyUI's own environment, where people make it, else the Python that runs this.
    inside = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")
    tried: list[str] = []
    for place in there:
        own = [Path(place, folder, *inside) for folder in (".venv", "venv")]
        chosen = os.environ.get("COMFYUI_PYTHON")
        for python in [chosen] if chosen else [*map(str, filter(Path.is_file, own)), sys.executable]:
            if can_run_comfyui(python):
                return place, python
            tried.append(python)
    lacking = " and ".join(dict.fromkeys(tried))
    return f"{lacking} lack requirements of ComfyUI or of this pack: set COMFYUI_PYTHON to the Python that runs it"
