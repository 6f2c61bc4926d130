"""Loads data sets from the Hub without waiting minutes for one that cannot be reached."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

_PROBE_TIMEOUT = 10.0  # seconds

logger = logging.getLogger(__name__)


def hub_is_reachable() -> bool:
    """Return whether the Hub answers, at once False with ``HF_HUB_OFFLINE`` set."""
    from huggingface_hub import constants, get_session

    if constants.is_offline_mode():
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=_PROBE_TIMEOUT)
    except Exception as error:  # the HTTP client's own errors differ between versions of huggingface_hub
        logger.warning("%s cannot be reached (%s); using local copies of data sets only", constants.ENDPOINT, error)
        return False
    return True


@contextmanager
def local_copies_only() -> Iterator[None]:
    """Make ``datasets`` and ``huggingface_hub`` behave as with ``HF_HUB_OFFLINE=1``, which they read once at import.

    Without it, an unreachable Hub costs six tries and 23 seconds a data set.
    """
    import datasets.config
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before
