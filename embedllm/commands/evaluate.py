"""``embedllm evaluate``: score one model, or several beside each other."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from embedllm.commands.base import MODEL_HELP, Commands
from embedllm.errors import InputError
from embedllm.eval.specs import TaskSpec, parse_specs
from embedllm.eval.suites import describe, load_suite
from embedllm.scoring import lacking, mteb_versions

BASELINE_HELP = "or a baseline: tfidf, or st: and the folder or Hub id of a model of sentence-transformers"

Scores = Mapping[str, Any]
"""Entries of ``result.json`` by task."""


def add_command(commands: Commands) -> None:
    """Add the command to the parser of ``embedllm``."""
    evaluate = commands.add_parser("evaluate", help="score models on MTEB tasks and local files")
    evaluate.add_argument("models", metavar="MODEL", nargs="+", help=f"{MODEL_HELP}; {BASELINE_HELP}")
    what = evaluate.add_mutually_exclusive_group()
    what.add_argument("--tasks", nargs="+", metavar="TASK", help="MTEB names and local files")
    what.add_argument(
        "--suite", default="embedded", help="a frozen list of tasks, one of conf/suite; default: embedded"
    )
    evaluate.add_argument("--mirror", metavar="DIR", help="read the data of MTEB tasks from a folder, not from the Hub")
    evaluate.add_argument("--max-documents", type=int, metavar="N", help="score a fixed sample of each task")
    evaluate.add_argument(
        "--allow-overlap", action="store_true", help="score a run on what picked its weights (eval.dev) too"
    )
    evaluate.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    """Print one line for each task of one model, or one table of several; the scores of a run go into its result."""
    if options.max_documents is not None and options.max_documents < 2:
        raise InputError(f"--max-documents: {options.max_documents} is not allowed; the lowest value is 2")
    models = list(options.models)
    twice = [model for model in models if models.count(model) > 1]
    if twice:
        raise InputError(f"MODEL: {twice[0]!r} is given more than once")
    tasks, sample = options.tasks, options.max_documents
    if tasks is None:
        suite = load_suite(options.suite)
        tasks, sample = list(suite.tasks), sample or suite.max_documents
    specs = parse_specs(tasks, "--tasks" if options.tasks else f"--suite {options.suite}", options.mirror)
    if not options.allow_overlap:
        _check_unseen(models, specs)
    _check(models, specs, sample)
    scores = {model: _score(model, specs, sample) for model in models}
    if len(models) == 1:
        _print_lines(scores[models[0]])
    else:
        _print_table(scores, [spec.name for spec in specs])
    if len(specs) > 1 or len(models) > 1:
        mteb = mteb_versions(entry for found in scores.values() for entry in found.values())
        print(f"tasks: {describe(tasks, sample, mirror=options.mirror, mteb_version=mteb)}")
    return 1 if any("error" in entry for found in scores.values() for entry in found.values()) else 0


def _check_unseen(models: Sequence[str], specs: Sequence[TaskSpec]) -> None:
    from embedllm.development import check_unseen

    for model in models:
        check_unseen(model, specs)


def _check(models: Sequence[str], specs: Sequence[TaskSpec], sample: int | None) -> None:
    """Raise an InputError for what is wrong with the last model or task before the first model is loaded.

    Models come first, as their check does not import mteb. What a run holds scores for need not be there.
    """
    from embedllm.eval.baselines import check_encoder, is_baseline

    missing: dict[str, TaskSpec] = {}
    for model in models:
        needed = specs if is_baseline(model) else lacking(model, specs, sample)
        if needed:
            check_encoder(model)
        missing |= {spec.name: spec for spec in needed}
    if missing:
        from embedllm.eval.tasks import prepare_tasks

        prepare_tasks(list(missing.values()), sample)


def _score(model: str, specs: Sequence[TaskSpec], sample: int | None) -> Scores:
    from embedllm.eval.baselines import is_baseline, open_encoder, score_encoder
    from embedllm.scoring import score_run

    if is_baseline(model):
        return score_encoder(open_encoder(model), specs, sample)
    return score_run(model, specs, sample)


def _print_lines(scores: Scores) -> None:
    """Print one line for each task, and their mean."""
    from embedllm.report.tables import mean_cell

    for name, entry in scores.items():
        print(f"{name}\t{entry['error'] if 'error' in entry else format(entry['main_score'], '.2f')}")
    if len(scores) > 1:
        print(f"mean\t{mean_cell([entry.get('main_score') for entry in scores.values()], 2)}")


def _print_table(scores: Mapping[str, Scores], tasks: Sequence[str]) -> None:
    """Print one row a model, its mean last; what went wrong goes to the standard error."""
    from embedllm.eval.baselines import display_name
    from embedllm.report.tables import aligned, mean_cell

    names = {model: display_name(model) for model in scores}
    if len(set(names.values())) < len(names):
        names = {model: model for model in scores}
    rows = [["model", *tasks, *(["mean"] if len(tasks) > 1 else [])]]
    for model, entries in scores.items():
        values = [entries[task].get("main_score") for task in tasks]
        means = [mean_cell(values, 2)] if len(tasks) > 1 else []
        rows.append([names[model], *("-" if value is None else f"{value:.2f}" for value in values), *means])
        for task in tasks:
            if "error" in entries[task]:
                print(f"{names[model]}: {task}: {entries[task]['error']}", file=sys.stderr)
    print(aligned(rows, left=1))
