"""Exported models: written, run beside the student that they came from, and refused if they differ.

A folder holds the model and `serving.json`, which says what goes in, what comes out, and how the
inputs are made.
"""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
import torch

from g2t.artifact import RECORD, file_identity, is_artifact, read_json, write_json
from g2t.errors import CheckFailed, G2TError, InputError, MissingExtra
from g2t.network import WEIGHTS
from g2t.place import Place, is_free, remove
from g2t.serve.hub import CONFIG, write_hub
from g2t.serve.portable import OUTPUTS, Portable, feeds, input_shapes
from g2t.serve.student import ServedStudent, load_student

Format = Literal["torch-export", "onnx", "hf"]
FILES: dict[str, str] = {"torch-export": "model.pt2", "onnx": "model.onnx"}
SIDECAR = "serving.json"
SCHEMA = "g2t.export/1"
#: How far an exported model may be from its student, on top of the same share of the value.
ALLOWED = 1e-4
#: Nodes of the batches that both answer, generated: one, few, many.
CHECKED = (1, 5, 64)

#: Runs an exported model: inputs by name to outputs in order.
Runner = Callable[[dict[str, Any]], list[Any]]


def export_model(
    student: ServedStudent, out: Path, to: Format, card: str = "", force: bool = False
) -> Path:
    """Write a student in another format at `out`, a folder; `card` is for `hf`.

    Raises MissingExtra without the packages of the format, InputError where something else stands
    at `out`, and CheckFailed where the written model does not answer as the student does; then
    nothing is left behind.
    """
    if to == "onnx":
        _need_onnx()
    with _folder(out, force) as partial:
        if to == "hf":
            write_hub(partial, student.facts, student.path / WEIGHTS, student.digest, card)
            load_student(partial)
            return out
        write = _write_onnx if to == "onnx" else _write_torch
        model = Portable(student)
        with _silence():
            write(model, _example(student), input_shapes(student), partial / FILES[to])
        run = open_exported(partial / FILES[to], list(input_shapes(student)))
        difference = _check(student, run)
        write_json(partial / SIDECAR, _sidecar(student, to, partial / FILES[to], difference))
    return out


@contextmanager
def _folder(out: Path, force: bool) -> Iterator[Path]:
    """Give a folder to write to that becomes `out` when nothing is raised."""
    place = Place(out.resolve())
    with place.locked():
        if out.exists() and not is_free(out):
            if not _is_ours(out):
                raise InputError(f"{out} exists and is no exported model", "choose another --out")
            if not force:
                raise InputError(
                    f"{out} exists", "choose another --out, or replace it with --force"
                )
        try:
            remove(place.partial)
            place.partial.mkdir()
            yield place.partial
            place.publish()
        except OSError as error:
            raise InputError(f"cannot write {out}: {error.strerror}") from error
        finally:
            remove(place.partial)


def _is_ours(folder: Path) -> bool:
    """Tell whether a folder was written by an export, and is no artefact of another kind."""
    if is_artifact(folder) or (folder / RECORD).exists():
        return False
    for name in (SIDECAR, CONFIG):
        with contextlib.suppress(G2TError):
            return str(read_json(folder / name).get("schema")).startswith("g2t.")
    return False


@contextmanager
def _silence() -> Iterator[None]:
    """Keep what exporters say to programmers from users; their errors are raised."""
    before = logging.root.manager.disable
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)


def _need_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingExtra(
            f"ONNX needs the package {error.name}", "type: pip install 'g2t[onnx]'"
        ) from None


def _example(student: ServedStudent) -> tuple[torch.Tensor, ...]:
    features, edges, hops = _generated(student, 3, 0)
    return tuple(map(torch.from_numpy, feeds(student, features, edges, hops=hops).values()))


def _generated(student: ServedStudent, rows: int, seed: int) -> tuple[Any, Any, Any]:
    """Return features, edges and hops of a generated graph, every number of hops among them."""
    random = np.random.default_rng(seed)
    features: Any = random.normal(size=(rows, student.width)).astype(np.float32)
    if student.kind == "csr":
        entries = min(student.width, 20)
        features = sp.random_array((rows, student.width), density=entries / student.width, rng=seed)
    hops = (torch.arange(rows) % (student.hops + 1)).flip(0)
    return features, random.integers(0, rows, (2, 3 * rows)), hops


def _dynamic(shapes: dict[str, tuple[str, list[str | int]]]) -> tuple[dict[int, Any], ...]:
    sizes = {name: torch.export.Dim(name, min=1) for name in ("batch", "entries")}
    return tuple(
        {place: sizes[size] for place, size in enumerate(shape) if isinstance(size, str)}
        for _, shape in shapes.values()
    )


def _program(
    model: Portable, example: tuple[torch.Tensor, ...], shapes: dict[str, Any]
) -> torch.export.ExportedProgram:
    with torch.no_grad():
        program = torch.export.export(model, example, dynamic_shapes=(_dynamic(shapes),))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # names the files of this machine
    return program


def _write_torch(
    model: Portable, example: tuple[torch.Tensor, ...], shapes: dict[str, Any], path: Path
) -> None:
    torch.export.save(_program(model, example, shapes), path)


def _write_onnx(
    model: Portable, example: tuple[torch.Tensor, ...], shapes: dict[str, Any], path: Path
) -> None:
    program = _program(model, example, shapes)
    torch.onnx.export(
        program,
        (),
        path,
        dynamo=True,
        input_names=list(shapes),
        output_names=list(OUTPUTS),
        external_data=False,
        verbose=False,
    )


def open_exported(path: Path, names: list[str]) -> Runner:
    """Open `model.pt2` or `model.onnx`; `names` are its inputs in order, as `serving.json` says.

    It runs on the CPU, with as many threads as torch. Raises MissingExtra without onnxruntime.
    """
    if path.suffix == ".onnx":
        _need_onnx()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda fed: list(session.run(list(OUTPUTS), fed))
    with _silence():
        module = torch.export.load(path).module()

    def run(fed: dict[str, Any]) -> list[Any]:
        with torch.no_grad():
            outputs = module(*(torch.from_numpy(fed[name]) for name in names))
        return [output.numpy() for output in outputs]

    return run


def _check(student: ServedStudent, run: Runner) -> float:
    """Return the largest difference between the written model and `predict`, on generated nodes.

    Raises CheckFailed beyond what is allowed.
    """
    largest = 0.0
    for seed, rows in enumerate(CHECKED, 1):
        features, edges, hops = _generated(student, rows, seed)
        answer = student.predict(features, edges, hops=hops)
        expected = answer.logits_NC, answer.probabilities_NC, answer.embeddings_ND
        fed = feeds(student, features, edges, hops=hops)
        for name, mine, theirs in zip(OUTPUTS, expected, run(fed), strict=True):
            difference = np.abs(mine.numpy() - theirs)
            largest = max(largest, float(difference.max()))
            if not (difference <= ALLOWED * (1 + np.abs(mine.numpy()))).all():
                raise CheckFailed(
                    f"the exported model's {name} differ from the student's by "
                    f"{float(difference.max()):.1e}, more than {ALLOWED:g} of their size",
                    "nothing was written; serve the student with g2t predict",
                )
    return largest


def _sidecar(student: ServedStudent, to: Format, file: Path, difference: float) -> dict[str, Any]:
    """Return what `serving.json` says."""
    shapes = {
        name: {"dtype": dtype, "shape": shape}
        for name, (dtype, shape) in input_shapes(student).items()
    }
    classes, width = len(student.classes), int(student.facts["model"]["hidden"])
    sizes = dict(zip(OUTPUTS, (classes, classes, width), strict=True))
    facts: dict[str, Any] = {
        "schema": SCHEMA,
        "format": to,
        "file": file.name,
        **file_identity(file),
        "student": {"name": student.name, "digest": student.digest},
        "task": student.task,
        "classes": list(student.classes),
        "inputs": shapes,
        "outputs": {k: {"dtype": "float32", "shape": ["batch", n]} for k, n in sizes.items()},
        "preprocessing": _preprocessing(student),
        "largest_difference": difference,
        "torch": torch.__version__,
    }
    return json.loads(json.dumps(facts))  # type: ignore[no-any-return]


def _preprocessing(student: ServedStudent) -> dict[str, Any]:
    said: dict[str, Any] = {
        "columns": student.width,
        "names": None if student.feature_names is None else list(student.feature_names),
        "scaling": "none: raw features; the model normalises and projects them itself",
    }
    if student.kind == "csr":
        said["sparse"] = (
            "indices are the columns that are not zero and values what stands there, each row "
            "filled up with index 0 and value 0"
        )
    if student.hops:
        said["hops"] = {
            "count": student.hops,
            "tokens": "row k of a node is that of Â^k X, k = 0 … count, where Â = D^-1/2 (A + I) "
            "D^-1/2 over the node's in-edges without self-loops, and D their number plus one",
            "mask": "hops is true for k = 0 and for every further k that is known, without a gap; "
            "tokens of others count for nothing",
        }
    return said
