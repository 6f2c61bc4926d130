"""All looks, in the order in which they are taken."""

from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

from embedllm.doctor import hardware, installation, services
from embedllm.doctor.self_test import SelfTest
from embedllm.doctor.verdict import Look, Verdict, looked_at
from embedllm.model_cache import cache_folder


def examine() -> Iterator[Verdict]:
    """Yield one verdict after the other, as soon as it is known."""
    from huggingface_hub import constants

    model = cache(SelfTest)  # made by the first look that needs it
    hub_cache = Path(constants.HF_HUB_CACHE)
    looks: list[tuple[str, Look]] = [
        ("embedllm", installation.own_version),
        ("packages", installation.packages),
        ("extras", installation.extras),
        ("device", hardware.device),
        ("precision", hardware.precision),
        ("attention", hardware.attention),
        ("cache", partial(installation.folder, "cache", cache_folder(), "EMBEDLLM_CACHE")),
        ("hub cache", partial(installation.folder, "hub cache", hub_cache, "HF_HOME")),
        ("runs", partial(installation.folder, "runs", Path.cwd() / "runs", "runs_dir")),
        ("default model", installation.default_model),
        ("hub", services.hub),
        ("wandb", services.wandb),
        ("encoding", lambda: model().repeats()),
        ("batching", lambda: model().does_not_mix()),
        ("training", lambda: model().learns()),
    ]
    return looked_at(looks)
