"""A local stand-in for a chat server, which answers as a test says: well, slowly, hugely, brokenly, maliciously."""

import contextlib
import gzip
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ANSWER = 'A red fox runs through deep snow and whispers "hello there, friend" softly.\n\nThe audio holds quiet wind.'
ENDLESS_SECONDS = 20  # at most, should the client not give up


def chat(content):
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]})


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.asked.append(("GET", self.path, dict(self.headers), None))
        if self.path.startswith("/v1/models"):
            self.reply(200, json.dumps({"data": [{"id": "first"}, {"id": "second"}]}))
        else:
            self.reply(404, "{}")

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(("POST", self.path, dict(self.headers), body))
        with contextlib.suppress(OSError):  # the client has given up
            self.server.behaviour(self, body)

    def reply(self, status, text, kind="application/json", **headers):
        data = text if isinstance(text, bytes) else text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def drip(self, data, seconds=0.05):
        """The same bytes again and again, until the client gives up."""
        end = time.monotonic() + ENDLESS_SECONDS
        while time.monotonic() < end and not self.server.closing.is_set():
            self.wfile.write(data)
            self.wfile.flush()
            time.sleep(seconds)


@contextlib.contextmanager
def chat_server(behaviour):
    """Its address, and what it was asked: (method, path, headers, body)."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.behaviour, server.asked, server.closing = behaviour, [], threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.asked
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()


def says(content, status=200, **headers):
    return lambda handler, body: handler.reply(status, chat(content), **headers)


def raw(text, status=200, kind="application/json", **headers):
    return lambda handler, body: handler.reply(status, text, kind, **headers)


def bomb(handler, body):
    """A gigabyte of zeros, packed into a megabyte."""
    packed = gzip.compress(bytes(10**8), 9)
    handler.reply(200, packed * 2, Content_Encoding="gzip")


def endless(handler, body):
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream")
    handler.end_headers()
    handler.drip(b'data: {"choices": []}\n\n')


def endless_headers(handler, body):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    handler.drip(b"X-A: b\r\n")


def silent(handler, body):
    handler.server.closing.wait(ENDLESS_SECONDS)


def huge(handler, body):
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.end_headers()
    handler.wfile.write(b'{"a": "')
    handler.drip(b"x" * 10**6, 0)


def torn(handler, body):
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    handler.wfile.write(b'{"choices"')
