"""`g2t predict`."""

from pathlib import Path

from g2t_cli import options as o
from g2t_cli.options import prediction as own
from g2t_cli.output import command, progress


@command
def predict(
    student: o.StudentPath,
    source: own.Source = None,
    features: own.FeatureFile = None,
    id_column: own.IdColumn = None,
    feature_columns: own.FeatureColumns = None,
    on_error: own.OnError = "stop",
    graph: own.Graph = None,
    ids: own.Ids = None,
    edges: own.EdgeFile = None,
    source_column: own.SourceColumn = None,
    target_column: own.TargetColumn = None,
    unknown_nodes: own.UnknownNodes = "error",
    directed: own.Directed = False,
    hops: own.Hops = None,
    hops_column: own.HopsColumn = None,
    out: own.Out = None,
    to: own.To = None,
    probabilities: own.Probabilities = False,
    embedding: own.Embedding = False,
    quiet: o.Quiet = False,
    force: own.Force = False,
) -> None:
    """Answer for nodes that nobody has seen, in their order: id, class, probability.

    Columns and encodings are those of `g2t import table:`; a student that learned from named
    columns finds them by name. JSON Lines have "features": [all], or "indices": [1, 7] and
    perhaps "values", or the columns by name, and "id".

    A hop student answers a node without edges from its features alone (k = 0). Memory is bounded
    for CSV, Parquet, JSON Lines and .npy; with edges or a graph all features are held.

    Exit codes: 2 options that do not fit the student, 3 a wrong row, column or file, 4 a student
    that was changed or is of a newer version.

    Examples:

      g2t predict runs/my/student new.csv --out answers.csv

      zcat new.jsonl.gz | g2t predict S - --on-error skip > answers.jsonl

      g2t predict S ids.csv --features features.json --edges edges.csv --hops 2

      g2t predict S new.csv --graph G --edges links.csv --out answers.parquet

      g2t predict S --graph G --ids 4,8,15 --probabilities
    """
    import sys

    from g2t.serve import load_student
    from g2t.serve.batch import Faults
    from g2t.serve.inputs import Source
    from g2t.serve.nodes import EdgeTable
    from g2t.serve.output import Wanted, format_of, opened
    from g2t.serve.run import Asked, check_asked
    from g2t.serve.run import predict as run
    from g2t.serve.tables import Columns

    names = None if feature_columns is None else tuple(feature_columns.split(","))
    columns = Columns(id_column, names, hops_column)
    read = None
    if source is not None:
        read = Source(None if source == "-" else Path(source), features, columns)
    named = {"source_column": source_column, "target_column": target_column}
    settings = {key: value for key, value in named.items() if value is not None}
    table = None
    if edges is not None:
        table = EdgeTable(edges, {**settings, "unknown_nodes": unknown_nodes}, directed)
    asked = Asked(read, graph, _ids(ids), table, hops)
    form = format_of(out, to)
    served = load_student(student)
    check_asked(asked, served)
    with progress(quiet) as show:
        faults = Faults(on_error == "skip", show.note)
        with opened(out, sys.stdout, form, Wanted(probabilities, embedding), force) as writer:
            run(served, asked, writer, faults, show)
    if out is not None:
        print(out)


def _ids(text: str | None) -> list[str] | None:
    """Return the ids of `--ids A,B` or `--ids @FILE`."""
    from g2t.errors import InputError, UsageError

    if text is None:
        return None
    if text.startswith("@"):
        path = Path(text[1:])
        try:
            found = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read {path}: {error}") from None
    else:
        found = [part.strip() for part in text.split(",")]
    ids = [name for name in found if name]
    if not ids:
        raise UsageError(f"--ids {text} names no node", "e.g. --ids 4,8,15 or --ids @FILE")
    return ids
