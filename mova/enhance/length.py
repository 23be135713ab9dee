"""How long a prompt is, and how it is made shorter without losing a quoted word or its sound."""

import itertools
import re
from collections.abc import Callable

from .quotes import masked

WORDS, TOKENS = 250, 512  # the published workflow's limit, and what UMT5 features MOVA takes
TOGETHER = re.compile(r"[^\W_⺀-鿿぀-ヿ가-힯]+(?:['’-][^\W_⺀-鿿぀-ヿ가-힯]+)*|[⺀-鿿぀-ヿ가-힯]")
Count = Callable[[str], int]


def words(text: str) -> int:
    """How many words; a letter of Chinese, Japanese or Korean counts as one."""
    return len(TOGETHER.findall(text))


def tokens(text: str) -> int:
    """About how many UMT5's tokenizer makes of it, rather too many: for where that is not at hand."""
    count = 1  # that ends it
    for word in TOGETHER.findall(text):
        if word.isascii():
            count += -(-len(word) // 4)
        else:
            count += 1 if len(word) == 1 else -(-len(word) // 2)
    return count + len(re.findall(r"[^\w\s]", text))


def fits(text: str, count: Count = tokens) -> bool:
    return words(text) <= WORDS and count(text) <= TOKENS


def sentences(text: str) -> list[str]:
    """A paragraph's sentences, which together are it; none ends within a quotation."""
    hidden = masked(text)
    ends = [found.end() for found in re.finditer(r"[.!?…]+[\"”’)\]]*\s+|[。！？]+\s*", hidden)]
    # A quotation that ends its sentence hides the full stop in itself.
    ends += [found.end() for found in re.finditer(r"x\s+(?=[A-Z])", hidden) if quote_ends_sentence(text, found)]
    places = [0, *sorted({end for end in ends if end < len(text)}), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(places) if text[start:end].strip()]


def quote_ends_sentence(text: str, found: re.Match[str]) -> bool:
    return text[found.start() - 1 : found.start() + 1].strip("\"”’»」')")[-1:] in set(".!?…")


def shortened(text: str, kept: list[str], count: Count = tokens) -> str | None:
    """The text with as many sentences left out as it takes to fit; None if it cannot.

    Those go first that stand late in the action; sentences that hold one of `kept` stay, and so does the first of each
    paragraph. The last paragraph, the sound, is taken from last.
    """
    paragraphs = [sentences(part) for part in text.split("\n\n")]
    order = [*range(len(paragraphs) - 2, -1, -1), len(paragraphs) - 1]
    for number in order:
        for place in range(len(paragraphs[number]) - 1, 0, -1):
            if fits(joined(paragraphs), count):
                return joined(paragraphs)
            if not any(words_kept in paragraphs[number][place] for words_kept in kept):
                del paragraphs[number][place]
    return joined(paragraphs) if fits(joined(paragraphs), count) else None


def joined(paragraphs: list[list[str]]) -> str:
    return "\n\n".join(filter(None, ("".join(part).strip() for part in paragraphs)))
