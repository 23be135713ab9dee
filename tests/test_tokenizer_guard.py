"""Tokenizers and configurations that would fill the memory are refused before they do; usual ones are not."""

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sentences import refusal
from slow import slow
from tokenizers import Tokenizer, models, normalizers

from mova.checkpoint.release import open_checkpoint
from mova.checkpoint.tokenizer_guard import MOST_GROWTH, check_tokenizer_files, growth, steps

ROOT = Path(__file__).parents[1]
EIGHT = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 8}
# Peak memory in MB that opening the folder takes beyond what a good one took; for safety, the process has a limit.
CODE = """
import contextlib, resource, sys
from pathlib import Path
from mova import MovaError
from mova.checkpoint.release import open_checkpoint
open_checkpoint(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << (20 if sys.platform == "darwin" else 10))
for folder in sys.argv[2:]:
    before = peak()
    try:
        open_checkpoint(Path(folder))
        print("opened")
    except MovaError as error:
        print(f"{peak() - before:.0f} {error}")
"""


def charsmap(longest):
    """sentencepiece's: a trie (here of nothing), and the strings that it leads to."""
    return base64.b64encode((4).to_bytes(4, "little") + bytes(4) + b"x" * longest + b"\0").decode()


def sequence(*normalizers):
    return {"normalizer": {"type": "Sequence", "normalizers": list(normalizers)}}


def template(**changes):
    whole = {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}], "pair": []}
    return {"post_processor": {**whole, "special_tokens": {}, **changes}}


def words(*contents):
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "special"), False) | {"normalized": True}
    return {"added_tokens": [{"id": 300 + i, "content": content, **flags} for i, content in enumerate(contents)]}


TOO_LONG, TOO_MANY = "has a normalizer that makes text too long", "has a post_processor that adds too many tokens"
LARGE = {  # file, what is set in it, and what is said
    "repeated": ("tokenizer/tokenizer.json", sequence(*[EIGHT] * 9) | words("aaaa"), TOO_LONG),
    "nested": ("tokenizer/tokenizer.json", sequence(sequence(*[EIGHT] * 5)["normalizer"], *[EIGHT] * 4), TOO_LONG),
    "expression": (
        "tokenizer/tokenizer.json",
        sequence(*[{"type": "Replace", "pattern": {"Regex": "a?"}, "content": "a" * 100}] * 3),
        TOO_LONG,
    ),
    "prepended": ("tokenizer/tokenizer.json", sequence({"type": "Prepend", "prepend": "a" * 10**6}), TOO_LONG),
    "mapped": (
        "tokenizer/tokenizer.json",
        sequence({"type": "Precompiled", "precompiled_charsmap": charsmap(10**6)}),
        TOO_LONG,
    ),
    "long word": ("tokenizer/tokenizer.json", sequence(*[EIGHT] * 4) | words("a" * 10**5), TOO_LONG),
    "template": (
        "tokenizer/tokenizer.json",
        template(single=[{"Sequence": {"id": "A", "type_id": 0}}] * 10**4),
        TOO_MANY,
    ),
    "special": (
        "tokenizer/tokenizer.json",
        template(
            single=[{"SpecialToken": {"id": "x", "type_id": 0}}] * 2,
            special_tokens={"x": {"id": "x", "ids": [1] * 10**5, "tokens": ["</s>"] * 10**5}},
        ),
        TOO_MANY,
    ),
    "extra": ("tokenizer/tokenizer_config.json", {"extra_ids": 2**24}, "has the impossible extra_ids: 16777216"),
    "labels": ("text_encoder/config.json", {"num_labels": 2**20}, "has the impossible 'num_labels': 1048576"),
    "more labels": ("text_encoder/config.json", {"num_labels": 2**30}, "has the impossible 'num_labels': 1073741824"),
}


def changed(source, folder, name, values):
    shutil.copytree(source, folder, copy_function=os.link)
    content = json.loads((folder / name).read_text(encoding="utf-8"))
    (folder / name).unlink()
    (folder / name).write_text(json.dumps({**content, **values}), encoding="utf-8")
    return folder


@slow("a process that opens each; those below are told the same")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such count of memory, nor such a limit")
def test_what_would_fill_the_memory_is_refused_in_a_sentence_and_little_memory(tiny_checkpoint, tmp_path):
    folders = [changed(tiny_checkpoint, tmp_path / case, *LARGE[case][:2]) for case in LARGE]
    command = [sys.executable, "-c", CODE, tiny_checkpoint, *folders]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for case, line in zip(LARGE, done.stdout.splitlines(), strict=True):
        name, _, said = LARGE[case]
        assert line.partition(" ")[2].startswith(f"{tmp_path / case / name} {said}"), line
        assert float(line.split()[0]) < 100, line


@pytest.mark.parametrize("case", LARGE)
def test_it_is_told_as_one_sentence(tiny_checkpoint, tmp_path, case):
    assert LARGE[case][2] in refusal(open_checkpoint, changed(tiny_checkpoint, tmp_path / "copy", *LARGE[case][:2]))


USUAL = {  # as UMT5's, Llama's, XLNet's and BERT's tokenizers have them
    "umt5": sequence(
        {"type": "Precompiled", "precompiled_charsmap": charsmap(33)},
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"},
    ),
    "llama": sequence(
        {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    ),
    "xlnet": sequence(
        *({"type": "Replace", "pattern": {"String": quote}, "content": '"'} for quote in ("``", "''")),
        *({"type": kind} for kind in ("NFKD", "StripAccents", "Lowercase")),
        {"type": "Precompiled", "precompiled_charsmap": charsmap(33)},
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
    ),
    "none": {"normalizer": None, "post_processor": None},
}


@pytest.mark.parametrize("case", USUAL)
def test_usual_tokenizers_are_taken(tiny_checkpoint, tmp_path, case):
    file = "tokenizer/tokenizer.json"
    folder = changed(tiny_checkpoint, tmp_path / "copy", file, USUAL[case] | words(*["<extra_id_0>"] * 300))
    check_tokenizer_files(folder / "tokenizer")


@pytest.mark.parametrize("kind", ["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "ByteLevel", "BertNormalizer", "Nmt"])
def test_no_character_becomes_more_than_is_counted(kind):
    """By the library itself, of all of Unicode."""
    normalizer = getattr(normalizers, kind)()
    most = max(len(normalizer.normalize_str(chr(code))) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    assert most <= growth({"type": kind})


@pytest.mark.parametrize(
    "step",
    [
        EIGHT,
        {"type": "Replace", "pattern": {"Regex": "a*"}, "content": "bcd"},
        {"type": "Prepend", "prepend": "abc"},
        *USUAL["xlnet"]["normalizer"]["normalizers"][:2],
    ],
)
@pytest.mark.parametrize("times", [1, 3])
def test_a_chain_grows_no_more_than_is_counted(step, times):
    whole = sequence(*[step] * times)["normalizer"]
    tokenizer = json.loads(Tokenizer(models.WordLevel({}, "x")).to_str())
    normalizer = Tokenizer.from_str(json.dumps({**tokenizer, "normalizer": whole})).normalizer
    counted = 1.0
    for one in steps(whole, "normalizers"):
        counted *= growth(one)
    for text in ("a", "aaaa", "``", "b a``c"):
        assert len(normalizer.normalize_str(text)) <= counted * len(text) < MOST_GROWTH * len(text)
