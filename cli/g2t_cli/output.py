"""What a user sees: data on stdout, everything else on stderr, and one sentence for an error."""

import functools
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, Self, TypeVar

from g2t.errors import G2TError, InputError, UsageError

P = ParamSpec("P")
R = TypeVar("R")

#: Seconds between two progress lines where stderr is no terminal.
INTERVAL = 5.0


def command(body: Callable[P, R]) -> Callable[P, R]:
    """Turn what a command body raises into a sentence on stderr and an exit code."""

    @functools.wraps(body)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            result = body(*args, **kwargs)
            sys.stdout.flush()  # here, where a closed pipe can still be caught
            return result
        except G2TError as error:
            if os.environ.get("G2T_DEBUG"):
                raise
            say_error(error.message, error.hint)
            raise SystemExit(error.code) from None
        except KeyboardInterrupt:
            say_error("interrupted", "run the same command to go on")
            raise SystemExit(130) from None
        except BrokenPipeError:
            # The reader of our stdout is gone; nothing is left to be said to it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(1) from None
        except Exception as error:
            if os.environ.get("G2T_DEBUG"):
                raise
            say_error(
                f"unexpected {type(error).__name__}: {error}",
                "this is a defect of g2t; G2T_DEBUG=1 shows where",
            )
            raise SystemExit(1) from None

    return guarded


def say_error(message: str, hint: str) -> None:
    """Print an error and the next step to stderr, and to the log if there is one."""
    lines = [f"error: {message}", f"  hint: {hint}"] if hint else [f"error: {message}"]
    for line in lines:
        print(line, file=sys.stderr)
        if _logs:
            _logs[-1].note(line)


#: Where progress, notes and errors are kept besides, if `keep_log` was called.
_logs: list["Plain"] = []


def keep_log(path: Path) -> None:
    """Append what is said on stderr to a file too, also what `--quiet` keeps back, with its time.

    Raises InputError where the file cannot be written.
    """
    try:
        _logs[:] = [Plain(path.open("a", encoding="utf-8"), stamped=True)]
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}", "choose another file") from error
    _logs[-1].note(shlex.join(["g2t", *sys.argv[1:]]))


def out_or_usage(out: Path | None) -> Path:
    """Return `--out`; raises UsageError where a command that writes was given none."""
    if out is None:
        raise UsageError("--out DIR is missing", "say where to write the artefact")
    return out


def emit_json(content: Mapping[str, Any] | Sequence[Any]) -> None:
    """Print one JSON object, or a list of them, to stdout."""
    print(json.dumps(content, allow_nan=False))


def emit_toml(content: Mapping[str, Any]) -> None:
    """Print settings to stdout as TOML that `--config` reads; unset ones are left out."""
    import tomli_w

    print(tomli_w.dumps(_without_none(content)), end="")


def _without_none(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {key: _without_none(value) for key, value in content.items() if value is not None}
    return [_without_none(value) for value in content] if isinstance(content, list) else content


def emit_artifact(artifact: Any, as_json: bool) -> None:
    """Print an artefact's path, or its record with `--json`."""
    if as_json:
        emit_json({**artifact.record, "path": str(artifact.path)})
    else:
        print(artifact.path)


def emit_artifacts(artifacts: Sequence[Any], as_json: bool) -> None:
    """Print the paths of artefacts, one per line, or a list of their records with `--json`."""
    if as_json:
        emit_json([{**made.record, "path": str(made.path)} for made in artifacts])
    else:
        for made in artifacts:
            print(made.path)


def progress(quiet: bool) -> "Plain | Bar | Both":
    """Return how progress is shown: a bar on a terminal, else plain lines, or nothing."""
    terminal = not quiet and sys.stderr.isatty()
    shown: Plain | Bar = Bar() if terminal else Plain(None if quiet else sys.stderr)
    return Both(shown, _logs[-1]) if _logs else shown


class Plain:
    """Progress as `key=value` lines for logs; stamped ones begin with the time."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing to take away."""

    def __init__(self, stream: Any, stamped: bool = False) -> None:
        self.stream = stream
        self.stamped = stamped
        self._last = 0.0

    def update(self, task: str, done: int, total: int, values: Mapping[str, float]) -> None:
        """Print one line per interval, and one at the end."""
        now = time.monotonic()
        if self.stream is None or (now - self._last < INTERVAL and done < total):
            return
        self._last = now
        figures = " ".join(f"{key}={value:.4g}" for key, value in values.items())
        self.note(f"{task} step={done}/{total} {figures}")

    def note(self, text: str) -> None:
        """Print a sentence."""
        if self.stream is not None:
            when = time.strftime("%Y-%m-%dT%H:%M:%S%z ") if self.stamped else ""
            print(f"{when}{text}", file=self.stream, flush=True)


class Bar:
    """Progress as a Rich bar on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        figures = TextColumn("{task.fields[figures]}", style="dim")
        self.bar = Progress(*columns, figures, console=Console(stderr=True), transient=True)
        self.task: tuple[str, Any] | None = None

    def update(self, task: str, done: int, total: int, values: Mapping[str, float]) -> None:
        """Move the bar of a task; a new task gets a new bar."""
        if self.task is None or self.task[0] != task:
            self.close()
            self.bar.start()
            self.task = (task, self.bar.add_task(task, total=total, figures=""))
        shown = [f"{key} {value:.3g}" for key, value in values.items() if "factor" not in key]
        self.bar.update(self.task[1], completed=done, total=total, figures=" ".join(shown[-3:]))
        if done >= total:
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar away."""
        if self.task is not None:
            self.bar.remove_task(self.task[1])
            self.bar.stop()
            self.task = None

    def note(self, text: str) -> None:
        """Print a sentence above the bar."""
        self.bar.console.print(text, highlight=False, markup=False)


class Both:
    """Progress as it is shown, and in the log."""

    def __init__(self, shown: Plain | Bar, log: Plain) -> None:
        self.shown, self.log = shown, log

    def __enter__(self) -> Self:
        self.shown.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.shown.__exit__(*error)

    def update(self, task: str, done: int, total: int, values: Mapping[str, float]) -> None:
        """Show a step, and keep it."""
        self.shown.update(task, done, total, values)
        self.log.update(task, done, total, values)

    def note(self, text: str) -> None:
        """Show a sentence, and keep it."""
        self.shown.note(text)
        self.log.note(text)
