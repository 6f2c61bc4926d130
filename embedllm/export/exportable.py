"""What sentence-transformers cannot express, refused by name before anything is written."""

from pathlib import Path

from transformers import AutoModel

from embedllm.adapter import AdapterSpec
from embedllm.backbone import DTYPES, load_config
from embedllm.decoder import is_bidirectional
from embedllm.embedder import Embedder, ModelSpec, find_saved
from embedllm.errors import InputError
from embedllm.pooling import PoolingHead
from embedllm.quiet import quiet_transformers
from embedllm.storage import load_outline


def check_source(run: str | Path, dtype: str, *, adapter_only: bool) -> None:
    """Raise if what is saved of ``run`` says that it cannot be exported; no weights are loaded.

    Args:
        run: see :func:`embedllm.export.export`.
        dtype: of the weights on disk.
        adapter_only: whether the base model is left out; it then decides the dtype.
    """
    folder = find_saved(run)
    outline = None if folder is None else load_outline(folder)  # a bare decoder has mean pooling, and all its layers
    spec, adapter = ModelSpec(str(run)), AdapterSpec()
    if outline is not None:
        spec, adapter = outline.spec, outline.adapter
        check_exportable(spec, outline.head)
    if adapter_only:
        check_adapter_only(spec, adapter)
    if outline is not None and outline.centred:
        check_centring(base_dtype(spec) if adapter_only else dtype)


def check_exportable(spec: ModelSpec, head: PoolingHead) -> None:
    """Raise for a setting that the stock modules cannot express."""
    check_head(head)
    if not spec.final_norm:
        raise InputError("model.final_norm: False cannot be exported, as a saved decoder has its final norm; use True")


def check_head(head: PoolingHead) -> None:
    """Raise for a head that has no equal in sentence-transformers."""
    if head.sentence_transformers_mode is None:
        raise InputError(
            f"pooling: {type(head).__name__!r} has no sentence-transformers equivalent; "
            "use mean, last, eos, weighted_mean, max or concat to export"
        )
    if head.pool_over != "all":
        raise InputError(
            f"pooling.pool_over: {head.pool_over!r} has no sentence-transformers equivalent; use all to export"
        )


def check_centring(dtype: str) -> None:
    """Raise if the stock module that centres would get vectors that it cannot take."""
    if dtype != "float32":
        raise InputError(
            f"centring: True with weights in {dtype} cannot be exported, as sentence-transformers centres float32 "
            "only; export in float32, or train with centring=false"
        )


def check_adapter_only(spec: ModelSpec, adapter: AdapterSpec) -> None:
    """Raise if the base model and a PEFT adapter alone do not make the embedder."""
    if adapter.kind == "dora":
        raise InputError("--adapter-only: transformers leaves out half of a 'dora' adapter; leave --adapter-only out")
    if adapter.kind != "lora":
        raise InputError(f"--adapter-only: adapter.kind {adapter.kind!r} is no adapter that stands alone; leave it out")
    if spec.name.startswith("embedded:") or Path(spec.name).expanduser().is_file():
        raise InputError(
            f"--adapter-only: the base model {spec.name!r} is neither a folder nor on the Hub, so no program finds it; "
            "leave --adapter-only out"
        )
    config = load_config(spec.name)
    text = config.get_text_config(decoder=True)
    if spec.layers not in (None, text.num_hidden_layers) or spec.attention != "causal" or text is not config:
        raise InputError(
            "--adapter-only: every program would load the whole base model as it is, but this one is changed by "
            "model.layers, model.attention or being a part of a larger model; leave --adapter-only out"
        )


def base_dtype(spec: ModelSpec) -> str:
    """Return the dtype that a base model is loaded in where nobody chooses one: that of its files."""
    stored = load_config(spec.name).dtype
    name = str(stored).removeprefix("torch.")
    return name if name in DTYPES else "float32"


def check_attention_survives(folder: Path, spec: ModelSpec) -> None:
    """Raise if a decoder that looks both ways is causal when stock transformers loads it from ``folder``."""
    if spec.attention != "bidirectional":
        return
    with quiet_transformers():
        reloaded = AutoModel.from_pretrained(folder)
    if not is_bidirectional(reloaded.eval()):
        raise InputError(
            "model.attention: 'bidirectional' cannot be exported, as transformers loads this decoder causal; use causal"
        )


def notes(embedder: Embedder, *, adapter_only: bool) -> tuple[str, ...]:
    """Return what a user of the exported folder should know, a sentence each."""
    found = []
    if not embedder.prompt.tokenizer("").input_ids:
        found.append(
            "An empty text has no token in this model: sentence-transformers fails on it or returns zeros or NaN; "
            "leave such texts out, or train with a prompt, prompt.bos=true or pooling=eos"
        )
    if embedder.spec.attention == "bidirectional":
        found.append("Attention is two-sided, which transformers before 5.2 ignores without a word; use 5.2 or later")
    if embedder.centring is not None:
        found.append("Vectors are centred by a module that takes float32 only; do not load the model in another dtype")
    if adapter_only:
        found.append(f"The folder needs its base model, {embedder.spec.name!r}, where it is loaded")
    return tuple(found)
