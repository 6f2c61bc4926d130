"""Scores an encoder on the tasks of ``eval.tasks``; a task that fails does not keep the others from being scored."""

import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypedDict

from embedllm.errors import InputError
from embedllm.eval.encoder import TextEncoder, make_encoder
from embedllm.eval.rng import isolated_rng
from embedllm.eval.specs import TaskSpec
from embedllm.eval.tasks import PreparedTask, prepare_tasks
from embedllm.eval.threads import LiftingEncoder, one_thread

if TYPE_CHECKING:
    from embedllm.eval.paired import AnyEvidence

_BATCH = 1024  # texts a step of mteb's data loader; the encoder gets them all at once and batches by itself
_LONGEST_ERROR = 300  # characters

logger = logging.getLogger(__name__)


class DataError(ValueError):
    """The data of a task are there and cannot be used; the other tasks can be scored."""


class TaskScore(TypedDict, total=False):
    """The score of one task, or the reason why there is none (then ``error`` is the only key)."""

    main_score: float
    """MTEB's main score times 100 (accuracies, V-measures and correlations alike)."""
    metric: str
    """The name of the main score, such as ``v_measure``."""
    std: float | None
    """The standard deviation of ``main_score`` over mteb's repetitions; None where it makes none."""
    documents: int
    """How many texts were embedded: of similarity tasks two a pair, of classification training texts too."""
    mteb: str
    """The version of mteb that made it."""
    error: str
    """One sentence."""


def score_tasks(
    encoder: TextEncoder,
    specs: Sequence[TaskSpec],
    *,
    max_documents: int | None = None,
    on_result: Callable[[str, TaskScore], None] | None = None,
    on_evidence: Callable[[str, "AnyEvidence"], None] | None = None,
) -> dict[str, TaskScore]:
    """Return the score of each task by name, in order.

    The same vectors give the same scores to the last bit, and the global random states are left as they were. No
    result is cached.

    Args:
        encoder: Vectors are used as they are: a normalised encoder gives normalised vectors to k-means.
        specs: As parsed from ``eval.tasks``.
        max_documents: See :func:`embedllm.eval.tasks.prepare_tasks`.
        on_result: Called with the name and the score as soon as a task is done.
        on_evidence: Called before with the name and what a comparison with another score of the task needs, if there
            is such a thing. Without it none is gathered, which saves the time of clustering halves of the documents.

    Raises:
        InputError: A file cannot be used or a name is unknown, raised before anything is embedded; or the encoder
            raises it, as one does that loads its weights when they are needed: then no task can be scored.
    """
    scores: dict[str, TaskScore] = {}
    for task in prepare_tasks(specs, max_documents):
        with isolated_rng():
            scores[task.name], evidence = _score_or_error(encoder, task, gather=on_evidence is not None)
        if on_evidence is not None and evidence is not None:
            on_evidence(task.name, evidence)
        if on_result is not None:
            on_result(task.name, scores[task.name])
    return scores


def mean_score(scores: Mapping[str, TaskScore]) -> float | None:
    """Return the mean main score, or None if a task has none or there are no tasks."""
    if not scores or any("main_score" not in score for score in scores.values()):
        return None
    return sum(score["main_score"] for score in scores.values()) / len(scores)


def _score_or_error(encoder: TextEncoder, task: PreparedTask, gather: bool) -> tuple[TaskScore, "AnyEvidence | None"]:
    begin = time.perf_counter()
    try:
        score, evidence = _score(encoder, task, gather)
    except InputError:  # of the encoder
        raise
    except Exception as error:
        logger.debug("%s failed", task.name, exc_info=True)
        message = f"{type(error).__name__}: {' '.join(str(error).split())}"[:_LONGEST_ERROR]
        logger.warning("%s has no score: %s", task.name, message)
        return {"error": message}, None
    seconds = time.perf_counter() - begin
    logger.info(
        "%s: %s %.2f (%d texts, %.1f s)", task.name, score["metric"], score["main_score"], score["documents"], seconds
    )
    return score, evidence


def _score(encoder: TextEncoder, task: PreparedTask, gather: bool) -> tuple[TaskScore, "AnyEvidence | None"]:
    import mteb

    from embedllm.eval.gathering import gathering

    with _quiet_mteb(), one_thread() as lift:
        mteb_task = _load(task)
        metric = mteb_task.metadata.main_score
        with gathering(LiftingEncoder(encoder, lift), mteb_task) as gatherer:
            mteb_encoder = make_encoder(gatherer, "embedllm/encoder", "in-memory")
            result = mteb.evaluate(
                mteb_encoder,
                mteb_task,
                cache=None,  # goes by names: it would hand one model another's score
                co2_tracker=False,
                encode_kwargs={"batch_size": _BATCH, "show_progress_bar": False},
                prediction_folder=gatherer.prediction_folder if gather else None,
                show_progress_bar=False,
            )
            if not result.task_results:
                raise RuntimeError(result.exceptions[0].exception)
            main_score = 100 * float(result.task_results[0].get_score())
            if not math.isfinite(main_score):
                raise ValueError(f"its {metric} is {main_score}, as when all vectors are equal")
            evidence = gatherer.evidence(main_score) if gather else None
    std = _std([part for parts in result.task_results[0].scores.values() for part in parts], metric)
    score: TaskScore = {
        "main_score": main_score,
        "metric": metric,
        "std": std,
        "documents": mteb_encoder.texts_encoded,
        "mteb": version("mteb"),
    }
    return score, evidence


def _load(task: PreparedTask) -> Any:
    try:
        return task.load()
    except InputError as error:
        raise DataError(str(error)) from error


def _std(parts: Sequence[Mapping[str, Any]], metric: str) -> float | None:
    """Return mteb's standard deviation over its repetitions; None for several splits or languages, or without any."""
    if len(parts) != 1 or f"{metric}_std" not in parts[0]:
        return None
    return 100 * float(parts[0][f"{metric}_std"])


@contextmanager
def _quiet_mteb() -> Iterator[None]:
    """Hush mteb's progress lines, advice to change the classifier that MTEB prescribes, and what our error says."""
    from scipy.stats import ConstantInputWarning  # type: ignore[import-untyped]
    from sklearn.exceptions import ConvergenceWarning

    mteb_logger = logging.getLogger("mteb")
    level = mteb_logger.level
    mteb_logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for category in (ConvergenceWarning, ConstantInputWarning):
                warnings.simplefilter("ignore", category)
            yield
    finally:
        mteb_logger.setLevel(level)
