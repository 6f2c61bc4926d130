"""``embedllm attention``: what a vector is made of, before, along and after a training."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from embedllm.commands.base import MODEL_HELP, Commands
from embedllm.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedllm.analysis.stages import Source

_HEADER = b"stage,measure,layer,"
"""What the csv files of this command begin with."""

_OF_A_CORPUS = {"column": "text", "max_texts": 500, "attribute": 20}
"""Options that a single text does not take, and what they are if they are not given."""

_EPILOG = """\
A trained run is shown before its training, after each of its trainer.snapshots, and after it. The numbers go into a
csv file beside FIG. For one text: the attention of the pooled position for each layer and head, the distance that the
vector moves when a token is left out, and gradient x input. For a corpus: the shares of BOS, prompt, content words,
stop words and punctuation, with intervals over its texts.

  embedllm attention runs/mine/last-cluster-* --text "a man is driving a car" -o attention.png
  embedllm attention runs/mine/last-cluster-* --corpus texts.txt -o corpus.svg
  embedllm attention embedded:smollm2_135m --text "a man is driving a car" --layer 12 -o heads.png"""


def add_command(commands: Commands) -> None:
    """Add the command to the parser of ``embedllm``."""
    attention = commands.add_parser(
        "attention",
        help="draw where the pooled position looks, and which tokens a vector depends on",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    attention.add_argument("model", metavar="RUN", help=MODEL_HELP)
    attention.add_argument(
        "--compare", nargs="+", action="extend", metavar="RUN", default=[], help="other runs of the same model"
    )
    what = attention.add_mutually_exclusive_group(required=True)
    what.add_argument("--text", help="one text")
    what.add_argument("--corpus", metavar="FILE", help="csv, tsv, jsonl, parquet or txt (also .gz), or embedded:NAME")
    attention.add_argument("-o", "--output", metavar="FIG", type=Path, required=True, help="a .png, .svg or .pdf file")
    attention.add_argument(
        "--layer", type=int, metavar="N", help="a text: show the heads of this layer; default: all layers, and the last"
    )
    corpus = attention.add_argument_group("options of a corpus")
    corpus.add_argument("--column", help="of the texts in a table; default: text")
    corpus.add_argument("--max-texts", type=int, metavar="N", help="a fixed sample; default: 500")
    corpus.add_argument("--attribute", type=int, metavar="N", help="texts that are also attributed; default: 20")
    attention.set_defaults(run=_attention)


def _attention(options: argparse.Namespace) -> int:
    _complete(options)
    _check(options)

    from embedllm.analysis.stages import check_depth, sources

    found = sources(options.model, options.compare, one_prompt=options.text is not None)
    check_depth(options.model, options.layer)
    if options.text is None:
        _corpus(options, found)
    else:
        _text(options, found)
    print(f"\n{options.output}\n{options.output.with_suffix('.csv')}")
    return 0


def _text(options: argparse.Namespace, found: "Sequence[Source]") -> None:
    from embedllm.analysis.single_text import analyse_text, text_csv
    from embedllm.analysis.summary import pooled_positions, text_summary
    from embedllm.report.attention_text import draw_text
    from embedllm.runs import replace_text

    stages = list(analyse_text(found, options.text, options.layer))
    layer = options.layer or stages[0].rows.layers[-1]
    print(text_summary(stages, layer))
    replace_text(options.output.with_suffix(".csv"), text_csv(stages))
    title = f"What the pooled position reads: {pooled_positions(stages)}"
    draw_text(stages, options.output, layer=layer, heads=options.layer is not None, title=title)


def _corpus(options: argparse.Namespace, found: "Sequence[Source]") -> None:
    from embedllm.analysis.corpus import analyse_corpus, corpus_csv, read_corpus
    from embedllm.analysis.summary import corpus_summary, pooled_positions
    from embedllm.report.attention_corpus import draw_corpus
    from embedllm.runs import replace_text

    texts = read_corpus(options.corpus, options.column, options.max_texts)
    stages = list(analyse_corpus(found, texts, options.attribute, options.layer))
    layer = options.layer or stages[0].layers[-1]
    print(corpus_summary(stages, layer))
    replace_text(options.output.with_suffix(".csv"), corpus_csv(stages))
    title = (
        f"What the pooled position reads: {pooled_positions(stages)}, {len(texts)} texts of {Path(options.corpus).name}"
    )
    draw_corpus(stages, options.output, layer=layer, title=title)


def _complete(options: argparse.Namespace) -> None:
    """Set the options of a corpus that are not given; raise for one that is given beside a text."""
    for name, default in _OF_A_CORPUS.items():
        if getattr(options, name) is None:
            setattr(options, name, default)
        elif options.text is not None:
            raise InputError(f"--{name.replace('_', '-')}: goes with --corpus; leave it out with --text")


def _check(options: argparse.Namespace) -> None:
    """Raise for what needs no model to be seen."""
    output = options.output
    if output.suffix not in (".png", ".svg", ".pdf"):
        raise InputError(f"--output: {str(output)!r} does not end in .png, .svg or .pdf")
    folder = output.resolve().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise InputError(f"--output: the folder of {str(output)!r} cannot be written to")
    if output.is_dir():
        raise InputError(f"--output: {str(output)!r} is a folder; give a new file")
    _check_numbers(output)
    if options.text is not None and not options.text.strip():
        raise InputError("--text: it is blank; give a text of at least one token")
    if options.max_texts < 2:
        raise InputError(f"--max-texts: {options.max_texts} is not allowed; the lowest value is 2")
    if options.attribute < 0:
        raise InputError(f"--attribute: {options.attribute} is not allowed; the lowest value is 0")


def _check_numbers(output: Path) -> None:
    """Raise if the csv file beside the figure is there and is none of ours: it may be the corpus."""
    table = output.with_suffix(".csv")
    if not table.exists():
        return
    if table.is_dir() or not _begins_as_ours(table):
        raise InputError(
            f"--output: the numbers of {str(output)!r} go into {str(table)!r}, which holds something else; give "
            "another name"
        )


def _begins_as_ours(table: Path) -> bool:
    with table.open("rb") as file:
        return file.read(len(_HEADER)) == _HEADER
