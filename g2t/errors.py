"""What can go wrong, as a user sees it: one sentence, one next step, one exit code.

Every error that a user can cause is a `G2TError`. The command line prints its message and leaves
with its code; anything else is a defect of g2t and leaves with 1.
"""

import difflib
from collections.abc import Iterable

#: Choices that a hint lists at most.
MOST_CHOICES = 40


class G2TError(Exception):
    """What went wrong and where (`message`), and what to do or type next (`hint`)."""

    code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(G2TError):
    """An unknown option, key, name or value."""

    code = 2


class InputError(G2TError):
    """A file that is missing, unreadable, unwritable, bad user data, or output in the way."""

    code = 3


class IntegrityError(G2TError):
    """An artefact of ours that disagrees with its manifest or lineage, or is of a newer version."""

    code = 4


class TrainingError(G2TError):
    """Training that cannot go on: a loss that is not finite."""

    code = 5


class CheckFailed(G2TError):
    """A result that is there and whole, but not as good as was asked for."""

    code = 6


class MissingExtra(G2TError):
    """An optional package or a device is absent."""

    code = 69


class Stopped(G2TError):
    """A signal asked us to stop, and a checkpoint was written: the same command resumes."""

    code = 75


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return a hint that names the nearest choice, or the choices if none is near."""
    options = sorted(choices)
    near = difflib.get_close_matches(word, options, n=1)
    if near:
        return f"did you mean {near[0]}?"
    more = f", … {len(options)} in all" if len(options) > MOST_CHOICES else ""
    return f"choose from: {', '.join(options[:MOST_CHOICES])}{more}"
