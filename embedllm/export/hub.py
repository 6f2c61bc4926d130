"""Send an exported folder to the Hugging Face Hub. Nothing else in this package writes to a network."""

import shlex
from pathlib import Path

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # public, but not in __all__

from embedllm.errors import InputError
from embedllm.export.model_card import PLACE
from embedllm.model_source import reason

CARD = "README.md"


class PushError(RuntimeError):
    """The folder is whole, and on this machine only."""


def check_push(name: str, *, public: bool) -> None:
    """Raise unless ``name`` can be pushed to, as far as that is known before there is anything to send.

    Args:
        name: ``owner/name`` of a model on the Hub, which need not be there yet.
        public: whether the model may be read by everybody.

    Raises:
        InputError: no such name is possible, there is no token, the Hub does not answer or does not know the token, or
            the model is there and public although ``public`` is not.
    """
    owner, _, _ = name.rpartition("/")
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise InputError(f"--push: {name!r} is no name of a model on the Hub; give owner/name") from error
    if not owner:
        raise InputError(f"--push: {name!r} lacks its owner, a user or an organisation; give owner/name")
    if constants.is_offline_mode():
        raise InputError(f"--push: {name!r} cannot be sent while HF_HUB_OFFLINE is set; unset it")
    if get_token() is None:
        raise InputError(
            f"--push: {name!r} cannot be sent without a token of the Hugging Face Hub; log in with `hf auth login`, or "
            "set HF_TOKEN"
        )
    api = HfApi()
    try:
        api.whoami()
        taken = api.repo_exists(name)
        shown = taken and not api.model_info(name).private
    except Exception as error:  # whatever the client of this version of huggingface_hub raises
        raise InputError(f"--push: {name!r} cannot be sent to {api.endpoint} ({reason(error)})") from error
    if shown and not public:
        raise InputError(f"--push: {name!r} is public already; add --public to send the model all the same")


def push(folder: Path, name: str, *, public: bool) -> str:
    """Make the model ``name`` on the Hub unless it is there, and send ``folder``, whose card gets the name too.

    Returns:
        Where it is and who may read it, in words.

    Raises:
        PushError: the Hub refused, or the network failed.
    """
    api, folder = HfApi(), folder.expanduser()
    try:
        address = api.create_repo(name, private=not public, exist_ok=True)
        card = folder / CARD
        card.write_text(card.read_text(encoding="utf-8").replace(PLACE, name), encoding="utf-8")
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="Upload an embedllm export")
        private = api.model_info(name).private
    except Exception as error:  # as above
        visibility = "" if public else " --private"
        raise PushError(
            f"--push: {str(folder)!r} is written and verified, but was not sent to {name!r} ({reason(error)}); "
            f"send it with: hf upload {name} {shlex.quote(str(folder))}{visibility}"
        ) from error
    return f"{address} ({'private' if private else 'public'})"
