"""Models of sentence-transformers, encoded as that package encodes them."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from embedllm.errors import InputError

ST_PREFIX = "st:"
"""What their names begin with on the command line."""

Vectors = npt.NDArray[np.float32]


class SentenceTransformersEncoder:
    """A model of sentence-transformers: a plain text goes in as it is, never as a message of a chat template.

    Vectors are those of the model's own modules: of unit length only if it normalizes. Its default prompt is applied,
    if it has one.

    Args:
        name: a folder or a Hub id. Code that comes with it is not run, and weights must be safetensors.

    Raises:
        InputError: there is no such model, or it cannot be loaded.
    """

    def __init__(self, name: str) -> None:
        self.name = ST_PREFIX + name
        self._model = _load(name, find_sentence_transformer(name))

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> Vectors:
        """Return the vectors of ``texts``, (N, D) float32.

        Args:
            texts: N strings.
            progress: show a bar.
        """
        return np.asarray(self._model.encode(list(texts), show_progress_bar=progress), dtype=np.float32)


def find_sentence_transformer(name: str) -> dict[str, Any]:
    """Return the keyword arguments that load a model, if there is one of that name.

    Raises:
        InputError: the folder is none or no such model's, or the Hub does not have it or cannot be reached.
    """
    path = Path(name).expanduser()
    if name and path.is_dir():
        if not (path / "modules.json").is_file():
            raise _refused(name, "has no modules.json, so it is not a folder of sentence-transformers")
        return {"model_name_or_path": str(path), "local_files_only": True, "trust_remote_code": False}
    if path.exists() or not name or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise _refused(name, "is no folder; give a folder or a Hub id")
    from embedllm.model_source import loading_options

    try:
        return {"model_name_or_path": name, **loading_options(name)}
    except InputError as error:
        raise _refused(name, "cannot be had: " + str(error).removeprefix("model.name: ")) from error


def _load(name: str, options: dict[str, Any]) -> Any:
    from sentence_transformers import SentenceTransformer

    from embedllm.quiet import quiet_transformers

    logger = logging.getLogger("sentence_transformers")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with quiet_transformers():
            model = SentenceTransformer(**options, model_kwargs={"use_safetensors": True})
        _read_plain_text(model)
    except Exception as error:  # whatever a damaged or foreign folder makes the loader trip over
        line = (str(error).strip().splitlines() or [""])[0].rstrip(".:")
        raise _refused(name, f"cannot be loaded ({type(error).__name__}: {line})") from error
    finally:
        logger.setLevel(level)
    return model


def _read_plain_text(model: Any) -> None:
    """Take the chat template out of the way of texts.

    Raises:
        ValueError: the model reads nothing but messages.
    """
    first = model[0]
    if "message" in getattr(first, "modality_config", {}):
        first.modality_config = {name: how for name, how in first.modality_config.items() if name == "text"}
        first.input_formatter.supported_modalities = ["text"]
    if (found := first.preprocess(["x"]).get("modality", "text")) != "text":
        raise ValueError(f"it reads a text as a {found}")


def _refused(name: str, reason: str) -> InputError:
    return InputError(f"MODEL: {ST_PREFIX + name!r} {reason}")
