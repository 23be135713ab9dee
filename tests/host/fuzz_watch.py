"""A ComfyUI that may be killed: what it answers to a workflow, and what that took of time, memory and files."""

import json
import os
import resource
import signal
import threading
import time
import urllib.error
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from client import Server, WebSocket

GIB = 2**30
LIMIT = 6 * GIB  # of address space beyond what the server has when it has started
CLIENT = "fuzz"
PATIENCE = 20.0  # seconds until the interrupt button is pressed
WATCHED = 0.03  # seconds between two looks


@dataclass
class Answer:
    """What came back for one workflow."""

    refused: dict[str, Any] | None = None  # the body of /prompt, when a part was refused before anything ran
    status: int = 200
    error: dict[str, Any] | None = None  # of the node that failed, as /history has it
    outputs: dict[str, Any] | None = None
    died: str = ""  # how the process ended
    hung: str = ""  # the node that did not end
    stopped: bool = False  # it took long, and was interrupted
    last: str = ""  # the node that ran last
    running: str = ""  # the node at the largest memory
    seconds: float = 0.0
    grew: int = 0  # bytes, at the most
    strays: list[str] = field(default_factory=list)  # new or changed files outside the output folder
    log: str = ""


def status_bytes(pid: int, name: str) -> int:
    """VmRSS, VmHWM or VmSize of a process."""
    text = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(text.split(f"{name}:")[1].split()[0]) if f"{name}:" in text else 0


def listed(base: Path) -> dict[str, tuple[int, int]]:
    """All files around the server's folders that it has no business with."""
    found = {}
    for folder, names, files in os.walk(base.parent):
        if Path(folder) == base:
            names[:] = [name for name in names if name not in ("output", "temp", "custom_nodes", "user")]
        for name in files:
            path = Path(folder, name)
            if path != base / "server.log":
                state = path.lstat()
                found[str(path)] = (state.st_size, state.st_mtime_ns)
    return found


class Watched:
    """Starts a server, and another one when it has died or hung."""

    def __init__(self, make: Any, seconds: float) -> None:
        self.make, self.seconds = make, seconds
        self.starts = 0
        self.start()

    def start(self) -> None:
        self.server: Server = self.make()
        self.server.start()
        self.starts += 1
        self.pid = self.server.process.pid
        limit = status_bytes(self.pid, "VmSize") + LIMIT
        resource.prlimit(self.pid, resource.RLIMIT_AS, (limit, limit))
        resource.prlimit(self.pid, resource.RLIMIT_CORE, (0, 0))
        self.node = ""
        threading.Thread(target=self.listen, args=(self.server,), daemon=True).start()
        self.files = listed(self.server.base)

    def listen(self, server: Server) -> None:
        """Note which node runs."""
        try:
            with WebSocket(server.port, f"/ws?clientId={CLIENT}") as events:
                while True:
                    message = events.read()
                    if isinstance(message, str):
                        event = json.loads(message)
                        if event["type"] == "executing":
                            self.node = event["data"]["node"] or self.node
        except Exception:  # the server is gone, which the other thread sees
            return

    def ask(self, workflow: dict[str, Any]) -> Answer:
        answer, began = Answer(), time.monotonic()
        logged = self.server.log.stat().st_size
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")  # the peak is counted from here
        before = status_bytes(self.pid, "VmRSS")
        self.node = ""
        try:
            self.follow(workflow, answer, before)
        except (OSError, urllib.error.URLError, ValueError) as error:
            try:
                self.server.process.wait(5)
            except Exception:
                answer.hung = answer.hung or f"the server itself: {error!r}"
        answer.last = self.node
        code = self.server.process.poll()
        if code is not None:
            answer.died = answer.died or signal_name(code)
        else:
            answer.grew = max(answer.grew, status_bytes(self.pid, "VmHWM") - before)
        answer.seconds = time.monotonic() - began
        with open(self.server.log, "rb") as log:
            log.seek(logged)
            answer.log = log.read().decode(errors="replace")
        now = listed(self.server.base)
        answer.strays = [path for path, state in now.items() if self.files.get(path) != state]
        self.files = now
        if answer.died or answer.hung:
            self.server.stop()
            self.start()
        return answer

    def follow(self, workflow: dict[str, Any], answer: Answer, before: int) -> None:
        status, body = self.server.post("/prompt", {"prompt": workflow, "client_id": CLIENT})
        if "prompt_id" not in body or body.get("node_errors"):
            answer.refused, answer.status = body, status
        if "prompt_id" not in body:
            return
        began = time.monotonic()
        end = began + self.seconds
        while True:
            history = self.server.get_json(f"/history/{body['prompt_id']}")
            if history:
                (entry,) = history.values()
                answer.outputs = entry["outputs"]
                told = [data for kind, data in entry["status"]["messages"] if kind == "execution_error"]
                answer.error = told[0] if told else None
                return
            pause = time.monotonic() + WATCHED
            while time.monotonic() < pause:
                grew = status_bytes(self.pid, "VmRSS") - before
                if grew > answer.grew:
                    answer.grew, answer.running = grew, self.node
                time.sleep(0.005)
            if time.monotonic() > end:
                answer.hung = self.node or "no node"
                return
            if not answer.stopped and time.monotonic() > began + PATIENCE:
                answer.stopped = True  # a long run, which the button must end
                self.server.post("/interrupt", {})

    def stop(self) -> None:
        self.server.stop()


def signal_name(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
