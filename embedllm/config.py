"""The settings: their names, types and defaults, and the checks that need neither torch nor a model.

Hydra merges ``conf/*.yaml`` and the command line into :class:`Config`. Groups that name a class (``pooling``,
``logger``) are open dictionaries; :mod:`embedllm.targets` holds them against the signature of the class.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from embedllm.errors import InputError, unknown


@dataclass
class ModelConfig:
    """``model``: the backbone and how it is loaded."""

    name: str = MISSING
    """``embedded:NAME``, a folder, a GGUF file or a Hub id."""
    layers: int | None = None
    """Keep the first so many layers; null: all."""
    final_norm: bool = True
    """Whether the final norm follows the last layer that is kept."""
    attention: str = "causal"
    """causal | bidirectional"""
    dtype: str = "auto"
    """auto | float32 | bfloat16 | float16; auto is bfloat16 where the hardware is fast in it."""
    max_length: int = 512
    """Tokens of the whole prompt; longer texts are cut."""


@dataclass
class PromptConfig:
    """``prompt``: the text around the text."""

    template: str = MISSING
    """Has one ``{text}``."""
    bos: bool | str = "auto"
    """auto | true | false: start with BOS; auto does what the tokenizer does by itself."""


@dataclass
class AdapterConfig:
    """``adapter``: which weights are trained."""

    kind: str = "none"
    """none | lora | dora | qlora | full"""
    r: int = 64
    """Rank of the update of a weight matrix."""
    alpha: float = 16
    """The update is scaled by alpha / r."""
    dropout: float = 0.05
    layers: int | None = None
    """Train the top so many layers; null: all."""
    target_modules: list[str] | None = None
    """Names of linear layers; null: all linear layers of the blocks."""
    path: str | None = None
    """Continue from a run, a saved model or a PEFT folder."""


@dataclass
class DataConfig:
    """``data``: the training pairs. A column is a name, or its position in a file without a header."""

    path: str = MISSING
    """A csv, tsv, jsonl, parquet or txt file; ``embedded:NAME``; ``hub:owner/name[:config][:split]`` or
    ``hub:owner/name/FILE``."""
    anchor: int | str = "anchor"
    positive: int | str = "positive"
    """A source without this column holds single texts, and ``augment`` or ``label`` makes the positives."""
    negative: Any = None
    """One column of hard negatives, or a list of them."""
    label: int | str | None = None
    """Texts of one label are each other's positives, and never negatives."""
    max_pairs: int | None = None
    augment: Any = None
    """Makes a positive of a text that has none; a file's own positives are left as they are."""


@dataclass
class TrainerConfig:
    """``trainer``: how long, how large, on what."""

    max_steps: int = 40
    """Optimizer steps; 0: the model is scored as it is."""
    batch_size: int = 32
    """Pairs that compete in one loss."""
    accumulate: int = 1
    """Pools whose gradients make one step; they add no negatives."""
    micro_batch_tokens: Any = "auto"
    """Tokens of one forward pass, padding included: a matter of time and memory, never of the result."""
    grad_cache: bool = False
    """Run the micro-batches twice, so that memory does not grow with batch_size."""
    gradient_checkpointing: bool | None = None
    """Compute the states of each block again in the backward pass instead of keeping them; changes no gradient."""
    compile: bool | None = None
    """Compile the blocks with ``torch.compile``, for training without dropout; changes no gradient but for rounding."""
    precision: str = "auto"
    """auto | float32 | bfloat16: of the forward pass; auto is bfloat16 where the hardware is fast in it."""
    warmup: int = 0
    """Steps over which the learning rate rises."""
    schedule: str = "linear"
    """linear | cosine | constant: what it does then."""
    clip: float | None = 1.0
    """Largest norm of the gradient; null: not clipped."""
    checkpoint_every: int | None = 10
    """Steps; null: only at the end or when stopped."""
    snapshots: list[int] | None = None
    """Steps after which the model is kept, in ``steps/``, to look at later; null: none."""
    eval_every: int | None = None
    """Steps between two scorings of ``eval.dev``."""
    devices: int = 1
    """Of this machine, that share each pool; they change no gradient. ``torchrun`` starts those of several machines."""


@dataclass
class EvalConfig:
    """``eval``: what the model is scored on."""

    tasks: list[str] = field(default_factory=list)
    """MTEB names and paths of local files, mixed; [] is allowed."""
    max_documents: int | None = None
    """Score a fixed sample of so many documents of each task; null: all."""
    dev: list[str] = field(default_factory=list)
    """Tasks, as in ``tasks``, that are scored every ``trainer.eval_every`` steps and pick the weights that are kept."""
    dev_documents: int | None = None
    """As ``max_documents``, for ``dev``; null: the same."""
    select: bool = True
    """false: ``dev`` is scored and logged, and the last weights are kept."""
    patience: int | None = None
    """Stop the training after so many scorings of ``dev`` without a new best; null: never."""
    average: int | None = None
    """Average the weights of the best so many scorings, if ``dev`` likes the average better than the best."""
    allow_overlap: bool = False
    """Allow a task in both ``dev`` and ``tasks``; its score after the training is then too good."""
    mirror: str | None = None
    """A folder that holds the data of MTEB tasks, read instead of the Hub."""
    cache: bool = True
    """Keep the vectors of untrained models on disk, for other runs to read."""
    intrinsic: bool = True
    """Measure alignment, uniformity, effective rank and mean cosine too."""


@dataclass
class ScanConfig:
    """``scan``: score many poolings and depths of an untrained model from one forward pass, instead of making a run."""

    poolings: list[str] = field(default_factory=list)
    """Options of conf/pooling; empty: no scan."""
    pool_over: list[str] = field(default_factory=lambda: ["all"])
    """all | text | suffix: what is possible with the head and the prompt is scanned."""
    every: int | None = None
    """Scan every so many layers, counted from the last one of ``model.layers``; null: that one only."""
    centring: list[bool] = field(default_factory=lambda: [False, True])


@dataclass
class Config:
    """All settings of a run."""

    study: str = MISSING
    seed: int = MISSING
    runs_dir: str = MISSING
    model: ModelConfig = field(default_factory=ModelConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    pooling: dict[str, Any] = field(default_factory=dict)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    logger: dict[str, Any] = field(default_factory=dict)
    centring: bool = False
    """Subtract the mean vector of a fixed corpus from every vector, after the training and in every score."""
    scan: ScanConfig = field(default_factory=ScanConfig)
    export: bool = False
    """Also write ``export/`` into the run folder, for sentence-transformers."""
    dry_run: bool = False
    """Time a few steps, say what the training will take, and write nothing."""


LOWEST = {
    "seed": 0,
    "model.max_length": 1,
    "data.max_pairs": 2,
    "trainer.max_steps": 0,
    "trainer.batch_size": 2,
    "trainer.accumulate": 1,
    "trainer.warmup": 0,
    "trainer.checkpoint_every": 1,
    "trainer.devices": 1,
    "trainer.eval_every": 1,
    "scan.every": 1,
    "eval.max_documents": 2,
    "eval.dev_documents": 2,
    "eval.patience": 1,
    "eval.average": 1,
}
"""The lowest value that a setting may have."""


def config_dir() -> Path:
    """Return the folder of the YAML files: inside an installed wheel, or beside the package in a checkout."""
    package = Path(__file__).resolve().parent
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"


def check_known(plain: Mapping[str, Any], schema: Any = Config, path: str = "") -> None:
    """Raise for the first key of ``plain`` that ``schema`` does not have (Hydra lets ``+key=value`` add any)."""
    if is_dataclass(schema):
        types = {item.name: item.type for item in fields(schema)}
        for key, value in plain.items():
            if key not in types:
                raise InputError(unknown(f"{path}{key}", [path + name for name in types]))
            if isinstance(value, Mapping):
                check_known(value, types[key], f"{path}{key}.")


def check_values(config: Config) -> None:
    """Raise for the first value that is out of its range."""
    if not config.study or set(config.study) & set("/\\\0") or config.study in (".", ".."):
        raise InputError(f"study: {config.study!r} is not a plain folder name")
    for name, lowest in LOWEST.items():
        value: Any = config
        for part in name.split("."):
            value = getattr(value, part)
        if value is not None and value < lowest:
            raise InputError(f"{name}: {value} is not allowed; the lowest value is {lowest}")
    budget = config.trainer.micro_batch_tokens
    if budget != "auto" and (not isinstance(budget, int) or isinstance(budget, bool) or budget < 1):
        raise InputError(f"trainer.micro_batch_tokens: {budget!r} is not auto or a positive whole number")
    _check_snapshots(config.trainer)
    _check_selection(config)


def _check_snapshots(trainer: TrainerConfig) -> None:
    wrong = [step for step in trainer.snapshots or [] if not 0 < step <= trainer.max_steps]
    if wrong:
        raise InputError(
            f"trainer.snapshots: {wrong[0]} is not a step of this training; they are 1 to {trainer.max_steps}"
        )


def _check_selection(config: Config) -> None:
    every, evaluation = config.trainer.eval_every, config.eval
    if evaluation.dev and every is None:
        raise InputError("eval.dev: set trainer.eval_every too, the steps between two scorings of it")
    if every is not None and not evaluation.dev:
        raise InputError(f"trainer.eval_every: {every}, but eval.dev names no task to score then")
    for name in ("patience", "average"):
        value = getattr(evaluation, name)
        if value is not None and not (evaluation.dev and evaluation.select):
            raise InputError(f"eval.{name}: {value}, but it needs tasks in eval.dev and eval.select=true")
