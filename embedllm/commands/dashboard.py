"""``embedllm dashboard``: a study on Weights & Biases, its report as an artifact and a workspace to look at it."""

import argparse
import logging
from pathlib import Path

from embedllm.commands.base import Commands

log = logging.getLogger(__name__)


def add_command(commands: Commands) -> None:
    """Add the command to the parser of ``embedllm``."""
    show = commands.add_parser("dashboard", help="add a study's report to its W&B group, and make a workspace of it")
    show.add_argument("study", metavar="STUDY", type=Path, help="the folder of a study, such as runs/mine")
    show.set_defaults(run=_dashboard)


def _dashboard(options: argparse.Namespace) -> int:
    """Record the report, offline too, and print the address of the workspace."""
    from embedllm.dashboard import read_tracked, record_report
    from embedllm.tracking.workspace import check_online, save_workspace

    study = read_tracked(options.study.expanduser())
    recorded = record_report(study)
    if recorded:
        log.info("%d files of the study are recorded with W&B", len(recorded))
    check_online()
    print(save_workspace(study.view, study.project, study.entity, study.path / "dashboard.txt"))
    return 0
