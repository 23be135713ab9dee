"""A model hub of a few repositories on 127.0.0.1: as much of its interface as a download needs."""

import contextlib
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Hub:
    """Serves `folder` as someone/NAME, or as `repository`. What a test sets decides how; what was asked for is in
    `asked`. `beside` are others at the same address.
    """

    def __init__(self, folder: Path, repository: str | None = None) -> None:
        self.folder, self.repository = folder, repository or f"someone/{folder.name}"
        self.beside: list[Hub] = []
        self.commit, self.commits = "a" * 40, {"a" * 40}
        self.names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        self.hashes: dict[str, str | None] = {
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in self.names
        }
        self.asked: list[tuple[str, int, int]] = []  # (file, first byte, bytes sent) of each GET of a file
        self.cut: dict[str, int] = {}  # file: how many bytes of the next answers are sent before the connection breaks
        self.hold: dict[str, int] = {}  # file: after how many bytes nothing more comes
        self.changed: dict[str, bytes] = {}  # file: what is served in its place
        self.elsewhere = False  # whether files are on another host, as the hub's large ones are
        self.tokens: dict[str, set[str | None]] = {}  # by host, what came as Authorization
        self.refusal: tuple[int, str] | None = None  # HTTP status and the hub's code for every answer
        self.held, self.released = threading.Event(), threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"hub": self}))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    @contextlib.contextmanager
    def running(self):
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield self
        finally:
            self.released.set()
            self.server.shutdown()
            self.server.server_close()

    def fetched(self, name: str) -> list[tuple[int, int]]:
        """(first byte, bytes sent) of each request for more than a header."""
        return [(first, sent) for asked, first, sent in self.asked if asked == name]

    def size(self, name: str) -> int:
        return (self.folder / name).stat().st_size


def take_for_the_hub(hub: Hub, monkeypatch) -> None:
    """What the hub's library makes of HF_ENDPOINT when it is imported."""
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path, first = unquote(urlsplit(self.path).path), type(self).hub
        self.hub = hub = next((hub for hub in (first, *first.beside) if hub.repository in path), first)
        host = self.headers["Host"].split(":")[0]
        if hub.repository in path:  # the library asks for other things too
            hub.tokens.setdefault(host, set()).add(self.headers.get("Authorization"))
        if hub.refusal:
            return self.refuse(*hub.refusal)
        if found := re.fullmatch(rf"/api/models/{hub.repository}(?:/revision/(\w+))?", path):
            commit = found[1] or hub.commit
            return self.listing(commit) if commit in hub.commits else self.refuse(404, "RevisionNotFound")
        if found := re.fullmatch(rf"/{hub.repository}/resolve/(\w+)/(.+)", path):
            if found[1] not in hub.commits:
                return self.refuse(404, "RevisionNotFound")
            if found[2] not in hub.names:
                return self.refuse(404, "EntryNotFound")
            if hub.elsewhere and host != "localhost":
                return self.answer(302, b"", {"Location": hub.url.replace("127.0.0.1", "localhost") + self.path})
            return self.file(found[2])
        return self.refuse(404, "RepoNotFound")

    def refuse(self, status: int, code: str) -> None:
        self.answer(status, b'{"error": "no"}', {"X-Error-Code": code})

    def listing(self, commit: str) -> None:
        files = []
        for name in self.hub.names:
            size = self.hub.size(name)
            sha256 = self.hub.hashes[name] if name.endswith(".safetensors") else None
            lfs = {"sha256": sha256, "size": size, "pointerSize": 130} if sha256 else None
            files.append({"rfilename": name, "size": size, "lfs": lfs})
        listing = {"id": self.hub.repository, "modelId": self.hub.repository, "sha": commit, "siblings": files}
        self.answer(200, json.dumps(listing).encode(), {"Content-Type": "application/json"})

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def file(self, name: str) -> None:
        hub = self.hub
        content = hub.changed.get(name, (hub.folder / name).read_bytes())
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first = int(asked[1]) if asked else 0
        body = content[first : int(asked[2]) + 1 if asked and asked[2] else None]
        header_only = bool(asked and asked[2])
        sent = len(body)
        if not header_only:
            sent = min(sent, hub.cut.pop(name, sent), hub.hold.get(name, sent))
            hub.asked.append((name, first, sent))
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hub.hashes[name]}"')
        self.send_header("X-Repo-Commit", hub.commit)
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{first + len(body) - 1}/{len(content)}")
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # who was killed does not listen
            self.wfile.write(body[:sent])
            self.wfile.flush()
            if sent < len(body):
                if name in hub.hold:
                    hub.held.set()
                    hub.released.wait(60)
                self.close_connection = True


class SnapshotHandler(Handler):
    """What snapshot_download asks for besides: the list of a commit's files, and files without their content."""

    def do_GET(self) -> None:
        hub = self.hub
        if not re.match(rf"/api/models/{hub.repository}/tree/{hub.commit}", self.path):
            return super().do_GET()
        files = []
        for name in hub.names:
            size, sha256 = hub.size(name), hub.hashes[name]
            lfs = {"oid": sha256, "size": size, "pointerSize": 130} if name.endswith(".safetensors") else None
            files.append({"type": "file", "path": name, "size": size, "oid": sha256[:40], "lfs": lfs})
        self.answer(200, json.dumps(files).encode(), {"Content-Type": "application/json"})

    def do_HEAD(self) -> None:
        hub, name = self.hub, self.path.split("/resolve/")[1].split("/", 1)[1]
        if name in hub.silent:
            return self.send_error(500)
        size = hub.size(name)
        headers = {"ETag": f'"{hub.hashes[name]}"', "X-Repo-Commit": hub.commit, "Content-Length": str(size)}
        self.send_response(200)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
