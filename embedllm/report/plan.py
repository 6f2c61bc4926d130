"""What a study was to hold: the jobs that a report counts as missing where they left nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedllm.study import StudyFolder


@dataclass(frozen=True)
class Planned:
    """A job of a study."""

    name: str
    """Of its folder; its settings if it has none."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """All its settings, as in ``result.json``; empty where they are not known."""
    choices: Mapping[str, str] = field(default_factory=dict)
    error: str = ""
    """What is wrong with its settings, if it can never be made."""


def planned(folder: Path) -> tuple[list[Planned], list[str]]:
    """Return the jobs that the study in ``folder`` was to hold, and a sentence for each plan that cannot be read."""
    runs, damaged = StudyFolder(folder).plans()
    jobs = [Planned(run.name or " ".join(run.settings), run.config, run.choices, run.error or "") for run in runs]
    return jobs, damaged
