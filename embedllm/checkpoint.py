"""The checkpoint of a training on disk: written beside its place and moved there; nothing in it is executed."""

import os
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from torch import Tensor

from embedllm.errors import InputError

CHECKPOINT = "last.ckpt"


class WholeCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint so that a reader sees the old file or the new one, never a part.

    Lightning's own writer fills the folder for temporary files first, which is often a small disk.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write ``checkpoint`` to ``path``.

        Raises:
            InputError: the disk is full, or cannot be written to.
        """
        path = Path(path)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except (OSError, RuntimeError) as error:  # torch wraps what the disk says
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise InputError(
                f"runs_dir: the checkpoint {str(path)!r} cannot be written ({reason}); make room, and the same command "
                "goes on from the checkpoint before"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Return what :meth:`save_checkpoint` wrote; see :func:`read_checkpoint`."""
        return read_checkpoint(Path(path))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint; nothing in it is executed.

    Raises:
        InputError: it is damaged, holds more than tensors and plain values, or a number that is not finite.
    """
    away = "remove it to start the training anew"
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"checkpoint: {str(path)!r} cannot be read ({error.strerror})") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        raise InputError(f"checkpoint: {str(path)!r} is damaged, or no checkpoint of embedllm; {away}") from error
    if not isinstance(content, dict) or not {"state_dict", "optimizer_states", "totals"} <= content.keys():
        raise InputError(f"checkpoint: {str(path)!r} is no checkpoint of embedllm; {away}")
    for name, tensor in _tensors({name: content[name] for name in ("state_dict", "optimizer_states")}):
        if not torch.isfinite(tensor).all():
            raise InputError(f"checkpoint: {str(path)!r} holds NaN or infinity in {name!r}; {away}")
    return content


def _tensors(node: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield all tensors below a node with their names."""
    if isinstance(node, Tensor):
        yield name, node
    elif isinstance(node, Mapping | list):
        items = node.items() if isinstance(node, Mapping) else enumerate(node)
        for key, value in items:
            yield from _tensors(value, f"{name}.{key}" if name else str(key))
