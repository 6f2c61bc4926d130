"""The model card: a README.md with what the Hub reads at its top."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from embedllm.embedder import Embedder
from embedllm.export.markdown import number, table
from embedllm.report.tables import flatten, mean_cell
from embedllm.runs import ALWAYS, ASIDE, TRAINED, RunFolder
from embedllm.scoring import mteb_versions, with_versions

BASES = {"embedded:smollm2_135m": ("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0")}
"""Hub id and licence of an embedded model."""

DATA = {
    "embedded:wikipedia_pairs": (
        "pairs of sentences of the English Wikipedia (dump of 2016), two of one article or one and what SmolLM2-135M "
        "made of it, CC BY-SA 3.0"
    ),
    "embedded:wikipedia_sentences": (
        "sentences of 97 articles of the English Wikipedia (dump of 2016; `title` is that of the article), CC BY-SA 3.0"
    ),
    "hub:princeton-nlp/datasets-for-simcse": "data of SimCSE (Gao et al., 2021); the licences of its sources hold",
}
"""What is known about training data, by the start of ``data.path``."""


PLACE = "PATH_OR_HUB_ID"
"""Stands for where the model is."""


def write_model_card(folder: Path, run: Path, embedder: Embedder, notes: tuple[str, ...] = ()) -> None:
    """Write ``README.md``, with the scores of ``run`` if it is one, and ``notes`` among the limits."""
    text = "\n\n".join(_sections(embedder, _result(run), notes))
    (folder / "README.md").write_text(text + "\n", encoding="utf-8")


def front_matter(embedder: Embedder) -> dict[str, Any]:
    """Return what the Hub reads: library, task, tags, and base model and licence where they are known."""
    base, licence = _base(embedder.spec.name)
    known = {"base_model": base, "license": licence}
    return {
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": ["sentence-transformers", "sentence-similarity", "feature-extraction", "embedllm"],
        **{name: value for name, value in known.items() if value is not None},
    }


def _sections(embedder: Embedder, result: Mapping[str, Any] | None, notes: tuple[str, ...]) -> Iterator[str]:
    yield f"---\n{yaml.safe_dump(front_matter(embedder), sort_keys=False)}---"
    yield f"# {_title(embedder)}"
    yield _summary(embedder)
    yield f"## Use\n\n```python\n{USE}\n```"
    yield f"## Recipe\n\n{table(('setting', 'value'), _recipe(embedder, result))}"
    yield f"## Training data\n\n{_data(result)}"
    yield f"## Scores\n\n{_scores(result)}"
    yield "## Limits\n\n" + "\n".join(f"* {limit}" for limit in (*_limits(embedder), *notes))
    yield f"## Citation\n\n{CITATION}"


USE = f"""from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{PLACE}")
vectors = model.encode(["a man is driving a car", "the truck stopped"])"""

CITATION = """```bibtex
@misc{roth2025,
  author = {Roth, Benedikt and others},
  title  = {Resource-Efficient Adaptation of Large Language Models for Text Embeddings via Prompt Engineering and
            Contrastive Fine-tuning},
  year   = {2025},
  eprint = {2507.22729},
  archivePrefix = {arXiv}
}
```

Made with embedllm, which implements the paper above."""


def _title(embedder: Embedder) -> str:
    head = type(embedder.head).__name__
    return f"{Path(embedder.spec.name.removeprefix('embedded:')).name}, {head}"


def _summary(embedder: Embedder) -> str:
    return (
        f"A decoder-only language model as a text-embedding model: {embedder.output_size} dimensions, at most "
        f"{embedder.spec.max_length} tokens with the prompt. The prompt is inside the tokenizer, so texts are given "
        f"as they are:\n\n```text\n{embedder.prompt.template}\n```"
    )


def _recipe(embedder: Embedder, result: Mapping[str, Any] | None) -> Iterator[tuple[str, Any]]:
    """Give every setting that decided the weights, and what is known about the training."""
    if result is None:
        settings: dict[str, Any] = {"model": asdict(embedder.spec), "prompt": {"template": embedder.prompt.template}}
        settings |= {"pooling": embedder.head_config, "adapter": asdict(embedder.adapter)}
        yield from _set_values(settings)
        return
    config, trained = dict(result["config"]), result.get("train")
    if trained:
        config["data"] = _used(config["data"], _positives(result))
    yield from _set_values({name: config[name] for name in (*ALWAYS, *(TRAINED if trained else ()))})
    if trained:
        yield from _set_values({"trainer": {k: v for k, v in config["trainer"].items() if k not in ASIDE}})
    yield from ((name, result[name]) for name in ("run_id", "commit", "hardware") if result.get(name))


def _set_values(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Flatten settings, without those that are null."""
    return ((name, _public(value)) for name, value in flatten(settings).items() if value is not None)


def _public(value: Any) -> Any:
    """Keep only the name of a file or folder: where it lies on this machine says nothing elsewhere."""
    return Path(value).name if isinstance(value, str) and value.startswith(("/", "~")) else value


def _data(result: Mapping[str, Any] | None) -> str:
    if result is None:
        return "Not recorded in the folder that was exported."
    if not result.get("train"):
        adapter = result["config"].get("adapter", {}).get("path")
        return f"That of the adapter `{_public(adapter)}`." if adapter else "None: the base model as it is."
    path = str(result["config"]["data"]["path"])
    known = next((text for start, text in DATA.items() if path.startswith(start)), None)
    pairs = result["train"].get("pairs")
    amount = f" ({pairs:,} pairs)" if isinstance(pairs, int) else ""
    known = known or "no licence is recorded; state it before you publish the model"
    return " ".join([f"`{_public(path)}`{amount}: {known}.", *_about_positives(result)])


def _positives(result: Mapping[str, Any]) -> str:
    """Return where positives came from: ``label``, ``column``, ``augment``, or several of them; empty: not known."""
    data = result["config"]["data"]
    if "positives" in result["train"]:
        return str(result["train"]["positives"])
    made = str(data["path"]).startswith("embedded:wikipedia_sentences")
    return "label" if made and data.get("label") is not None else "augment" if made else ""


def _used(data: Mapping[str, Any], positives: str) -> dict[str, Any]:
    """Return the settings of the data that had an effect."""
    idle = {"augment": "augment", "positive": "column"}
    return {name: value for name, value in data.items() if not positives or idle.get(name, "") in positives}


def _about_positives(result: Mapping[str, Any]) -> list[str]:
    label = result["config"]["data"].get("label")
    known = {
        "label": f"Positives are other texts with the same `{label}`.",
        "augment": "Positives are altered copies.",
        "column or augment": "Positives are those of the data; where they are equal to the anchor, altered copies.",
    }
    return [known[found] for found in [_positives(result)] if found in known]


def _scores(result: Mapping[str, Any] | None) -> str:
    if result is None or not result["tasks"]:
        return "None were recorded."
    rows = [_score_row(name, task) for name, task in result["tasks"].items()]
    if len(rows) > 1:
        rows.append(_mean_row(list(result["tasks"].values())))
    found = mteb_versions(with_versions(result["tasks"], result).values()) or "of an unknown version"
    scores = table(("task", "metric", "documents", "before training", "score"), rows)
    return f"{scores}\n\nMade with mteb {found}; scores of other tasks, documents or versions do not compare."


def _score_row(name: str, task: Mapping[str, Any]) -> tuple[str, ...]:
    sample = task.get("of", {}).get("max_documents")
    documents = "all" if sample is None else f"{sample:,} at most"
    return name, str(task.get("metric", "-")), documents, number(task.get("before")), number(task.get("main_score"))


def _mean_row(entries: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the means over all rows; one that lacks a score is incomplete."""
    before = [entry.get("before") for entry in entries]
    untrained = "-" if before.count(None) == len(before) else mean_cell(before, 2)
    return "**mean**", "", "", untrained, mean_cell([entry.get("main_score") for entry in entries], 2)


def _limits(embedder: Embedder) -> Iterator[str]:
    spec = embedder.spec
    yield f"Longer texts are cut so that prompt and text have {spec.max_length} tokens; the prompt is never cut."
    yield "One prompt for all texts: there is no pair of query and document prompts."
    yield "White space around a text is dropped, and control tokens inside a text are read as such."
    if spec.name.startswith("embedded:smollm2"):
        yield "The base weights are a 4-bit file, not the full-precision model."


def _base(name: str) -> tuple[str | None, str | None]:
    """Return Hub id and licence of a base model; None where they are not known."""
    if name in BASES:
        return BASES[name]
    local = name.startswith(("embedded:", ".", "/", "~")) or name.endswith(".gguf") or Path(name).exists()
    return (None if local else name), None


def _result(run: Path) -> dict[str, Any] | None:
    """Return the result of a run, given by its folder or by the model's in it."""
    folders = [run, run.parent] if run.name == RunFolder(run).model.name else [run]
    return next((found for folder in folders if (found := RunFolder(folder.expanduser()).read_result())), None)
