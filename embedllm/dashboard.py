"""A study as Weights & Biases has it: which of its runs are tracked, what of them varies, its report and figures."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedllm import tracked
from embedllm.errors import InputError
from embedllm.runs import RunFolder
from embedllm.tracking import Identity, NoTracker, build_sinks
from embedllm.tracking.workspace import StudyView

Result = Mapping[str, Any]

REPORTED = (".png", ".svg", ".pdf", ".html", ".md", ".csv", ".tex")
"""What is recorded of the files of a study and of its report."""
DERIVED = {
    "pooling/_target_": "pooling",
    "prompt/template": "prompt",
    "model/name": "model",
    "loss/_target_": "loss",
    "data/path": "data",
}
"""Settings that vary with the option of a group, which has a better name."""
NAMES = ("run", "run_id", "runs_dir", "study")
"""Settings that vary by nature."""


@dataclass(frozen=True)
class TrackedStudy:
    """A study of which runs are on W&B."""

    path: Path
    node: Mapping[str, Any]
    """The logger of its runs."""
    view: StudyView

    @property
    def project(self) -> str:
        """Of its runs."""
        return str(self.node["project"])

    @property
    def entity(self) -> str | None:
        """Whose project that is; None: the user's own."""
        return self.node.get("entity") or os.environ.get("WANDB_ENTITY")


def read_tracked(path: Path) -> TrackedStudy:
    """Read the folder of a study.

    Raises:
        InputError: there is no run in it that is on W&B, or they are of several studies.
    """
    where = f"STUDY: {str(path)!r}"
    if not path.is_dir():
        raise InputError(f"{where} is no folder; give that of a study, such as runs/mine")
    results = list(_results(path))
    if not results:
        raise InputError(f"{where} holds no finished run; give the folder of a study, such as runs/mine")
    nodes = [node for result in results for node in _nodes(result)]
    if not nodes:
        raise InputError(f"{where}: no run of it is on W&B; make them with logger=wandb")
    studies = list(dict.fromkeys(result["study"] for result in results))
    if len(studies) > 1:
        raise InputError(f"{where} holds runs of the studies {', '.join(studies)}; put each into a folder of its own")
    entries = [part["tasks"] for result in results for part in result.get("cells", [result])]
    view = StudyView(
        study=studies[0],
        varying=_varying([tracked.settings(one["config"], one["choices"], RunFolder(path)) for one in results]),
        tasks=list(dict.fromkeys(task for tasks in entries for task in tasks)),
        trained=any(result.get("train") for result in results),
        scanned=any("cells" in result for result in results),
    )
    return TrackedStudy(path, nodes[-1], view)


def record_report(study: TrackedStudy) -> list[Path]:
    """Record the figures of a study and its report in its W&B group; return the files.

    It is a W&B run of its own, and always the same one.
    """
    folders = (study.path, study.path / "report")
    found = [path for folder in folders for path in sorted(folder.glob("*")) if path.suffix in REPORTED]
    files = list({path.name: path for path in found}.values())
    if files:
        folder = RunFolder(study.path / "report")
        folder.create()
        identity = Identity(folder, study.view.study, "report")
        tracker = NoTracker(build_sinks({"wandb": study.node}, identity))
        tracker.start({"study": study.view.study})
        tracker.finish({}, files)
    return files


def _results(path: Path) -> Iterator[Result]:
    """Yield the results of runs and scans; what is damaged is not on the dashboard."""
    for folder in sorted(child for child in path.iterdir() if child.is_dir()):
        run = RunFolder(folder)
        found = run.read_result()
        if found is None and run.scan.is_file():
            try:
                found = json.loads(run.scan.read_text(encoding="utf-8"))
            except ValueError:
                continue
        if found is not None and {"config", "choices", "study"} <= set(found):
            yield found


def _varying(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the settings that differ between ``rows``: groups first, the seed last."""
    names = dict.fromkeys(name for row in rows for name in row if name not in NAMES)
    differ = [name for name in names if len({str(row.get(name)) for row in rows}) > 1]
    plain = [name for name in differ if not any(isinstance(row.get(name), list) for row in rows)]
    kept = [name for name in plain if DERIVED.get(name) not in plain]
    return sorted(kept, key=lambda name: (name == "seed", "/" in name))


def _nodes(result: Result) -> list[Mapping[str, Any]]:
    nodes = result["config"].get("logger", {}).values()
    return [node for node in nodes if node["_target_"].endswith(".WandbLogger")]
