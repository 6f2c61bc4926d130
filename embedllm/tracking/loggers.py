"""From the ``logger`` group to sinks."""

import inspect
import os
from collections.abc import Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from embedllm.errors import InputError
from embedllm.targets import locate
from embedllm.tracking.sinks import Identity, LoggerSink, Sink, TensorBoardSink


def build_sinks(nodes: Mapping[str, Mapping[str, Any]], identity: Identity) -> dict[str, Sink]:
    """Return a sink for each logger of the ``logger`` group; none writes or connects before it is started.

    Args:
        nodes: class and arguments of each, by name.
        identity: of the run.

    Raises:
        InputError: a logger refuses its arguments, or needs a package that is not installed.
    """
    sinks: dict[str, Sink] = {}
    for name, node in nodes.items():
        if _is_wandb(node):
            if os.environ.get("WANDB_MODE") == "disabled":
                continue
            from embedllm.tracking.wandb_sink import WandbSink

            sinks[name] = WandbSink(node, identity)
        else:
            logger = _build(name, node, identity)
            sinks[name] = (TensorBoardSink if hasattr(logger, "log_graph") else LoggerSink)(logger)
    return sinks


def wandb_nodes(nodes: Mapping[str, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the loggers of the ``logger`` group that are W&B's."""
    return [node for node in nodes.values() if _is_wandb(node)]


def _is_wandb(node: Mapping[str, Any]) -> bool:
    return str(node["_target_"]).endswith(".WandbLogger")


def _build(name: str, node: Mapping[str, Any], identity: Identity) -> Any:
    given = {"save_dir": str(identity.run.path)}
    if "id" in inspect.signature(locate(node["_target_"])).parameters:
        given |= {"id": identity.id, "name": identity.run.path.name, "group": identity.study}
    try:
        return instantiate(dict(node), **given, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__ or error
        missing = isinstance(cause, ModuleNotFoundError)
        hint = f"; install it with: pip install 'embedllm[{name}]'" if missing and name == "tensorboard" else ""
        raise InputError(f"logger.{name}: {' '.join(str(cause).split())}{hint}") from error
