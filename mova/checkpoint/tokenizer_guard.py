"""What a tokenizer's files may ask of memory: its library does what they say, until the machine is full.

A tokenizer.json names steps that rewrite the text (normalizer) and put tokens around it (post_processor). Each may make
it longer, and there may be any number of them: ten that write "aaaaaaaa" for "a" make a gigabyte of one letter.
"""

import base64
import binascii
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..shorten import short
from .header import broken
from .weights import read_json

MOST_BYTES = 10**8  # of a tokenizer.json; UMT5's has 17 MB
MOST_GROWTH = 10_000  # characters out of one; at most; XLNet's comes to 5,000
MOST_TEXT = 10**8  # characters that words of its own become, all together
MOST_TOKENS = 512  # that a template adds, and as many copies of the text; known ones add two
MOST_EXTRA = 10_000  # numbered words that are made up; T5 has 100, UMT5 300
REMEDY = "take the file from the release"
# Of the steps without settings, into how many characters one can turn (U+FDFA becomes 18).
GROWTH = {"NFKC": 18, "NFKD": 18, "NFC": 3, "NFD": 4, "Lowercase": 3, "ByteLevel": 4, "BertNormalizer": 4}


def check_tokenizer_files(folder: Path) -> None:
    """Raise MovaError if the tokenizer in a folder would take memory out of all proportion to a prompt."""
    settings = folder / "tokenizer_config.json"
    if os.path.lexists(settings):
        extra = read_json(settings).get("extra_ids")
        if extra is not None and not (isinstance(extra, int) and 0 <= extra <= MOST_EXTRA):
            raise broken(settings, f"has the impossible extra_ids: {short(extra)}", REMEDY)
    path = folder / "tokenizer.json"
    if not os.path.lexists(path):
        return
    values = read_json(path, MOST_BYTES)
    most = math.prod(map(growth, steps(values.get("normalizer"), "normalizers")))
    added = sum(len(str(word.get("content"))) for word in objects(values.get("added_tokens")))
    if most > MOST_GROWTH or most * added > MOST_TEXT:
        raise broken(path, "has a normalizer that makes text too long", REMEDY)
    if math.prod(map(tokens_added, steps(values.get("post_processor"), "processors"))) > MOST_TOKENS:
        raise broken(path, "has a post_processor that adds too many tokens", REMEDY)


def objects(values: Any) -> Iterator[Mapping[str, Any]]:
    """Those in a list that are JSON objects; what else there is, the library refuses."""
    if isinstance(values, list):
        yield from (value for value in values if isinstance(value, dict))


def steps(step: Any, inside: str) -> Iterator[Mapping[str, Any]]:
    """The steps of which a step is made; `inside` is where a sequence has them."""
    waiting = list(objects([step]))
    while waiting:
        step = waiting.pop()
        yield step
        waiting.extend(objects(step.get(inside)))


def growth(step: Mapping[str, Any]) -> float:
    """Into how many characters a step of the normalizer turns one at most."""
    kind, pattern = step.get("type"), step.get("pattern")
    if kind == "Replace":
        content = len(str(step.get("content")))
        replaced = len(str(pattern.get("String", ""))) if isinstance(pattern, dict) else 0
        if replaced:
            return max(1.0, content / replaced)
        return 1.0 + 2 * content  # an expression may match nothing, before and after each character
    if kind == "Prepend":
        return 1.0 + len(str(step.get("prepend")))
    if kind == "Precompiled":
        return longest_replacement(step.get("precompiled_charsmap"))
    return GROWTH.get(str(kind), 1)


def longest_replacement(charsmap: Any) -> float:
    """Bytes of the longest string in a map of sentencepiece: 4 bytes with the size of a trie, the trie, the strings."""
    try:
        content = base64.b64decode(charsmap) if isinstance(charsmap, str) else b""
    except binascii.Error:
        return 1.0  # the library refuses it
    strings = content[4 + int.from_bytes(content[:4], "little") :].split(b"\0")
    return max(1.0, *map(len, strings)) if strings else 1.0


def tokens_added(step: Mapping[str, Any]) -> int:
    """How many tokens a template adds, and copies of the text it makes."""
    special, pieces = step.get("special_tokens"), list(objects(step.get("single")))
    longest = 1
    if isinstance(special, dict):
        lists = (word.get("ids") for word in objects(list(special.values())))
        longest = max((len(ids) for ids in lists if isinstance(ids, list)), default=1)
    return max(1, sum(longest if "SpecialToken" in piece else 1 for piece in pieces))
