"""`g2t predict`: every encoding says the same, rows keep their order, and wrong ones are named."""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
import torch
from torch import Tensor
from typer.testing import CliRunner, Result

from g2t import load_student
from g2t.artifact import write_json
from g2t.graph.bundle import Graph, write_graph
from g2t.graph.csr import from_pairs
from g2t.graph.structure import induced
from g2t.serve import batch
from g2t.serve.near import Near
from g2t.serve.student import Prediction, ServedStudent
from g2t.stage import Stage
from g2t_cli.app import app
from tests.serve.conftest import NAMES, Make

ROWS = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32).round(3)
IDS = [f"n{i}" for i in range(40)]
BAGS = [[0, 5], [1], [], [8, 2, 5]]


def g2t(*words: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], input=stdin)


def answers(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def table(path: Path) -> Path:
    """A CSV with an id, a column of no concern, and the features in another order."""
    order = [2, 0, 3, 1]
    header = ["id", "remark", *(NAMES[i] for i in order)]
    rows = [[name, "a\nb", *row[order]] for name, row in zip(IDS, ROWS, strict=True)]
    return write_csv(path, header, rows)


def test_dense_encodings_say_the_same(make: Make, tmp_path: Path) -> None:
    path = make("landmark", names=NAMES)
    expected = load_student(path).predict(ROWS)
    plain = table(tmp_path / "new.csv")
    columns = {"id": IDS, **{name: ROWS[:, i] for i, name in enumerate(NAMES)}}
    pq.write_table(pa.table(columns), tmp_path / "new.parquet")
    np.save(tmp_path / "new.npy", ROWS)
    lines = {
        "named": [dict(zip(NAMES, row, strict=True)) for row in ROWS.tolist()],
        "listed": [{"features": row} for row in ROWS.tolist()],
        "indexed": [{"indices": [3, 0, 1, 2], "values": [r[3], *r[:3]]} for r in ROWS.tolist()],
    }
    texts = {
        kind: "".join(json.dumps({"id": i, **r}) + "\n" for i, r in zip(IDS, rows, strict=True))
        for kind, rows in lines.items()
    }
    (tmp_path / "new.jsonl").write_text(texts["named"])
    results = {
        "csv": g2t("predict", path, plain),
        "stdin csv": g2t("predict", path, "-", stdin=plain.read_text()),
        "parquet": g2t("predict", path, tmp_path / "new.parquet"),
        "jsonl": g2t("predict", path, tmp_path / "new.jsonl"),
        **{f"stdin {kind}": g2t("predict", path, "-", stdin=text) for kind, text in texts.items()},
        "npy": g2t("predict", path, tmp_path / "new.npy"),
        "beside": g2t("predict", path, plain, "--features", tmp_path / "new.npy"),
    }
    for kind, result in results.items():
        found = answers(result)
        names = [str(i) for i in range(40)] if kind == "npy" else IDS
        assert [row["id"] for row in found] == names, kind
        assert [row["class"] for row in found] == expected.labels, kind
        wanted = expected.probabilities_NC.max(1).values.tolist()
        assert [row["probability"] for row in found] == pytest.approx(wanted, abs=1e-5), kind


def test_sparse_encodings_say_the_same(make: Make, tmp_path: Path) -> None:
    path = make("landmark", kind="csr", width=9)
    dense = np.zeros((4, 9), np.float32)
    for row, columns in enumerate(BAGS):
        dense[row, columns] = 1
    expected = load_student(path).predict(dense).labels
    names = ["7", "3", "x", "y"]
    (tmp_path / "bags.json").write_text(json.dumps(dict(zip(names, BAGS, strict=True))))
    sp.save_npz(tmp_path / "bags.npz", sp.csr_matrix(dense))
    ids = write_csv(tmp_path / "ids.csv", ["id", "target"], [[n, 0] for n in reversed(names)])
    lines = [{"id": n, "indices": b + b} for n, b in zip(names, BAGS, strict=True)]
    found = answers(g2t("predict", path, tmp_path / "bags.json"))
    assert [(row["id"], row["class"]) for row in found] == list(zip(names, expected, strict=True))
    found = answers(g2t("predict", path, tmp_path / "bags.npz"))
    assert [row["class"] for row in found] == expected
    found = answers(g2t("predict", path, "-", stdin="\n".join(map(json.dumps, lines))))
    assert [row["class"] for row in found] == expected
    found = answers(g2t("predict", path, ids, "--features", tmp_path / "bags.json"))
    pairs = list(zip(reversed(names), reversed(expected), strict=True))
    assert [(row["id"], row["class"]) for row in found] == pairs


def test_batches_do_not_matter(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, plain = make("mlp", names=NAMES), table(tmp_path / "new.csv")
    whole = answers(g2t("predict", path, plain, "--embedding"))
    monkeypatch.setattr(batch, "MOST_ROWS", 7)
    monkeypatch.setattr(batch, "LEAST_ROWS", 7)
    monkeypatch.setattr("g2t.graph.sources.tabular.CSV_ROWS", 3)
    parts = answers(g2t("predict", path, plain, "--embedding"))
    assert [row["id"] for row in parts] == IDS
    for one, other in zip(whole, parts, strict=True):
        assert one["class"] == other["class"]
        assert one["embedding"] == pytest.approx(other["embedding"], abs=1e-5)


def test_formats_hold_the_same(make: Make, tmp_path: Path) -> None:
    path, plain = make("mlp", names=NAMES, task="multilabel"), table(tmp_path / "new.csv")
    lines = answers(g2t("predict", path, plain, "--embedding"))
    for name in ("out.csv", "out.parquet"):
        done = g2t("predict", path, plain, "--embedding", "--out", tmp_path / name)
        assert (done.exit_code, done.stdout) == (0, f"{tmp_path / name}\n")
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    stored = pq.read_table(tmp_path / "out.parquet").to_pylist()
    for line, row, held in zip(lines, rows, stored, strict=True):
        assert line["id"] == row["id"] == held["id"]
        assert line["classes"] == held["classes"] == [c for c in row["classes"].split(";") if c]
        given = list(line["probabilities"].values())
        assert [float(row[f"probability:{c}"]) for c in line["probabilities"]] == given
        assert held["probabilities"] == pytest.approx(given)
        assert float(row["embedding:7"]) == line["embedding"][7]
    assert g2t("predict", path, plain, "--out", tmp_path / "out.csv").exit_code == 3


def test_wrong_rows_are_named_or_counted(make: Make, tmp_path: Path) -> None:
    path = make("mlp", names=NAMES)
    text = CSV + "b,1,,3,4\nc,1,2\nd,1,inf,3,x\n,1,2,3,4\ne,4,3,2,1\n"
    stopped = g2t("predict", path, "-", stdin=text)
    assert (stopped.exit_code, stopped.stdout) == (3, "")
    skipped = g2t("predict", path, "-", "--on-error", "skip", stdin=text)
    assert [row["id"] for row in answers(skipped)] == ["a", "e"]
    places = ("line 3", "line 4 of stdin has 3 cells", "line 5", "line 6")
    for said in (*places, "predict rows=2 skipped=4 done"):
        assert said in skipped.stderr
    lines = '{"features":[1,2,3,4]}\n{"features":[1,2,3]}\n[]\n{"features":[1,2,NaN,4]}\n'
    skipped = g2t("predict", path, "-", "--on-error", "skip", stdin=lines)
    assert [row["id"] for row in answers(skipped)] == ["0"]
    assert "line 4 of stdin: column 2 is nan" in skipped.stderr


def alike(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one["id"], one["class"]) == (other["id"], other["class"])
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-5)


def graph_of(rows: torch.Tensor, ends: torch.Tensor, folder: Path) -> Path:
    source, target = torch.cat([ends, ends.flip(0)], 1)
    edges = from_pairs(source, target, len(rows))
    ids = tuple(f"v{i}" for i in range(len(rows)))
    labels = torch.arange(len(rows)) % 3
    graph = Graph("toy", rows, edges, labels, ("cat", "dog", "owl"), "accuracy", False, ids=ids)
    with Stage(folder, "graph", {}, {}, 0) as stage:
        write_graph(graph, stage.path)
        stage.commit({})
    return folder


def test_new_nodes_beside_a_graph_are_answered_as_its_own(make: Make, tmp_path: Path) -> None:
    path = make("hop", hops=2)
    rows = torch.from_numpy(ROWS)
    draw = torch.Generator().manual_seed(2)
    ends = torch.randint(0, 40, (2, 60), generator=draw)
    whole = graph_of(rows, ends, tmp_path / "whole")
    kept = torch.arange(35)
    inside = induced(from_pairs(ends[0], ends[1], 40), kept)
    pairs = torch.stack([inside.column_E.long(), inside.row_E])
    part = graph_of(rows[:35], pairs, tmp_path / "part")
    new = write_csv(
        tmp_path / "new.csv",
        ["id", "a", "b", "c", "d", "known"],
        [[f"v{i}", *ROWS[i], i % 3] for i in range(35, 40)],
    )
    beyond = ends[:, (ends >= 35).any(0)].T.tolist()
    links = write_csv(tmp_path / "links.csv", ["u", "v"], [[f"v{u}", f"v{v}"] for u, v in beyond])
    asked = ["predict", path, new, "--graph", part, "--edges", links]
    ids = ",".join(f"v{i}" for i in range(35, 40))
    for k in range(3):
        expected = answers(g2t("predict", path, "--graph", whole, "--ids", ids, "--hops", k))
        columns = ["--feature-columns", "a,b,c,d", "--hops", k]
        alike(answers(g2t(*asked, *columns)), expected)
    by_node = answers(g2t(*asked, "--hops-column", "known"))
    for i, row in zip(range(35, 40), by_node, strict=True):
        one = ["--ids", f"v{i}", "--hops", i % 3]
        alike([row], answers(g2t("predict", path, "--graph", whole, *one)))
    strange = g2t("predict", path, new, "--edges", links, "--hops-column", "known")
    assert strange.exit_code == 3
    assert "leads to an unknown node" in strange.stderr


@pytest.mark.parametrize("kind", ["dense", "csr"])
def test_a_few_nodes_of_a_graph_are_answered_as_among_all(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = make("hop", kind=kind, hops=2, high_pass=True, neighbours=2, neighbour_hops=1)
    ring = torch.arange(40)
    ends = torch.cat([torch.stack([ring, ring.roll(1)]), torch.tensor([[0, 0], [7, 11]])], 1)
    graph = graph_of(torch.from_numpy(ROWS), ends, tmp_path / "graph")
    read: list[int] = []
    answers_near = ServedStudent.answers_near

    def watched(
        self: ServedStudent, near: Near, index_B: Tensor, hops_B: Tensor
    ) -> Iterator[Prediction]:
        read.append(len(near.features))
        return answers_near(self, near, index_B, hops_B)

    monkeypatch.setattr(ServedStudent, "answers_near", watched)
    every = {row["id"]: row for row in answers(g2t("predict", path, "--graph", graph))}
    few = answers(g2t("predict", path, "--graph", graph, "--ids", "v5,v0,v5"))
    alike(few, [every["v5"], every["v0"], every["v5"]])
    assert len(read) == 1
    assert read[0] < 20


CSV = "id,age,height,income,clicks\na,1,2,3,4\n"


@pytest.mark.parametrize(
    ("options", "stdin", "code", "said"),
    [
        ([], "id,age,height,income\na,1,2,3\n", 3, "no column 'clicks', which the student reads"),
        ([], "id,age,height,income,clicks\na,1,nan,3,4\n", 3, "line 2 of stdin has 'nan'"),
        ([], "", 3, "stdin is empty"),
        ([], "id,age,height,income,clicks\n", 3, "stdin is empty"),
        ([], '{"features": [1, 2]}\n', 3, "line 1 of stdin: its features are 2 numbers"),
        (["--id-column", "name"], CSV, 3, "no column 'name' for --id-column"),
        (["--feature-columns", "age,height,clicks,income"], CSV, 2, "not those that the student"),
        (["--hops", "1"], CSV, 2, "without edges no hop is at hand"),
        (["--edges", "e.csv"], CSV, 2, "reads no edges"),
        (["--ids", "a"], CSV, 2, "--ids are nodes of --graph"),
        (["--to", "parquet"], CSV, 2, "Parquet cannot be written to stdout"),
    ],
)
def test_wrong_input_has_its_code(
    make: Make, options: list[str], stdin: str, code: int, said: str
) -> None:
    result = g2t("predict", make("mlp", names=NAMES), "-", *options, stdin=stdin)
    assert (result.exit_code, result.stdout) == (code, ""), result.stderr
    assert said in result.stderr
    assert result.stderr.count("error: ") == 1


def test_a_student_that_is_not_as_it_was_made_is_refused(make: Make, tmp_path: Path) -> None:
    edited, newer = make("mlp", names=NAMES), make("landmark", names=NAMES)
    weights = edited / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    record = json.loads((newer / "run.json").read_text())
    write_json(newer / "run.json", record | {"schema": "g2t.artifact/9"})
    for path, said in ((edited, "does not match its recorded digest"), (newer, "'g2t.artifact/9'")):
        result = g2t("predict", path, "-", stdin=CSV)
        assert result.exit_code == 4
        assert said in result.stderr


def test_other_widths_and_unknown_ids_are_refused(make: Make, tmp_path: Path) -> None:
    path = make("hop")
    np.save(tmp_path / "wide.npy", np.zeros((3, 5)))
    wide = g2t("predict", path, tmp_path / "wide.npy")
    assert (wide.exit_code, "5 columns, this student reads 4" in wide.stderr) == (3, True)
    graph = graph_of(torch.zeros(3, 5), torch.tensor([[0, 1], [1, 2]]), tmp_path / "graph")
    other = g2t("predict", path, "--graph", graph)
    assert (other.exit_code, "5 columns, this student reads 4" in other.stderr) == (3, True)
    graph = graph_of(torch.zeros(3, 4), torch.tensor([[0, 1], [1, 2]]), tmp_path / "four")
    strange = g2t("predict", path, "--graph", graph, "--ids", "v1,who")
    assert (strange.exit_code, "has no node 'who'" in strange.stderr) == (3, True)
