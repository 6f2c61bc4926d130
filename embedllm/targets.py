"""Classes named in settings by ``_target_``: find them, and hold their arguments against their signature."""

import importlib
import inspect
from collections.abc import Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin

from embedllm.errors import InputError, unknown

GIVEN_LATER = {"pooling": {"hidden_size"}, "optimizer": {"params"}, "logger": {"save_dir", "group", "id"}}
"""Arguments that the program passes itself when it builds the classes of an open group."""

BASES = {
    "pooling": "embedllm.pooling.PoolingHead",
    "loss": "torch.nn.Module",
    "optimizer": "torch.optim.Optimizer",
    "logger": "lightning.pytorch.loggers.Logger",
}
"""What the class that an open group names must be derived from; imported only with such a class."""


def locate(target: str) -> Any:
    """Return the object at a dotted path, such as ``embedllm.pooling.MeanPooling``.

    Raises:
        ImportError: if there is none.
    """
    module, _, name = target.rpartition(".")
    if not module:
        raise ImportError(f"{target!r} is not a dotted path")
    found = importlib.import_module(module)
    if not hasattr(found, name):
        raise ImportError(f"{module} has no {name}")
    return getattr(found, name)


def check_targets(plain: Any, path: str = "") -> None:
    """Raise if a ``_target_`` in ``plain`` cannot be imported, or would reject one of its arguments.

    Args:
        plain: a resolved configuration as dictionaries, lists and scalars.
        path: where ``plain`` stands in the settings, for the message.
    """
    if isinstance(plain, Mapping):
        if "_target_" in plain:
            _check_target(plain, path)
        for key, value in plain.items():
            check_targets(value, f"{path}.{key}" if path else str(key))
    elif isinstance(plain, list):
        for index, value in enumerate(plain):
            check_targets(value, f"{path}.{index}")


def _check_target(node: Mapping[str, Any], path: str) -> None:
    target = node["_target_"]
    try:
        found = locate(target)
        _check_class(found, target, path)
        parameters = dict(inspect.signature(found).parameters)
    except InputError:
        raise
    except Exception as error:  # whatever importing somebody's module raises
        raise InputError(f"{path}._target_: {target!r} cannot be imported ({error})") from error
    later = GIVEN_LATER.get(path.split(".")[0], set())
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for key, value in node.items():
        if key.startswith("_"):
            continue
        if key in later:
            raise InputError(f"{path}.{key}: is set by the program; leave it out")
        if key in parameters:
            _check_scalar(value, parameters[key].annotation, f"{path}.{key}")
        elif not takes_any:
            raise InputError(unknown(f"{path}.{key}", [f"{path}.{name}" for name in parameters if name not in later]))


def _check_class(found: Any, target: str, path: str) -> None:
    if not isinstance(found, type):
        raise InputError(f"{path}._target_: {target!r} is no class; name one")
    base = BASES.get(path if path != f"logger.{path.rpartition('.')[2]}" else "logger")
    if base is not None and not issubclass(found, locate(base)):
        raise InputError(f"{path}._target_: {target!r} is not derived from {base}; name a class that is")


def _check_scalar(value: Any, annotation: Any, path: str) -> None:
    """Raise if a scalar does not fit an annotation of plain scalar types; other annotations are let through."""
    union = get_origin(annotation) in (Union, UnionType)
    allowed = get_args(annotation) if union else (annotation,)
    scalars = {bool, int, float, str, type(None)}
    if not set(allowed) <= scalars or isinstance(value, (Mapping, list)):
        return
    fits = type(value) in allowed or (type(value) is int and float in allowed)
    if not fits:
        names = " or ".join("null" if kind is type(None) else kind.__name__ for kind in allowed)
        raise InputError(f"{path}: {value!r} is not of type {names}")
