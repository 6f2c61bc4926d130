"""Cut paragraphs into sentences and keep those that read well alone."""

import re
import unicodedata

from wikitext import HOLE


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NEVER_LAST = _words(
    "brig hr mlle mme messrs mr mrs ms dr prof sir gen col lt sgt capt cmdr adm maj rev hon vs cf e.g i.e eg ie c ca "
    "approx nos vols pp p eds viz esp"
)
"""Abbreviations that a name, a number or an explanation follows: they never end a sentence."""

_MAYBE_LAST = _words(
    "etc al jr sr inc ltd co corp bros dept univ assn u.s u.k u.n d.c b.c a.d b.c.e c.e a.m p.m ph.d m.d st fr mt ft "
    "gov sen rep pres fig no vol ed trans op lit fl jan feb mar apr jun jul aug sep sept oct nov dec est"
)
"""Abbreviations that end a sentence when a word follows that opens sentences."""

_STARTERS = _words(
    "the a an in on at of for from by with to as it its he she his her they their this that these those there when "
    "while after before although however during since some many most one two both such if but and another according"
)
_FUNCTION_WORDS = _words("the of a an and in to is was are were by for with that as on at from")
_BOUNDARY = re.compile(r"(?<=[.!?])([\"')]*)\s+(?=[\"'(]?[A-Z0-9])")
_DOUBLE_QUOTES, _SINGLE_QUOTES = "\u201c\u201d\u201e", "\u2018\u2019\u02bc"
_PUNCTUATION = str.maketrans(
    dict.fromkeys(_DOUBLE_QUOTES, '"')
    | dict.fromkeys(_SINGLE_QUOTES, "'")
    | {"\u2014": " - ", "\u2013": "-", "\u2026": "...", "\u00a0": " "}  # dashes, ellipsis, no-break space
)
_DEBRIS = re.compile(  # brackets, signs and gaps that running text has not
    r"[\[\]{}<>|=*#_\\^~@+/§•·→:]|https?|www\.|\.\.|\(\W*\)|\"\s*\"|\s[,;.!?)]|\(\s|,\s*[,.;)]|\(\s*[,;]|''|``|\s-\S|\S-\s"
    r"|[a-z]\.[A-Z]|[a-z][)\"]?[.,;][A-Za-z]|\bISBN\b|\bpx\b"
)


def split_sentences(paragraph: str) -> list[str]:
    """Return the sentences of a paragraph; a full stop after an abbreviation or an initial ends none."""
    text = paragraph.translate(_PUNCTUATION)
    text = re.sub(rf"\s*\([^()]*{HOLE}[^()]*\)", "", text)  # a pronunciation, mostly: the sentence stands without it
    text = " ".join(text.split())
    found, start = [], 0
    for match in _BOUNDARY.finditer(text):
        if _ends_sentence(text[start : match.start()], text[match.end() :]):
            found.append(text[start : match.start()] + match[1])
            start = match.end()
    return [*found, text[start:]]


def _ends_sentence(before: str, after: str) -> bool:
    if not before.endswith("."):
        return True
    last = before.split()[-1].rstrip(".").lstrip("(\"'").casefold()
    if last in _NEVER_LAST:
        return False
    is_initial = re.fullmatch(r"[a-z](\.[a-z])*", last) is not None
    if is_initial or last in _MAYBE_LAST:
        return re.split(r"\W", after.lstrip("\"'("), maxsplit=1)[0].casefold() in _STARTERS
    return True


def is_clean(sentence: str, min_words: int, max_words: int) -> bool:
    """Tell whether a sentence is a whole declarative English one, free of markup and of the remains of lists."""
    words = sentence.split()
    return (
        min_words <= len(words) <= max_words
        and re.match(r"(?!(?:And|Or|See|Note)\b)[A-Z][\w'-]*[ ,]", sentence) is not None
        and sentence.endswith((".", '."'))
        and HOLE not in sentence
        and not _DEBRIS.search(sentence)
        and _is_balanced(sentence)
        and _is_plain_english(sentence, words)
    )


def _is_balanced(sentence: str) -> bool:
    return sentence.count('"') % 2 == 0 and sentence.count("(") == sentence.count(")")


def _is_plain_english(sentence: str, words: list[str]) -> bool:
    foreign = [char for char in sentence if not char.isascii()]
    if len(foreign) > 3 or not all(unicodedata.name(char, "").startswith("LATIN") for char in foreign):
        return False
    letters = sum(char.isalpha() for char in sentence)
    lower = sum(word[0].islower() for word in words)
    return letters >= 0.75 * len(sentence) and lower >= 0.5 * len(words) and not _FUNCTION_WORDS.isdisjoint(words)
