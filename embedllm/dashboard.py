"""A study as Weights & Biases has it: which of its runs are tracked, what of them varies, its report and figures."""

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedllm import tracked
from embedllm.errors import InputError
from embedllm.runs import RunFolder
from embedllm.tracking import Identity, NoTracker, build_sinks, wandb_nodes
from embedllm.tracking.workspace import StudyView

log = logging.getLogger(__name__)

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


class NotTracked(InputError):
    """No run of a study is on W&B."""


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
        NotTracked: there is no run in it that is on W&B.
        InputError: they are of several studies.
    """
    where = f"STUDY: {str(path)!r}"
    if not path.is_dir():
        raise InputError(f"{where} is no folder; give that of a study, such as runs/mine")
    results = list(_results(path))
    if not results:
        raise NotTracked(f"{where} holds no finished run; give the folder of a study, such as runs/mine")
    nodes = [node for result in results for node in _nodes(result)]
    if not nodes:
        raise NotTracked(f"{where}: no run of it is on W&B; make them with logger=wandb")
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


def record_report(study: TrackedStudy, report: Path | None = None) -> list[Path]:
    """Record the figures of a study and its report in its W&B group; return the files, none if W&B does not take them.

    It is a W&B run of its own, and always the same one.

    Args:
        study: of the report.
        report: the folder that the report is in; None: the one in the study's.
    """
    folders = (study.path, report or study.path / "report")
    found = [path for folder in folders for path in sorted(folder.glob("*")) if path.suffix in REPORTED]
    files = list({path.name: path for path in found}.values())
    if not files:
        return []
    folder = RunFolder(study.path / "report")
    folder.create()
    identity = Identity(folder, study.view.study, "report")
    tracker = NoTracker(build_sinks({"wandb": study.node}, identity))
    tracker.start({"study": study.view.study})
    tracker.finish({}, files)
    return files if tracker.sinks else []


def publish(path: Path, report: Path) -> None:
    """Record a report that was written, if the runs of the study are on W&B; what fails there is a warning.

    Args:
        path: of the study.
        report: the folder that its report is in.
    """
    try:
        files = record_report(read_tracked(path), report)
    except NotTracked:
        return
    except InputError as error:
        log.warning("the report is not recorded with W&B: %s", error)
    except Exception as error:  # whatever a third party's service raises
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        log.warning("the report is not recorded with W&B: %s", reason)
    else:
        if files:
            log.info("%d files of the study are recorded with W&B", len(files))


def report_and_publish(path: Path) -> None:
    """Write the report of a study whose runs are on W&B into its folder, and record it; what fails is a warning."""
    from embedllm.report.writer import write_report

    try:
        write_report(path, path / "report")
    except InputError as error:  # only scans, which have figures all the same
        log.info("no report is written: %s", error)
    except Exception as error:  # the runs are done whatever becomes of their report
        log.warning("the report of %s cannot be written: %s: %s", path, type(error).__name__, error)
    publish(path, path / "report")


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
        if found is not None and _is_whole(found):
            yield found


def _is_whole(found: Any) -> bool:
    """Return whether a result has what is read here."""
    if not isinstance(found, Mapping) or not isinstance(found.get("study"), str):
        return False
    loggers = found["config"].get("logger") or {} if isinstance(found.get("config"), Mapping) else None
    if not isinstance(loggers, Mapping) or not all(map(_is_logger, loggers.values())):
        return False
    parts = found.get("cells", [found])
    scored = isinstance(parts, list) and all(
        isinstance(part, Mapping) and isinstance(part.get("tasks"), Mapping) for part in parts
    )
    return scored and isinstance(found.get("choices"), Mapping)


def _is_logger(node: Any) -> bool:
    return isinstance(node, Mapping) and "_target_" in node


def _varying(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the settings that differ between ``rows``: groups first, the seed last."""
    names = dict.fromkeys(name for row in rows for name in row if name not in NAMES)
    differ = [name for name in names if len({str(row.get(name)) for row in rows}) > 1]
    plain = [name for name in differ if not any(isinstance(row.get(name), list) for row in rows)]
    kept = [name for name in plain if DERIVED.get(name) not in plain]
    return sorted(kept, key=lambda name: (name == "seed", "/" in name))


def _nodes(result: Result) -> list[Mapping[str, Any]]:
    return wandb_nodes(result["config"].get("logger") or {})
