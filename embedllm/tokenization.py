"""From texts to the ids of their prompts: for any number of texts, and for texts of any length.

Two things are cheaper here than in a call of the tokenizer, and give the same ids. Texts go through it in pieces,
without the offsets and masks that nobody reads. And of a text that is far longer than the prompt may be, only the start
is read: a tokenizer takes some 200 bytes of memory for a character, and most of a line of 100 MB is cut anyway.
"""

import functools
from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer

from embedllm.pieces import pieces
from embedllm.prompt import Prompt

_TEXTS, _CHARACTERS = 1024, 2**20  # in the tokenizer at a time
_WHITE = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
"""What the normalizer of a prompt strips: Unicode's White_Space, which lacks four characters of :meth:`str.strip`."""


def token_ids(prompt: Prompt, texts: Sequence[str]) -> list[list[int]]:
    """Return the ids of each text in its prompt, cut to the tokenizer's ``model_max_length``; they may be none."""
    backend, limit = prompt.tokenizer.backend_tokenizer, prompt.tokenizer.model_max_length
    _truncate(backend, limit)
    # Half of it holds as many tokens as there may be, even if each is as long as the longest; the other half makes the
    # words that they are cut from whole.
    reach = 2 * limit * _longest_token(prompt)
    starts = (text if len(text) <= reach else text.strip(_WHITE)[:reach] for text in texts)
    rows = [found.ids for piece in pieces(starts, _TEXTS, _CHARACTERS) for found in backend.encode_batch_fast(piece)]
    for i, text in enumerate(texts):
        if len(text) > reach and len(rows[i]) < limit:  # the tokenizer drops characters, or joins unknown ones
            rows[i] = _whole_row(backend, text.strip(_WHITE), 2 * reach, limit)
    return rows


def _whole_row(backend: Tokenizer, text: str, reach: int, limit: int) -> list[int]:
    """Return the ids of ``text``, more and more of which is read, until there are ``limit`` of them."""
    while True:
        row: list[int] = backend.encode(text[:reach]).ids
        if len(row) >= limit or reach >= len(text):
            return row
        reach *= 2


def _truncate(backend: Tokenizer, limit: int) -> None:
    """Cut and do not pad, as a call of the tokenizer does; both are set by whoever called it last."""
    wanted: dict[str, Any] = {"max_length": limit, "stride": 0, "strategy": "longest_first", "direction": "right"}
    if backend.truncation != wanted:
        backend.enable_truncation(**wanted)
    if backend.padding is not None:
        backend.no_padding()


@functools.lru_cache(maxsize=8)
def _longest_token(prompt: Prompt) -> int:
    """Return the characters, or in a vocabulary of bytes the bytes, of the longest token."""
    return max(map(len, prompt.tokenizer.get_vocab()))
