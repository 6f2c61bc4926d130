"""Where numbers go: ``metrics.csv``, always, and the loggers of the ``logger`` group on top of it."""

from embedllm.tracking.loggers import build_sinks, wandb_nodes
from embedllm.tracking.sinks import Identity, LoggerSink, Sink, TensorBoardSink
from embedllm.tracking.tracker import NoTracker, Tracker

__all__ = ["Identity", "LoggerSink", "NoTracker", "Sink", "TensorBoardSink", "Tracker", "build_sinks", "wandb_nodes"]
