"""Write an embedder as a folder of sentence-transformers' stock modules."""

import logging
from pathlib import Path
from typing import cast

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from embedllm.adapter import merged
from embedllm.backbone import DTYPES
from embedllm.embedder import Embedder
from embedllm.errors import InputError
from embedllm.export.exportable import (
    base_dtype,
    check_attention_survives,
    check_source,
    notes,
)
from embedllm.export.folder import whole_folder
from embedllm.export.layout import read_json, write_json, write_modules
from embedllm.export.model_card import write_model_card
from embedllm.export.older_readers import PLAIN_TOKENIZER_NOTE, add_old_names, plain_tokenizer_class
from embedllm.export.reference import make_reference, write_reference
from embedllm.export.verification import VerificationError, VerifyReport, compare, verify
from embedllm.lora import write_lora
from embedllm.quiet import quiet_transformers
from embedllm.runs import apply_umask

log = logging.getLogger(__name__)

PROBE = ["a man is driving a car", "The bank raised its interest rate, for the third time this year."]


def export(
    run: str | Path,
    folder: str | Path,
    *,
    dtype: str = "float32",
    adapter_only: bool = False,
    replace: bool = False,
) -> VerifyReport:
    """Write a model as a folder that ``SentenceTransformer(folder)`` loads, and verify it there.

    The prompt is inside the tokenizer, the adapter is merged into the weights in float32, and there is no chat
    template. A folder that does not give the vectors of ``run`` is not left behind.

    Args:
        run: a finished run, a folder written by ``Embedder.save``, or a bare decoder.
        folder: must not exist, or be empty, unless ``replace``.
        dtype: of the weights on disk: float32, bfloat16 or float16.
        adapter_only: write the adapter alone, the base model by reference.
        replace: take the place of an older export, once the new one is verified.

    Raises:
        InputError: something about the model cannot be exported, or ``folder`` is taken; before weights load where
            that is known then.
        VerificationError: the exported vectors are not those of ``run``.
    """
    if dtype not in DTYPES:
        raise InputError(f"--dtype: {dtype!r} is not one of: {', '.join(DTYPES)}")
    if adapter_only and dtype != "float32":
        raise InputError(f"--dtype: {dtype!r}, but --adapter-only writes no weights of the base; leave one of them out")
    check_source(run, dtype, adapter_only=adapter_only)
    with whole_folder(Path(folder), replace=replace) as temporary:
        _write(run, temporary, dtype, adapter_only)
        report = verify(temporary)
        if not report.ok:
            raise VerificationError(f"the exported folder is not the model, so it was removed ({report.failures[0]})")
    log.info("exported %s to %s", run, folder)
    return report


def _write(run: str | Path, folder: Path, dtype: str, adapter_only: bool) -> None:
    embedder = Embedder.load(run)
    if adapter_only:
        write_lora(cast(PeftModel, embedder.backbone), folder, embedder.spec.name)
    _merge(embedder)
    with quiet_transformers():
        embedder.prompt.tokenizer.save_pretrained(folder)
        if not adapter_only:
            _write_weights(embedder, folder, dtype)
        tokenizer_args = plain_tokenizer_class(folder)
    write_modules(folder, embedder.head, embedder.centring, embedder.spec.max_length, tokenizer_args)
    found = notes(embedder, adapter_only=adapter_only) + ((PLAIN_TOKENIZER_NOTE,) if tokenizer_args else ())
    write_reference(make_reference(embedder, base_dtype(embedder.spec) if adapter_only else dtype, found), folder)
    write_model_card(folder, Path(run), embedder, found)
    apply_umask(folder)


def _merge(embedder: Embedder) -> None:
    """Merge the adapter in float32, and make sure that the vectors stay as they were."""
    coarsest = min((weight.dtype for weight in embedder.backbone.parameters()), key=lambda dtype: dtype.itemsize)
    before = embedder.encode(PROBE)
    embedder.backbone = merged(embedder.backbone)
    embedder.cpu()
    dtype = "float32" if coarsest == torch.float32 else "bfloat16"
    check = compare("merge", embedder.encode(PROBE), before, dtype)
    if not check.passed:
        raise VerificationError(f"the merged weights are not the model ({check.found})")


def _write_weights(embedder: Embedder, folder: Path, dtype: str) -> None:
    """Write the backbone in ``dtype``; the embedder stays in float32."""
    backbone = cast(PreTrainedModel, embedder.backbone)
    state = {name: weight.to(DTYPES[dtype]) for name, weight in backbone.state_dict().items()}
    backbone.save_pretrained(folder, state_dict=state)
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", {**config, "dtype": dtype})  # it names that of the module
    add_old_names(folder)
    check_attention_survives(folder, embedder.spec)
