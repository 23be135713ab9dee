"""A language model behind an address, and a stand-in server that answers slowly, hugely, brokenly or maliciously."""

import json
import time
from pathlib import Path

import pytest
from sentences import refusal
from stand_in_chat import (
    ANSWER,
    bomb,
    chat,
    chat_server,
    endless,
    endless_headers,
    huge,
    raw,
    says,
    silent,
    torn,
)
from test_command_line import SIZE

from mova import MovaError
from mova.__main__ import main
from mova.clip.reading import read_clip_info
from mova.enhance import Request
from mova.enhance.url import KEY, Address, Remote

TYPED = 'a fox in the snow says "hello there, friend"'
SECRET = "sk-test-4b1d99c0ffee77aa"
ASKED = Request("the rules", "the prompt")


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv(KEY, raising=False)


def test_enhance_prints_what_the_server_s_model_makes_alone(capsys):
    with chat_server(says(ANSWER)) as (url, asked):
        assert main(["enhance", TYPED, "--enhance-url", f"{url}/v1"]) == 0
    assert capsys.readouterr().out == f"{ANSWER}\n"
    (_, models, _, _), (_, path, headers, body) = asked
    assert (models, path, body["model"]) == ("/v1/models", "/v1/chat/completions", "first")
    assert [turn["role"] for turn in body["messages"]] == ["system", "user"] and body["stream"] is False
    assert TYPED in body["messages"][1]["content"] and "Authorization" not in headers


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "/v1/chat/completions"])
def test_an_address_may_be_written_as_people_do(path):
    with chat_server(says(ANSWER)) as (url, asked):
        assert Remote(f"{url}{path}", "named")(ASKED) == ANSWER
    assert [one[1] for one in asked] == ["/v1/chat/completions"] and asked[0][3]["model"] == "named"


def test_pictures_are_sent_as_data(photograph, capsys):
    with chat_server(says(ANSWER)) as (url, asked):
        assert main(["enhance", TYPED, "--enhance-url", url, "--image", str(photograph)]) == 0
    parts = asked[-1][3]["messages"][1]["content"]
    assert [part["type"] for part in parts] == ["image_url", "text"]
    assert parts[0]["image_url"]["url"].startswith("data:image/jpeg;base64,/9j/")


def test_a_server_that_refuses_pictures_is_asked_without(photograph, capsys):
    def blind(handler, body):
        if isinstance(body["messages"][1]["content"], list):
            handler.reply(400, json.dumps({"error": {"message": "no images here"}}))
        else:
            handler.reply(200, chat(ANSWER))

    with chat_server(blind) as (url, asked):
        assert main(["enhance", TYPED, "--enhance-url", url, "--image", str(photograph)]) == 0
    told = capsys.readouterr()
    assert told.out == f"{ANSWER}\n" and "no images here" in told.err and "without the pictures" in told.err
    assert "cannot see" in asked[-1][3]["messages"][0]["content"]


BROKEN = {
    "HTML": (raw("<html>Welcome</html>", kind="text/html"), r"answers with text/html that is no JSON"),
    "half of JSON": (raw('{"choices": ['), "that is no JSON"),
    "no UTF-8": (raw(b"\xff\xfe{}"), "that is no JSON"),
    "deep JSON": (raw("[" * 200_000), "that is no JSON"),
    "a list": (raw("[]"), "JSON that is no object"),
    "no choices": (raw("{}"), r"without choices\[0\].message.content"),
    "choices of another type": (raw('{"choices": {"0": 1}}'), "without choices"),
    "a number for text": (raw('{"choices": [{"message": {"content": 7}}]}'), "without choices"),
    "null for text": (raw('{"choices": [{"message": {"content": null}}]}'), "without choices"),
    "401": (raw("{}", 401), f"the error 401: the key in {KEY} is missing or wrong"),
    "403": (raw("{}", 403), "the error 403: the key"),
    "404": (raw("{}", 404), "the error 404: there is no such path or model"),
    "429": (raw("{}", 429), "the error 429: it has too many requests"),
    "500": (raw("<h1>oops</h1>", 500, "text/html"), "the error 500: look into its log"),
    "400 with a reason": (raw('{"error": {"message": "context too long."}}', 400), "error 400: context too long"),
    "a redirect to a file": (raw("", 302, Location="file:///etc/passwd"), "redirects to elsewhere, which is not"),
    "a redirect to another host": (raw("", 307, Location="http://169.254.169.254/"), "redirects to elsewhere"),
    "a gzip bomb": (bomb, "sends its answer compressed, unasked"),
    "a hundred megabytes": (huge, "sends more than 4 MB for an answer"),
    "a torn answer": (torn, "broke the connection off|that is no JSON"),
    "another protocol": (lambda handler, body: handler.wfile.write(b"SSH-2.0-x\r\n\r\n"), "broke the connection off"),
}


@pytest.mark.parametrize(("behaviour", "told"), BROKEN.values(), ids=BROKEN)
def test_an_answer_that_is_none_is_told_in_one_sentence(behaviour, told):
    with chat_server(behaviour) as (url, asked):
        message = refusal(Remote(url, "m", seconds=15), ASKED)
        assert len(asked) == 1, "nothing is followed"
    with pytest.raises(MovaError, match=told):
        raise MovaError(message)


@pytest.mark.parametrize("behaviour", [silent, endless, endless_headers], ids=["silent", "endless", "endless headers"])
def test_a_server_that_never_ends_is_left_in_time(behaviour):
    began = time.monotonic()
    with chat_server(behaviour) as (url, _):
        assert "has not answered within 0.6 seconds" in refusal(Remote(url, "m", seconds=0.6), ASKED)
        assert time.monotonic() - began < 5


def test_what_the_server_says_cannot_command_the_terminal():
    with chat_server(raw(json.dumps({"error": "\x1b[2Jgone" + "x" * 10_000}), 400)) as (url, _):
        assert "\x1b" not in refusal(Remote(url, "m"), ASKED)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("file:///etc/passwd", "must begin with http:// or https://"),
        ("ftp://x/y", "must begin with http:// or https://"),
        ("localhost:11434", "must begin with http:// or https://"),
        ("http://", "must begin with http:// or https://"),
        ("http://x:99999999/", "is none"),
        ("http://[::1", "is none"),
        ("http://user:word@x/v1", "holds a password"),
        ("http://x/a b", "holds spaces"),
        ("http://x/\r\nHost: y", "holds spaces"),
    ],
)
def test_an_address_that_is_none_is_refused(url, told):
    message = refusal(Address, url)
    assert told in message and "word" not in message.replace("password", "")


def test_a_server_that_is_not_there_is_told():
    assert "cannot be reached" in refusal(Remote("http://127.0.0.1:9/v1", "m"), ASKED)


def test_a_server_that_lists_no_model_is_told():
    with chat_server(says(ANSWER)) as (url, _):
        remote = Remote(url)
        remote.address.models = "/nothing"
        assert "the error 404" in refusal(remote, ASKED)


def test_the_key_goes_from_the_environment_to_the_server_and_nowhere_else(
    monkeypatch, tiny_checkpoint, tmp_path, capsys
):
    """Searched for in every file that is written, in what is printed, and in the clip."""
    monkeypatch.setenv(KEY, SECRET)
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "clip.mp4"
    words = ["generate", "--checkpoint", str(tiny_checkpoint), "--prompt", TYPED, "--out", str(out), *SIZE]
    with chat_server(says(ANSWER)) as (url, asked):
        assert main([*words, "--enhance-url", url, "--enhance-model", "m"]) == 0
    assert asked[0][2]["Authorization"] == f"Bearer {SECRET}"
    settings = read_clip_info(out).settings
    assert (settings["prompt"], settings["typed_prompt"]) == (ANSWER, TYPED)
    assert main(["info", str(out)]) == 0
    printed = capsys.readouterr()
    assert SECRET not in printed.out + printed.err
    files = [path for path in Path(tmp_path).rglob("*") if path.is_file()]
    assert files and not any(SECRET.encode() in path.read_bytes() for path in files)


ECHOES = {
    "in an error's message": raw(json.dumps({"error": {"message": f"bad key {SECRET}"}}), 400),
    "a part in an error's message": raw(json.dumps({"error": {"message": f"bad key {SECRET[:9]}..."}}), 422),
    "in the kind of its answer": raw("x", kind=f"text/{SECRET}"),
    "in the description": says(f"A fox says {SECRET} in the snow."),
    "in a redirect": raw("", 302, Location=f"http://x/{SECRET}"),
}


@pytest.mark.parametrize("behaviour", ECHOES.values(), ids=ECHOES)
def test_a_server_that_sends_the_key_back_does_not_get_it_printed(behaviour, monkeypatch, capsys):
    monkeypatch.setenv(KEY, SECRET)
    with chat_server(behaviour) as (url, _):
        assert main(["enhance", TYPED, "--enhance-url", url, "--enhance-model", "m"]) == 1
    told = capsys.readouterr()
    assert SECRET[:9] not in told.out + told.err and told.err.startswith("error: http://127.0.0.1")


def test_a_key_that_no_header_can_hold_is_refused_without_showing_it(monkeypatch):
    monkeypatch.setenv(KEY, "sk-two\nlines")
    message = refusal(Remote, "http://127.0.0.1:9", "m")
    assert KEY in message and "two" not in message


def test_no_option_takes_a_key(capsys):
    with pytest.raises(SystemExit):
        main(["enhance", "--help"])
    assert "--key" not in capsys.readouterr().out
