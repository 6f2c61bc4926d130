"""Gates on what language models do instead of what they are asked: talk first, refuse, copy, ask back."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher

from embedllm.synth.draft import Draft
from embedllm.synth.gates.base import WrittenGate
from embedllm.synth.gates.normal import normalised, words
from embedllm.synth.styles import STYLES

_THING = (
    r"(?:sentences?|versions?|texts?|statements?|passages?|titles?|headlines?|summary|keywords?|key ?words?|answers?"
    r"|outputs?|paraphrases?|rephrasing|rewrite|simplification|expansion|explanation|metaphor|question|topic)"
)
_PREAMBLES = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?:sure|certainly|of course|absolutely|okay|ok|great|no problem)\b[!,.]*\s+(?=here\b|the\b|i\b)",
        r"(?:sure|certainly|of course|absolutely|okay|ok)\b[^:\n]{0,80}[:!]\s+",
        r"here(?:['\u2019]s| is| are| it is| you are)\b[^:\n]{0,120}:\s*",
        rf"(?:the |a |my |your )?(?:[\w-]+ ){{0,3}}{_THING}\s*(?:is|could be|would be|:)?\s*:\s*",
        rf"the (?:given |original |above )?{_THING} (?:can|could|may) be \w+ (?:as|to|like this|as follows)\s*:?\s*",
        r"(?:i would|i['\u2019]d) (?:rewrite|rephrase|paraphrase|simplify|expand) [^:\n]{0,60}:\s*",
    )
]
_AFTERTHOUGHT = re.compile(
    r"\n\s*\(?(?:note\b|explanation\b|i (?:hope|changed|replaced|used|have|tried)|this (?:version|sentence|rewrite|"
    r"paraphrase|statement)|in this (?:version|rewrite|sentence)|let me know|please let|feel free).*",
    re.IGNORECASE | re.DOTALL,
)
_THOUGHT = re.compile(r"\s*(?:<(think|thinking|reasoning)>.*?</\1>\s*)+|.*</think>\s*", re.DOTALL)
"""What models that think first say before the answer; the template of some has opened the thought already."""
_QUOTES = (
    ('"', '"'),
    ("'", "'"),
    ("\u201c", "\u201d"),
    ("\u2018", "\u2019"),
    ("\u00ab", "\u00bb"),
    ("`", "`"),
    ("**", "**"),
    ("*", "*"),
)
_REFUSAL = re.compile(
    r"(?:(?:i['\u2019]?m|i am) (?:sorry|afraid|unable|not able|just an|only an|an ai)"
    r"|i (?:cannot|can['\u2019]t|can not|apologi[sz]e|don['\u2019]t (?:have|know|understand)|do not (?:have|understand)"
    r"|won['\u2019]t)|sorry\b|as an? (?:ai|artificial|language)\b|unfortunately, i\b|please (?:provide|share|give me)"
    r"|could you (?:please )?(?:provide|clarify)|it (?:seems|looks) like you"
    r"|(?:i['\u2019]d|i would|i['\u2019]ll) be (?:happy|glad) to|how can i (?:help|assist)|as a helpful assistant)",
    re.IGNORECASE,
)


class Preamble:
    """Strips what stands around the text that was asked for: thoughts, "Sure, here is ...:", quotes, notes after it.

    It refuses nothing; what is left is put on one line.
    """

    name = "preamble"
    whole_file = False

    def prepare(self, written: bool) -> None:
        """Nothing is needed."""

    def __call__(self, drafts: Sequence[Draft]) -> list[Draft]:
        """Return the drafts, those written by a model with a bare positive."""
        return [self._mended(draft) if draft.written and not draft.reason else draft for draft in drafts]

    def _mended(self, draft: Draft) -> Draft:
        text = bare(draft.positive, draft.anchor)
        return draft if text == draft.positive else replace(draft, positive=text, mended=True)


def bare(text: str, anchor: str = "") -> str:
    r"""Return a model's answer without thoughts, preamble, quotes and afterthoughts, on one line.

    >>> bare('Sure! Here is the rewritten sentence:\n\n"A cat sat."\n\nNote: I kept it short.')
    'A cat sat.'
    """
    thought = None if "<think" in anchor else _THOUGHT.match(text)
    text = text[thought.end() if thought else 0 :].strip()
    text = text if _AFTERTHOUGHT.search(anchor) else _AFTERTHOUGHT.sub("", text)
    before = None
    while text != before:
        before = text
        for pattern in _PREAMBLES:
            found = pattern.match(text)
            if found and not pattern.match(anchor) and found.end() < len(text):
                text = text[found.end() :].strip()
        for left, right in _QUOTES:
            inner = text[len(left) : -len(right)]
            quoted = len(text) > len(left) + len(right) and text.startswith(left) and text.endswith(right)
            if quoted and left not in inner and right not in inner and not anchor.startswith(left):
                text = inner.strip()
    return " ".join(text.split())


class Refusal(WrittenGate):
    """An answer that says that the model cannot, or asks for the text; unless the anchor begins that way too."""

    name = "refusal"

    def refuses(self, draft: Draft) -> bool:
        """Return whether the positive begins like a refusal."""
        return _REFUSAL.match(draft.positive) is not None and _REFUSAL.match(draft.anchor) is None


@dataclass
class Copy(WrittenGate):
    """A positive that is the anchor again, or nearly.

    Args:
        overlap: twice the words that both have in the same order, over the words of both, above which it is a copy.
    """

    overlap: float = 0.9
    name = "copy"

    def refuses(self, draft: Draft) -> bool:
        """Return whether the two are nearly the same words in the same order."""
        a, b = (words(normalised(text))[:_COMPARED] for text in (draft.anchor, draft.positive))
        return SequenceMatcher(None, a, b, autojunk=False).ratio() > self.overlap


_COMPARED = 300
"""Words of each text that are compared; the time grows with their square."""


class Question(WrittenGate):
    """A question where a statement was asked."""

    name = "question"

    def refuses(self, draft: Draft) -> bool:
        """Return whether the positive asks, the anchor does not, and no question was asked for."""
        style = STYLES.get(draft.style)
        wanted = style is not None and style.asks
        return not wanted and _asks(draft.positive) and not _asks(draft.anchor)


def _asks(text: str) -> bool:
    return text.rstrip("\"'\u201d\u2019)*_ ").endswith(("?", "\uff1f", "\u061f"))
