"""Answers on their way out: JSON Lines, CSV or Parquet, a batch at a time, in order."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, Protocol, TextIO

from g2t.errors import InputError, MissingExtra, UsageError
from g2t.serve.student import Prediction

Format = Literal["jsonl", "csv", "parquet"]
FORMATS: Mapping[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}


@dataclass(frozen=True)
class Wanted:
    """What is written of every node beside its id and class.

    Of several labels per node all probabilities are written, whether asked for or not.
    """

    probabilities: bool = False
    embedding: bool = False


def format_of(out: Path | None, chosen: Format | None) -> Format:
    """Return the format that was chosen, else that of a file's name, else JSON Lines.

    Raises UsageError for a name that tells none, and for Parquet on stdout.
    """
    if out is None:
        if chosen == "parquet":
            raise UsageError("Parquet cannot be written to stdout", "add --out FILE.parquet")
        return chosen or "jsonl"
    found = FORMATS.get(out.suffix)
    if chosen is None and found is None:
        raise UsageError(
            f"--out {out} does not tell its format", f"end it in {', '.join(FORMATS)}, or add --to"
        )
    return chosen or found or "jsonl"


class Writer(Protocol):
    """Takes answers in order."""

    def write(self, ids: Sequence[str], answer: Prediction) -> None:
        """Write some nodes."""

    def close(self) -> None:
        """Write what is still held back."""


@contextmanager
def opened(
    out: Path | None, stdout: TextIO, format: Format, wanted: Wanted, force: bool
) -> Iterator[Writer]:
    """Open a writer to stdout or to a file, which gets its name when it is whole.

    Raises InputError where the file exists and `force` is not given, or cannot be written.
    """
    if out is None:
        yield writer_to(stdout, format, wanted)
        stdout.flush()
        return
    if out.exists() and not force:
        raise InputError(f"{out} exists", "choose another --out, or replace it with --force")
    temporary = out.with_name(out.name + ".tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        binary = format == "parquet"
        with temporary.open("wb") if binary else temporary.open("w", encoding="utf-8") as file:
            writer = writer_to(file, format, wanted)
            yield writer
            writer.close()
        temporary.replace(out)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def writer_to(file: IO[Any], format: Format, wanted: Wanted) -> Writer:
    """Return the writer of a format."""
    kinds = {"jsonl": JsonLines, "csv": CsvRows, "parquet": ParquetRows}
    writer: Writer = kinds[format](file, wanted)
    return writer


def columns_of(ids: Sequence[str], answer: Prediction, wanted: Wanted) -> dict[str, list[Any]]:
    """Return what is written, by name: a list per node, of texts, numbers or lists."""
    several = answer.task == "multilabel"
    columns: dict[str, list[Any]] = {"id": list(ids)}
    if several:
        columns["classes"] = [list(labels) for labels in answer.labels]
    else:
        columns["class"] = list(answer.labels)
        columns["probability"] = _rounded(answer.probabilities_NC.max(1).values.tolist())
    if several or wanted.probabilities:
        columns["probabilities"] = [_rounded(row) for row in answer.probabilities_NC.tolist()]
    if wanted.embedding:
        columns["embedding"] = [_rounded(row) for row in answer.embeddings_ND.tolist()]
    return columns


def _rounded(numbers: list[float]) -> list[float]:
    """Return float32 numbers without the digits that they do not have."""
    return [float(f"{number:.7g}") for number in numbers]


class JsonLines:
    """One object per node; `probabilities` by the name of the class."""

    def __init__(self, file: IO[str], wanted: Wanted) -> None:
        self.file, self.wanted = file, wanted

    def write(self, ids: Sequence[str], answer: Prediction) -> None:
        """Write some nodes."""
        columns = columns_of(ids, answer, self.wanted)
        if "probabilities" in columns:
            named = [zip(answer.classes, row, strict=True) for row in columns["probabilities"]]
            columns["probabilities"] = [dict(pairs) for pairs in named]
        dumps = json.JSONEncoder(ensure_ascii=False).encode
        rows = zip(*columns.values(), strict=True)
        lines = [dumps(dict(zip(columns, row, strict=True))) for row in rows]
        self.file.write("\n".join(lines) + "\n")

    def close(self) -> None:
        """Nothing is held back."""


class CsvRows:
    """A header and a row per node: columns `probability:CLASS` and `embedding:0` …, labels by ;."""

    def __init__(self, file: IO[str], wanted: Wanted) -> None:
        self.rows, self.wanted, self.begun = csv.writer(file, lineterminator="\n"), wanted, False

    def write(self, ids: Sequence[str], answer: Prediction) -> None:
        """Write some nodes, the header before the first."""
        columns = columns_of(ids, answer, self.wanted)
        if "classes" in columns:
            columns["classes"] = [";".join(labels) for labels in columns["classes"]]
        widths = {"probabilities": len(answer.classes), "embedding": answer.embeddings_ND.shape[1]}
        if not self.begun:
            places = {
                "probabilities": [f"probability:{name}" for name in answer.classes],
                "embedding": [f"embedding:{i}" for i in range(widths["embedding"])],
            }
            self.rows.writerow(name for key in columns for name in places.get(key, [key]))
            self.begun = True
        plain = [values for key, values in columns.items() if key not in widths]
        lists = [values for key, values in columns.items() if key in widths]
        for row in zip(*plain, *lists, strict=True):
            single, several = row[: len(plain)], row[len(plain) :]
            self.rows.writerow([*single, *(cell for cells in several for cell in cells)])

    def close(self) -> None:
        """Nothing is held back."""


class ParquetRows:
    """A row per node; lists stay lists."""

    def __init__(self, file: IO[bytes], wanted: Wanted) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise MissingExtra(
                "writing Parquet needs pyarrow", "type: pip install 'g2t[parquet]'"
            ) from None
        self.arrow, self.file, self.wanted = pyarrow, file, wanted
        self.writer: Any = None

    def write(self, ids: Sequence[str], answer: Prediction) -> None:
        """Write some nodes as one row group."""
        pa = self.arrow
        types = {"id": pa.string(), "class": pa.string(), "classes": pa.list_(pa.string())}
        types["probability"] = pa.float32()
        numbers = pa.list_(pa.float32())
        columns = columns_of(ids, answer, self.wanted)
        arrays = {k: pa.array(v, types.get(k, numbers)) for k, v in columns.items()}
        table = pa.table(arrays)
        if self.writer is None:
            names = json.dumps(list(answer.classes))
            schema = table.schema.with_metadata({"g2t.classes": names})
            self.writer = pa.parquet.ParquetWriter(self.file, schema)
        self.writer.write_table(table.replace_schema_metadata(self.writer.schema.metadata))

    def close(self) -> None:
        """Write the footer."""
        if self.writer is not None:
            self.writer.close()
