"""Test scores with worse features or edges at inference, `g2t.robust/1`.

All models are asked about the same corrupted graphs (`g2t.graph.corrupt`), several draws of each;
without corruption every score is the plain one. Nothing is trained again.

    {"schema": "g2t.robust/1", "metric": "accuracy", "draws": 3,
     "shares": [0.0, 0.25, 0.5, 0.75, 1.0],
     "noise": "gaussian" | "moved",             # by the kind of features
     "curves": {"noise" | "missing" | "removed" | "rewired":
                None |                          # `rewired` of a directed graph
                {"student" | "student-0-hops" | "teacher":
                 [{"share": 0.0, "mean": float | None, "std": float | None, "values": [float]}]}}}

One entry per share; `values` are test scores by draw, of a share of 0 the one that there is.
`student-0-hops` is there for a student of hops alone, `teacher` where the teacher could be asked.
How a student of hops fares without edges at hand, k = 0 … K, is `student.by_hops` of the
evaluation.
"""

from typing import Any

from g2t.evaluate.answers import Asked, answers_of, scores_in
from g2t.evaluate.case import Case
from g2t.graph.bundle import Graph
from g2t.graph.corrupt import CORRUPTIONS, corrupted
from g2t.graph.csr import Csr
from g2t.metrics import spread
from g2t.runtime import Progress

SCHEMA = "g2t.robust/1"

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def robust_of(case: Case, draws: int, progress: Progress) -> dict[str, Any]:
    """Return the test scores of a student and its teacher over corrupted graphs.

    That is 16 passes of each over the graph for a draw, with one corrupted graph held at a time.
    """
    graph = case.setup.graph
    plain = _tests(case, graph, changed=False)
    curves: dict[str, Any] = {}
    steps = len(CORRUPTIONS) * (len(SHARES) - 1) * draws
    for kind in CORRUPTIONS:
        if kind == "rewired" and graph.directed:
            curves[kind] = None
            continue
        found = {name: [{"share": 0.0, **spread([test])}] for name, test in plain.items()}
        for share in SHARES[1:]:
            tests = []
            for draw in range(draws):
                tests.append(_tests(case, corrupted(graph, kind, draw, share), changed=True))
                done = list(CORRUPTIONS).index(kind) * (len(SHARES) - 1) + SHARES.index(share) - 1
                progress.update("robust", done * draws + draw + 1, steps, {})
            for name, points in found.items():
                points.append({"share": share, **spread([test[name] for test in tests])})
        curves[kind] = found
    return {
        "schema": SCHEMA,
        "metric": graph.metric,
        "draws": draws,
        "shares": list(SHARES),
        "noise": "moved" if isinstance(graph.features, Csr) else "gaussian",
        "curves": curves,
    }


def _tests(case: Case, graph: Graph, changed: bool) -> dict[str, float | None]:
    """Return the test score of every model on a graph of the same nodes.

    Hop tokens of the cache are those of the graph that is not changed.
    """
    student, split, setup = case.student.model, case.split, case.setup
    tokens = None if changed else setup.tokens(student.hops)
    counts = {"student": student.hops, "student-0-hops": 0} if student.hops else {"student": None}
    said = Asked(student, graph, split, tokens).answers(*counts.values())
    known = dict(zip(counts, said, strict=True))
    if setup.speakers:
        known["teacher"] = answers_of(setup.speakers, graph, split, changed)
    return {name: scores_in(graph, split, answers)["test"] for name, answers in known.items()}
