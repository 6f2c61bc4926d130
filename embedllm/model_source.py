"""From the name of a model to its files: embedded models, folders, GGUF files and Hub ids; config and tokenizer."""

import functools
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerFast

from embedllm.embedded_models import embedded_model_path, gguf_model_path
from embedllm.errors import InputError
from embedllm.quiet import quiet_transformers

EMBEDDED = "embedded:"
HUB_TIMEOUT_S = 10.0


def resolve_model(name: str) -> Path | str:
    """Return the folder of a model, or ``name`` itself where it is a Hub id.

    Args:
        name: ``model.name`` as typed: ``embedded:NAME``, a folder, a ``*.gguf`` file (converted into the cache on
            first use) or a Hub id.

    Raises:
        InputError: nothing is there, or it is no model.
    """
    if name.startswith(EMBEDDED):
        return embedded_model_path(name.removeprefix(EMBEDDED))
    path = Path(name).expanduser()
    if name and path.is_dir():
        if not (path / "config.json").is_file():
            if (path / "adapter_config.json").is_file():
                raise InputError(
                    f"model.name: the folder {name!r} holds an adapter and no model; give it as adapter.path, and the "
                    "model that it was trained on as model.name"
                )
            raise InputError(f"model.name: the folder {name!r} has no config.json, so it is not a model")
        return path
    if path.is_file():
        if not _is_gguf(path):
            raise InputError(f"model.name: {name!r} is not a GGUF file; a file must be one, else give a model's folder")
        return gguf_model_path(path)
    if not name or name.startswith((".", "/", "~")) or name.count("/") > 1 or name.endswith(".gguf"):
        raise InputError(
            f"model.name: no file or folder {name!r}; give embedded:NAME, a folder, a *.gguf file or a Hub id"
        )
    return name


def load_config(name: str) -> PreTrainedConfig:
    """Return the config of a model, without its weights; code that comes with a model is never run."""
    with quiet_transformers():
        try:
            return AutoConfig.from_pretrained(resolve_model(name), **loading_options(name))
        except InputError:
            raise
        except (OSError, ValueError, ImportError, StrictDataclassError) as error:
            raise InputError(
                f"model.name: {name!r} has no config that transformers can load ({reason(error)})"
            ) from error


def load_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """Return the tokenizer of a model; it always has a ``backend_tokenizer``.

    Raises:
        InputError: there is none, it needs code of its own, or it is not backed by the tokenizers library.
    """
    with quiet_transformers():
        try:
            tokenizer = AutoTokenizer.from_pretrained(resolve_model(name), **loading_options(name))
        except InputError:
            raise
        except (OSError, ValueError, ImportError, KeyError) as error:
            raise InputError(f"model.name: {name!r} has no tokenizer that can be loaded ({reason(error)})") from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        kind = type(tokenizer).__name__
        raise InputError(f"model.name: the tokenizer of {name!r} ({kind}) is not backed by the tokenizers library")
    return tokenizer


def loading_options(name: str) -> dict[str, Any]:
    """Return the keyword arguments that every ``from_pretrained`` of this model takes."""
    options: dict[str, Any] = {"trust_remote_code": False}
    if isinstance(resolve_model(name), str):
        options["local_files_only"] = not _hub_answers(name)
    return options


def reason(error: Exception) -> str:
    """Return the first sentence of an error, to be quoted in ours."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".:")


@functools.cache
def _hub_answers(name: str) -> bool:
    """Return True if the Hub has the model, False if it gives no answer but the model was fetched before.

    Asked once and first: downloads retry for half a minute when there is no network.
    """
    try:
        HfApi().model_info(name, timeout=HUB_TIMEOUT_S)
    except Exception as error:  # no such model, no access, no network: the HTTP library's own types
        if isinstance(error, ValueError) or not _is_fetched(name):
            raise InputError(
                f"model.name: {name!r} is no local file or folder and cannot be had from the Hugging Face Hub "
                f"({reason(error)})"
            ) from error
        return False
    return True


def _is_fetched(name: str) -> bool:
    return isinstance(try_to_load_from_cache(name, "config.json"), str)


def _is_gguf(file: Path) -> bool:
    with file.open("rb") as handle:
        return handle.read(4) == b"GGUF"
