"""Sending a hub folder to the Hugging Face hub, when it is asked for."""

from pathlib import Path

from g2t.errors import InputError, MissingExtra
from g2t.network import WEIGHTS
from g2t.serve.hub import CARD, CONFIG


def check_hub() -> None:
    """Raise MissingExtra unless the hub's package is here."""
    try:
        import huggingface_hub  # noqa: F401
    except ImportError:
        raise MissingExtra("--push needs huggingface_hub", "type: pip install 'g2t[hub]'") from None


def push(folder: Path, repository: str) -> str:
    """Send the three files of a hub folder to a repository, made if need be; return its address.

    Raises MissingExtra without huggingface_hub, InputError where the hub refuses or is not reached.
    """
    check_hub()
    from huggingface_hub import HfApi

    hub = HfApi()
    try:
        address = hub.create_repo(repository, exist_ok=True)
        files = [CONFIG, WEIGHTS, CARD]
        hub.upload_folder(repo_id=repository, folder_path=folder, allow_patterns=files)
    except (OSError, ValueError) as error:  # the hub's own errors are subclasses of these
        said = str(error).strip().splitlines()[0]
        raise InputError(
            f"the hub did not take {repository}: {said}", f"{folder} is written; push it again"
        ) from None
    return str(address)
