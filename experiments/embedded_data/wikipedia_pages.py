"""The Wikipedia articles that the PyPI wheel of gensim carries as test data."""

import bz2
import hashlib
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

GENSIM = "gensim==4.4.0"
_MEMBER = "gensim/test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
_MEMBER_SHA256 = "a53f4648dec40467ebdcbc7a1307eddb51fe6e28e9309f6ebde81ba0d04bea2d"


class Page(NamedTuple):
    """One revision of one article."""

    title: str
    page_id: int
    revision_id: int
    timestamp: str
    """Time of the revision, ISO 8601, UTC."""
    wikitext: str


def read_dump(wheel: Path | None) -> bytes:
    """Return the XML of the dump, from a gensim wheel on disk or from the one that pip downloads."""
    if wheel is not None:
        return _read_member(wheel)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        subprocess.run([*command, "--dest", folder, GENSIM], check=True)
        return _read_member(next(Path(folder).glob("gensim-*.whl")))


def _read_member(wheel: Path) -> bytes:
    packed = zipfile.ZipFile(wheel).read(_MEMBER)
    found = hashlib.sha256(packed).hexdigest()
    if found != _MEMBER_SHA256:
        raise SystemExit(f"{wheel.name}: {_MEMBER} has SHA-256 {found}, expected {_MEMBER_SHA256}")
    return bz2.decompress(packed)


def read_articles(dump: bytes) -> Iterator[Page]:
    """Yield the articles of the dump in its order; redirects, lists and disambiguation pages are none."""
    root = ET.fromstring(dump)
    ns = {"w": root.tag[1:].partition("}")[0]}
    for page in root.iterfind("w:page", ns):

        def field(path: str, page: ET.Element = page) -> str:
            return page.findtext(path, default="", namespaces=ns)

        title = field("w:title")
        is_running_text = not title.startswith("List of ") and "(disambiguation)" not in title
        if page.find("w:redirect", ns) is not None or field("w:ns") != "0" or not is_running_text:
            continue
        yield Page(
            title,
            int(field("w:id")),
            int(field("w:revision/w:id")),
            field("w:revision/w:timestamp"),
            field("w:revision/w:text"),
        )
