"""A language model behind an OpenAI-compatible address: Ollama, LM Studio, vLLM, llama.cpp, or a paid service.

What answers is not trusted: only http and https, no redirects, no compression, a limit on time and size, and nothing
of an answer is used but its text. The key comes from the environment, is sent to that one address, and is in no
message: what the other side says is left out if it holds a part of it.
"""

import base64
import contextlib
import http.client
import json
import os
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Sequence
from typing import Any

from .. import strict_json
from ..errors import MovaError, first_line
from ..shorten import printable, short
from .task import Request

KEY = "MOVA_ENHANCE_KEY"  # the environment variable that holds the key, if one is needed
CONNECT_SECONDS, SECONDS = 10, 600
MOST_BYTES = 4_000_000
PART = 8  # letters of a key that are taken for it
PORTS = {"http": 80, "https": 443}
NO_PICTURES = (400, 413, 415, 422, 500, 501)  # how servers refuse pictures that their model cannot see
MEANING = {
    401: f"the key in {KEY} is missing or wrong",
    403: f"the key in {KEY} may not do this",
    404: "there is no such path or model; check the address and --enhance-model",
    429: "it has too many requests, or no credit is left; wait a while",
}


class PicturesRefused(MovaError):
    """The answer was an error, and pictures were sent: the model may not take them."""


class Address:
    """An address, taken apart. Raises MovaError for one that is not http or https, or that has a password in it."""

    def __init__(self, url: str) -> None:
        try:
            parts = urllib.parse.urlsplit(url.strip())
            self.port = parts.port or PORTS.get(parts.scheme, 0)
        except ValueError as error:
            raise MovaError(f"The address of --enhance-url is none ({error}); give one such as {EXAMPLE}.") from None
        self.secure, self.host = parts.scheme == "https", parts.hostname or ""
        if parts.scheme not in PORTS or not self.host:
            raise MovaError(f"The address of --enhance-url must begin with http:// or https://; give one as {EXAMPLE}.")
        if parts.username is not None or parts.password is not None:
            raise MovaError(f"The address of --enhance-url holds a password; put the key into {KEY} in its place.")
        if not url.strip().isascii() or any(letter.isspace() or not letter.isprintable() for letter in url.strip()):
            raise MovaError("The address of --enhance-url holds spaces or other letters than ASCII; encode them.")
        base = parts.path.rstrip("/").removesuffix("/chat/completions") or "/v1"
        query = f"?{parts.query}" if parts.query else ""
        self.chat, self.models = f"{base}/chat/completions{query}", f"{base}/models{query}"
        self.shown = f"{parts.scheme}://{self.host}" + (f":{parts.port}" if parts.port else "")


EXAMPLE = "http://localhost:11434/v1"


def key_from_environment() -> str:
    """The key, empty if there is none. Raises MovaError, without showing it, for one that no header can hold."""
    key = os.environ.get(KEY, "").strip()
    if any(not "!" <= letter <= "~" for letter in key):
        raise MovaError(f"The key in {KEY} holds letters that no key has; set it again.")
    return key


class Remote:
    """Called with a Request it gives the model's answer. `pictures`: the frames as JPEG files."""

    def __init__(
        self,
        url: str,
        model: str | None = None,
        pictures: Sequence[bytes] = (),
        seed: int = 0,
        temperature: float = 0.7,
        max_length: int = 4096,
        seconds: float = SECONDS,
    ) -> None:
        self.address, self.key = Address(url), key_from_environment()
        self.pictures, self.model = list(pictures), model
        self.seed, self.temperature, self.max_length, self.seconds = seed, temperature, max_length, seconds

    def __call__(self, request: Request) -> str:
        if self.model is None:
            self.model = self.first_model()
        body = {
            "model": self.model,
            "messages": messages(request, self.pictures),
            "temperature": self.temperature,
            "max_tokens": self.max_length,
            "seed": self.seed + request.attempt,
            "stream": False,
        }
        text = text_of(self.ask("POST", self.address.chat, body), self.address.shown)
        if self.shows_key(text):  # it would stand in the clip
            raise MovaError(f"{self.address.shown} answers with the key that it was sent; do not trust it with one.")
        return text

    def first_model(self) -> str:
        """The model that is there, if none was named."""
        answer = self.ask("GET", self.address.models, None)
        listed = answer.get("data")
        names = [one.get("id") for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
        name = next((name for name in names if isinstance(name, str) and name), None)
        if name is None:
            raise MovaError(f"{self.address.shown} lists no model; name one with --enhance-model.")
        return name

    def ask(self, method: str, path: str, body: Any) -> dict[str, Any]:
        """The JSON object that comes back. Raises MovaError, which says what is wrong and never what the key is."""
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "Connection": "close"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        data = None if body is None else json.dumps(body, ensure_ascii=True).encode()
        if data is not None:
            headers["Content-Type"] = "application/json"
        status, kind, content = self.exchange(method, path, data, headers)
        if status != 200:
            self.refuse(status, content)
        try:
            answer = strict_json.parse(content.decode("utf-8"))
        except ValueError:  # also of other bytes than UTF-8
            what = self.harmless(kind) or "something"
            raise MovaError(
                f"{self.address.shown} answers with {what} that is no JSON; give an OpenAI-compatible address, such as "
                f"{EXAMPLE}."
            ) from None
        if not isinstance(answer, dict):
            raise MovaError(
                f"{self.address.shown} answers with JSON that is no object; give an OpenAI-compatible address."
            )
        return answer

    def exchange(self, method: str, path: str, data: bytes | None, headers: dict[str, str]) -> tuple[int, str, bytes]:
        """Status, content type and content, within the time and the size there are."""
        address, kinds = self.address, (OSError, http.client.HTTPException, ValueError, AttributeError)
        end = time.monotonic() + self.seconds
        try:
            connection = self.connect()
        except (OSError, ValueError) as error:
            raise MovaError(
                f"{address.shown} cannot be reached ({first_line(error)}); start the server, or check the address."
            ) from None
        # Whoever sends a byte now and then would keep each single read within its time.
        watch = threading.Timer(self.seconds, lambda: shut(connection))
        watch.daemon = True
        watch.start()
        try:
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            content = read(answer, address.shown, end)
            return answer.status, answer.getheader("Content-Type", "") or "", content
        except kinds as error:
            if isinstance(error, MovaError):
                raise
            if time.monotonic() >= end:
                raise MovaError(
                    f"{address.shown} has not answered within {self.seconds:g} seconds; take a smaller model."
                ) from None
            raise MovaError(
                f"{address.shown} broke the connection off ({type(error).__name__}); look into its log."
            ) from None
        finally:
            watch.cancel()
            connection.close()

    def connect(self) -> http.client.HTTPConnection:
        address, timeout = self.address, min(CONNECT_SECONDS, self.seconds)
        if address.secure:
            context = ssl.create_default_context()
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                address.host, address.port, timeout=timeout, context=context
            )
        else:
            connection = http.client.HTTPConnection(address.host, address.port, timeout=timeout)
        connection.connect()
        connection.sock.settimeout(self.seconds)
        return connection

    def refuse(self, status: int, content: bytes) -> None:
        """Raise MovaError for a status that is no success."""
        shown = self.address.shown
        if 300 <= status < 400:
            raise MovaError(f"{shown} redirects to elsewhere, which is not followed; give the address it leads to.")
        meaning = MEANING.get(status) or self.said(content) or "look into its log"
        kind = PicturesRefused if self.pictures and status in NO_PICTURES else MovaError
        raise kind(f"{shown} answers with the error {status}: {meaning.rstrip('.')}.")

    def said(self, content: bytes) -> str:
        """What the server says of the error, if it says so as OpenAI's does, and no part of the key is in it."""
        try:
            told = strict_json.parse(content.decode("utf-8"))
        except ValueError:
            return ""
        inner = told.get("error") if isinstance(told, dict) else None
        text = inner.get("message") if isinstance(inner, dict) else inner
        return self.harmless(text) if isinstance(text, str) else ""

    def harmless(self, text: str) -> str:
        """What the other side says, short and on one line; nothing if there is a part of the key in it."""
        return "" if self.shows_key(text) else short(printable(text))[1:-1]

    def shows_key(self, text: str) -> bool:
        size = min(len(self.key), PART)
        return bool(size) and any(self.key[at : at + size] in text for at in range(len(self.key) - size + 1))


def shut(connection: http.client.HTTPConnection) -> None:
    """End a connection that another thread is reading from."""
    with contextlib.suppress(OSError, AttributeError):  # it may have ended by itself
        connection.sock.shutdown(socket.SHUT_RDWR)


def read(answer: http.client.HTTPResponse, shown: str, end: float) -> bytes:
    """The content of an answer. Raises MovaError if it is packed, too large, or takes too long."""
    if answer.getheader("Content-Encoding", "identity").lower() != "identity":
        raise MovaError(f"{shown} sends its answer compressed, unasked; switch that off in the server.")
    content = bytearray()
    while part := answer.read1(65536):
        content += part
        if len(content) > MOST_BYTES:
            raise MovaError(f"{shown} sends more than {MOST_BYTES // 10**6} MB for an answer; it is no chat server.")
        if time.monotonic() >= end:
            raise TimeoutError
    if time.monotonic() >= end:  # cut off then, which looks like an end
        raise TimeoutError
    return bytes(content)


def messages(request: Request, pictures: Sequence[bytes]) -> list[dict[str, Any]]:
    """A request as OpenAI's chat has it; pictures stand in it as data, not as addresses."""
    user: Any = request.user
    if pictures:
        data = (f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}" for picture in pictures)
        shown = [{"type": "image_url", "image_url": {"url": address}} for address in data]
        user = [*shown, {"type": "text", "text": request.user}]
    return [{"role": "system", "content": request.system}, {"role": "user", "content": user}]


def text_of(answer: dict[str, Any], shown: str) -> str:
    """The text of the first choice. Raises MovaError if the answer is not of that form."""
    try:
        content = answer["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        content = None
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(part for part in parts if isinstance(part, str))
    if not isinstance(content, str):
        raise MovaError(f"{shown} answers without choices[0].message.content; give an OpenAI-compatible address.")
    return content
