"""Turn wikitext into paragraphs of plain text.

What cannot be shown as plain text (a template, a formula) leaves ``HOLE`` behind, so that a sentence with something
missing can be recognised and left out instead of being read as if it were whole.
"""

import html
import re
from collections.abc import Callable

HOLE = "\ufffc"
"""OBJECT REPLACEMENT CHARACTER: here stood something that has no plain text."""

_SILENT_TEMPLATE = re.compile(
    r"(cite|citation|cn|fact|sfn\w*|harv\w*|efn\w*|refn?|rp|r|note|ref label|who|whom|when|where|which|why|by whom|"
    r"clarify|dubious|verify\w*|page needed|better source|failed verification|update\w*|use \w+ dates|dead link|"
    r"disputed.inline|original research|vague|weasel.inline|specify|anchor|clear|shy|main|see also|further|details|"
    r"about|other uses|portal|distinguish|hatnote|infobox|multiple image|quote box)\b",
    re.IGNORECASE,
)
"""Templates that leave no gap in a sentence: notes, marks of editors, boxes."""

_TRANSPARENT_TEMPLATE = re.compile(r"\s*(?:nowrap|nobr|lang|transl|small|em|nobold)\s*\|(?:.*\|)?([^|=]*)$", re.DOTALL)
"""Templates that show their last argument."""

_LAST_SECTIONS = re.compile(
    r"^==\s*(references|notes|external links|see also|further reading|bibliography|sources|footnotes|citations|"
    r"notes and references|works cited|works|publications|filmography|discography|selected \w+)\s*==.*",
    re.IGNORECASE | re.DOTALL | re.MULTILINE,
)
_HIDDEN_LINK = re.compile(r"\s*(?:file|image|category|media|[a-z]{2,3}(?:-[a-z]+)?)\s*:", re.IGNORECASE)
_DROPPED_ELEMENTS = "gallery|timeline|imagemap|source|syntaxhighlight|pre|blockquote|poem|table|div|score"
_HOLE_ELEMENTS = "math|chem|code|nowiki|sub|sup|hiero|samp|kbd|var"
_LIST_OR_TABLE_LINE = re.compile(r"^[*#:;|!{=]")


def paragraphs(wikitext: str) -> list[str]:
    """Return the paragraphs of running text, in order; lists, tables, headings and the closing sections are gone."""
    text = re.sub(r"<!--.*?-->", "", wikitext, flags=re.DOTALL)
    text = _without_elements(text)
    text = _replace_innermost(text, re.compile(r"\{\{((?:(?!\{\{|\}\}).)*)\}\}", re.DOTALL), _show_template)
    text = _replace_innermost(text, re.compile(r"\{\|(?:(?!\{\||\|\}).)*\|\}", re.DOTALL), lambda _: "\n")
    text = _replace_innermost(text, re.compile(r"\[\[([^\[\]]*)\]\]"), _show_link)
    text = _LAST_SECTIONS.sub("", text)
    text = re.sub(r"\[(?:https?:|ftp:)?//[^\s\]]*\s*([^\]]*)\]", r"\1", text)
    text = re.sub(r"'{2,}", "", text)
    text = re.sub(r"</?\w+[^<>]*>", "", text)
    text = html.unescape(text)
    lines = (line.strip() for line in text.splitlines())
    return [" ".join(line.split()) for line in lines if line and not _LIST_OR_TABLE_LINE.match(line)]


def _without_elements(text: str) -> str:
    text = re.sub(r"<ref\b[^<>]*/>", "", text, flags=re.IGNORECASE)
    text = re.sub(r"<ref\b[^<>]*>.*?</ref\s*>", "", text, flags=re.IGNORECASE | re.DOTALL)
    text = re.sub(r"(?<!')<sub>(\d+)</sub>", r"\1", text)  # CO2 reads well; an italic variable with an index does not
    for names, replacement in ((_DROPPED_ELEMENTS, "\n"), (_HOLE_ELEMENTS, HOLE)):
        text = re.sub(rf"<({names})\b[^<>]*/>", replacement, text, flags=re.IGNORECASE)
        text = re.sub(rf"<({names})\b[^<>]*>.*?</\1\s*>", replacement, text, flags=re.IGNORECASE | re.DOTALL)
    return re.sub(r"<br\b[^<>]*>", HOLE, text, flags=re.IGNORECASE)


def _replace_innermost(text: str, pattern: re.Pattern[str], show: Callable[[re.Match[str]], str]) -> str:
    """Replace what is nested from the inside out, until nothing is left to replace."""
    count = 1
    while count:
        text, count = pattern.subn(show, text)
    return text


def _show_template(match: re.Match[str]) -> str:
    body = match[1].strip()
    if _SILENT_TEMPLATE.match(body):
        return ""
    shown = _TRANSPARENT_TEMPLATE.match(body)
    return shown[1] if shown else HOLE


def _show_link(match: re.Match[str]) -> str:
    target, _, label = match[1].partition("|")
    if _HIDDEN_LINK.match(target):
        return ""
    return label.rpartition("|")[2] or target.lstrip(":")
