"""Draw repeatable samples: the order is a hash of a key and the text, so no random generator is involved."""

import hashlib
import re
from collections.abc import Iterable


def shuffled(texts: Iterable[str], key: str) -> list[str]:
    """Return the texts in an order that depends on the key and on each text alone.

    One text more or less moves no other: the first ``k`` texts are a sample that stays put when the source changes.
    Rows that were picked by one key are ordered by another: under the same one, the rows of a large class, of which
    only the lowest hashes were picked, would all come first.
    """
    return sorted(texts, key=lambda text: (hashlib.sha256(f"{key}\n{text}".encode()).digest(), text))


def fingerprint(text: str) -> str:
    """Return the text case-folded, without punctuation and with single spaces: equal for "the same" text."""
    return " ".join(re.sub(r"[^\w\s]", " ", text.casefold()).split())
