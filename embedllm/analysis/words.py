"""Stop words and content words of a text, character by character.

Stop words are the closed classes of English: articles, pronouns, prepositions, conjunctions, auxiliaries, and the
adverbs of degree and negation. Lists of search engines hold nouns and verbs too ("system", "fire", "cry"). In another
language every word counts as content.
"""

import re
import unicodedata

CONTENT, STOP, PUNCTUATION = "content", "stop", "punctuation"

_CLOSED_CLASSES = """
    a an the
    i me my mine myself we us our ours ourselves you your yours yourself yourselves he him his himself she her hers
    herself it its itself they them their theirs themselves one oneself
    this that these those here there who whom whose which what when where why how whoever whatever whichever whenever
    wherever someone somebody something anyone anybody anything everyone everybody everything none nobody nothing
    all any both each either every few less little many more most much neither no other others another own same several
    some such enough
    about above across after against along among around as at before behind below beneath beside besides between beyond
    by despite down during except for from in inside into near of off on onto out outside over past per since through
    throughout till to toward towards under until up upon via with within without
    and but or nor so yet if because although though unless while whereas whether than then once
    am is are was were be been being have has had having do does did doing done can could may might must shall should
    will would ought
    not never also just only even still too very quite rather almost again ever already however thus hence therefore
    s t re ve ll d m don didn doesn isn aren wasn weren hasn haven hadn couldn shouldn wouldn mustn mightn ain ca wo sha
"""
STOP_WORDS = frozenset(_CLOSED_CLASSES.split())
"""Lower case, parts of contractions included."""

_APOSTROPHE = "['\u2019]"
_WORD = re.compile(rf"[^\W_]+(?:{_APOSTROPHE}[^\W_]+)*")


def is_stop_word(word: str) -> bool:
    """Return whether a word, contractions included, is of a closed class."""
    return all(part in STOP_WORDS for part in re.split(_APOSTROPHE, word.lower()))


def kinds_of_characters(text: str) -> list[str]:
    """Return for each character whether it stands in a content word, in a stop word, or in neither."""
    kinds = [PUNCTUATION] * len(text)
    for word in _WORD.finditer(_without_marks(text)):
        place = slice(word.start(), word.end())
        kinds[place] = [STOP if is_stop_word(text[place]) else CONTENT] * len(word.group())
    return kinds


def is_mark(character: str) -> bool:
    """Return whether a character is an accent or a vowel sign, which in many scripts stands apart from its letter."""
    return unicodedata.category(character).startswith("M")


def _without_marks(text: str) -> str:
    """Return the text with a letter in place of each mark that follows one, so that words hold together."""
    plain: list[str] = []
    for character in text:
        follows = bool(plain) and plain[-1].isalnum() and is_mark(character)
        plain.append("x" if follows else character)
    return "".join(plain)
