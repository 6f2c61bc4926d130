"""The services that a run may use; the Hub alone is asked, and only if it may be."""

import netrc
import os
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

from huggingface_hub import constants, get_session, get_token

from embedllm.doctor.verdict import OK, WARN, Verdict

TIMEOUT_S = 3.0
BROKEN = 500
"""Lowest status of a server, or of a proxy before it, that cannot serve; a mirror may refuse its bare address."""


def hub() -> Verdict:
    """Whether the Hugging Face Hub answers within three seconds; it is not asked with ``HF_HUB_OFFLINE``."""
    if constants.is_offline_mode():
        return Verdict("hub", OK, "not asked, as HF_HUB_OFFLINE is set: models and data come from this machine alone")
    try:
        answer = get_session().head(constants.ENDPOINT, timeout=TIMEOUT_S)
    except Exception as error:  # whatever the client of this version of huggingface_hub raises
        reason = str(error).strip() or type(error).__name__
        sentence = f"{constants.ENDPOINT} does not answer ({reason}); local models and data do without"
        return Verdict("hub", WARN, sentence)
    if answer.status_code >= BROKEN:
        sentence = f"{constants.ENDPOINT} answers with HTTP {answer.status_code}; local models and data do without"
        return Verdict("hub", WARN, sentence)
    token = "with a token" if get_token() else "without a token, so no gated model (`hf auth login`)"
    return Verdict("hub", OK, f"{constants.ENDPOINT} answers, {token}")


def wandb() -> Verdict:
    """Whether ``logger=wandb`` would send anything; nothing is asked."""
    mode = os.environ.get("WANDB_MODE")
    if mode in ("disabled", "offline", "dryrun"):
        found = f"WANDB_MODE={mode}, so nothing is sent"
    elif _has_account():
        found = "an account is set up, so runs with logger=wandb are sent"
    else:
        found = "no account is set up, so runs with logger=wandb are recorded offline (`wandb login`)"
    return Verdict("wandb", OK, f"{version('wandb')}, {found}")


def _has_account() -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    file = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    try:
        return netrc.netrc(file).authenticators(host or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False
