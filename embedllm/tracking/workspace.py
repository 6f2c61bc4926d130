"""A workspace of a study on Weights & Biases: what of it varies against its scores, ready to look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wandb

from embedllm.errors import InputError
from embedllm.runs import replace_text

MOST_GROUPS = 3
MOST_AXES = 8


@dataclass(frozen=True)
class StudyView:
    """What of a study is shown."""

    study: str
    """The group of its runs."""
    varying: Sequence[str]
    """Settings that differ from run to run, as W&B has them."""
    tasks: Sequence[str]
    trained: bool
    """Whether runs of it were trained."""
    scanned: bool
    """Whether scans are among them."""

    @property
    def groups(self) -> list[str]:
        """What runs are grouped by; seeds, and what varies besides, are averaged."""
        return [name for name in self.varying if name != "seed"][:MOST_GROUPS]


def check_online() -> None:
    """Raise if there is no server to make a workspace on.

    Raises:
        InputError: W&B is offline or disabled, nobody is logged in, or the server does not answer.
    """
    mode = wandb.setup().settings.mode
    if mode not in ("online", "shared"):
        raise InputError(f"WANDB_MODE: {mode!r}, but a workspace is made on the server; use WANDB_MODE=online")
    try:
        known = wandb.login(prompt=False, verify=True)
    except wandb.Error as error:
        raise InputError(f"W&B does not answer, so there is no workspace ({' '.join(str(error).split())})") from error
    if not known:
        raise InputError("W&B has no account, so there is no workspace; set one up with: wandb login")


def save_workspace(view: StudyView, project: str, entity: str | None, link: Path) -> str:
    """Make the workspace, or bring it up to date, and return its address.

    Args:
        view: what it shows.
        project: of the runs.
        entity: whose project it is; None: the user's own.
        link: the file that keeps its address.

    Raises:
        InputError: wandb-workspaces is not installed, or the server refuses.
    """
    workspaces = _package()
    try:
        made = build_workspace(view, project, entity or str(wandb.Api().default_entity))
        known = _known(workspaces, link)
        if known is not None:
            known.sections, known.settings = made.sections, made.settings
            known.runset_settings, known.name = made.runset_settings, made.name
        saved = (known or made).save()
    except Exception as error:  # requests, GraphQL and W&B have errors of their own
        reason = " ".join(str(error).split())
        raise InputError(f"W&B does not take the workspace of project {project!r} ({reason})") from error
    replace_text(link, f"{saved.url}\n")
    return str(saved.url)


def build_workspace(view: StudyView, project: str, entity: str) -> Any:
    """Return the workspace, which is not on the server yet.

    Raises:
        InputError: wandb-workspaces is not installed.
    """
    ws = _package()
    sections = [_scores(view), *([_training()] if view.trained else []), *([_scans()] if view.scanned else [])]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"embedllm: {view.study}",
        sections=[*sections, _figures()],
        settings=ws.WorkspaceSettings(x_axis="trainer/global_step", max_runs=50),
        runset_settings=ws.RunsetSettings(
            filters=ws.And(ws.Metric("Group") == view.study),
            groupby=[ws.Config(name) for name in view.groups],
            order=[ws.Ordering(ws.Summary("score"), ascending=False)],
            pinned_columns=["summary:score", "summary:score_before", "summary:gain", "summary:cost/seconds"],
        ),
    )


def _scores(view: StudyView) -> Any:
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    metrics = ["score", *(f"eval/{task}" for task in view.tasks)]
    bars = [
        wr.BarPlot(
            title=f"{metric} by {group}",
            metrics=[metric],
            groupby=wr.Config(group),
            groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
        )
        for metric in metrics
        for group in view.groups
    ]
    axes = [wr.ParallelCoordinatesPlotColumn(wr.Config(name), name) for name in view.varying[:MOST_AXES]]
    axes.append(wr.ParallelCoordinatesPlotColumn(wr.SummaryMetric("score"), "score"))
    panels = [wr.ParallelCoordinatesPlot(title="what varies, and the score", columns=axes), *bars]
    if view.trained:
        costs = {"cost/seconds": "seconds of training", "cost/trained_parameters": "trained parameters"}
        panels += [_scatter(f"score against {title}", cost) for cost, title in costs.items()]
        panels.append(_scatter("score after the training against that before", "score_before"))
    return ws.Section(name="Scores", panels=panels, is_open=True)


def _scatter(title: str, across: str) -> Any:
    import wandb_workspaces.reports.v2 as wr

    return wr.ScatterPlot(title=title, x=wr.SummaryMetric(across), y=wr.SummaryMetric("score"))


def _training() -> Any:
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    shown = {"train/loss": "loss", "dev/mean": "score of the development tasks", "train/grad_norm": "gradient norm"}
    panels = [wr.LinePlot(title=title, x="trainer/global_step", y=[metric]) for metric, title in shown.items()]
    return ws.Section(name="Training", panels=panels, is_open=True)


def _scans() -> Any:
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    panel = wr.LinePlot(
        title="scores along the layers", x="trainer/global_step", title_x="layer", metric_regex="scan/.*"
    )
    return ws.Section(name="Scans", panels=[panel], is_open=True)


def _figures() -> Any:
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    keys = ["figures/dev_curve", "figures/heat_map", "figures/report"]
    panels = [wr.MediaBrowser(title=key.partition("/")[2].replace("_", " "), media_keys=[key]) for key in keys]
    return ws.Section(name="Figures", panels=panels)


def _known(workspaces: Any, link: Path) -> Any:
    """Return the workspace that was made before; None if there is none, or it is no more."""
    if not link.is_file():
        return None
    try:
        return workspaces.Workspace.from_url(link.read_text(encoding="utf-8").strip())
    except Exception:  # deleted, or another server's
        return None


def _package() -> Any:
    try:
        import wandb_workspaces.workspaces as workspaces
    except ImportError as error:
        raise InputError(
            "wandb-workspaces is not installed, and makes the workspace; install it with: pip install "
            "'embedllm[dashboard]'"
        ) from error
    return workspaces
