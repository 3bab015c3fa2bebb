"""Evaluations: of a student beside its teacher, or of teachers alone."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from g2t.artifact import open_artifact, read_json, write_json
from g2t.evaluate.answers import Asked, agreement_of, answers_of, scores_in
from g2t.evaluate.breakdown import breakdown_of
from g2t.evaluate.card import Cards, CardSources
from g2t.evaluate.case import Case, Setup, Sources, open_case
from g2t.evaluate.latency import latency_of
from g2t.evaluate.robust import robust_of
from g2t.graph.bundle import Graph, read_graph
from g2t.graph.splits import Split
from g2t.runtime import Progress, Silent, choose_device
from g2t.stage import Stage

SCHEMA = "g2t.evaluation/1"
EVALUATION = "evaluation.json"

#: What holds times: never in a file that has a digest, which must not change from run to run.
LATENCY = "latency"


def evaluate(
    sources: Sources,
    out: Path | None = None,
    *,
    card: CardSources | None = None,
    breakdown: bool = False,
    robust: int | None = None,
    latency: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Return the scores of a student as `g2t.evaluation/1`; with `out`, also write an artefact.

    With `card` the key `card` says what it inherits of the graph's structure, as `g2t.card/1`; with
    `breakdown` a key of that name takes the test score apart, as `g2t.breakdown/1`. `robust`, a
    number of draws, adds scores on corrupted graphs, as `g2t.robust/1`; `latency`, a device, what
    an answer costs there, as `g2t.latency/1`: times, so an artefact holds them in its `run.json`.
    Raises IntegrityError where student, graph, cache and teacher are not of one lineage.
    """
    setup = Setup(sources.graph, sources.cache, sources.teacher)
    cards = None if card is None else Cards(setup, card)
    return evaluate_in(
        setup,
        sources.student,
        out,
        cards=cards,
        breakdown=breakdown,
        robust=robust,
        latency=latency,
        force=force,
        progress=progress,
    )


def evaluate_in(
    setup: Setup,
    student: Path,
    out: Path | None = None,
    *,
    cards: Cards | None = None,
    breakdown: bool = False,
    robust: int | None = None,
    latency: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Return what `evaluate` does, of one of many students that share graph, cache and teachers."""
    case, show = open_case(student, setup), progress or Silent()
    if latency is not None:
        choose_device(latency)  # refused now, not after the scores
    if case.split.setting == "production" and setup.cache is not None and not setup.teachers:
        show.note(
            "the cache knows nothing of held-out nodes: without --teacher the teacher has no ind, "
            "so no prod and no test score"
        )

    def scores() -> dict[str, Any]:
        found = scores_of(case, breakdown)
        if cards is not None:
            found["card"] = cards.card(case)
        if robust is not None:
            found["robust"] = robust_of(case, robust, show)
        if latency is not None:
            found[LATENCY] = latency_of(case, latency, show)
        return found

    inputs = case.inputs if cards is None else case.inputs | cards.inputs(case)
    config = {"breakdown": breakdown or None, "robust": robust, LATENCY: latency}
    return _kept(out, config, inputs, force, scores, "student")


def evaluate_teachers(
    teachers: Sequence[Path],
    graph: Path,
    out: Path | None = None,
    *,
    breakdown: bool = False,
    force: bool = False,
) -> dict[str, Any]:
    """Return the scores of a teacher, or of several teachers' mean, as `g2t.evaluation/1`.

    `seed` is that of the first. With `breakdown` the key of that name is a `g2t.breakdown/1`.
    Raises IntegrityError where they did not learn from this graph and on one split.
    """
    from g2t.teacher.forward import check_graph_of
    from g2t.teacher.several import check_together, digests_of
    from g2t.teacher.store import read_teacher

    opened, bundle = [read_teacher(path) for path in teachers], read_graph(graph)
    fingerprint = bundle.fingerprints()["graph"]
    for teacher in opened:
        check_graph_of(teacher, bundle.name, fingerprint)
    check_together(opened)
    name, split = " + ".join(teacher.name for teacher in opened), opened[0].split
    seed = opened[0].artifact.record["seed"]

    def scores() -> dict[str, Any]:
        answers = answers_of(opened, bundle, split)
        named = {"name": name, **scores_in(bundle, split, answers)}
        result = _result(bundle, fingerprint, split, seed, None, named)
        if breakdown:
            result["breakdown"] = breakdown_of(bundle, split, None, answers)
        return result

    inputs = {"graph": fingerprint, **digests_of(opened)}
    return _kept(out, {"breakdown": breakdown or None}, inputs, force, scores, "teacher")


def _kept(
    out: Path | None,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    force: bool,
    scores: Callable[[], dict[str, Any]],
    summed_up: str,
) -> dict[str, Any]:
    """Return scores, from the artefact at `out` if there is one, else computed and written.

    What is None in the config was not asked for, and is not part of it.
    """
    if out is None:
        return scores()
    asked = {key: value for key, value in config.items() if value is not None}
    with Stage(out, "evaluation", asked, inputs, 0, force) as stage:
        if stage.finished is None:
            result = scores()
            times = {key: result.pop(key) for key in (LATENCY,) if key in result}
            write_json(stage.path / EVALUATION, result)
            stage.commit({part: result[summed_up][part] for part in ("val", "test")} | times)
    kept = read_json(out / EVALUATION)
    if LATENCY in asked:
        kept[LATENCY] = open_artifact(out, "evaluation").record["summary"][LATENCY]
    return kept


def scores_of(case: Case, breakdown: bool = False) -> dict[str, Any]:
    """Return `g2t.evaluation/1`: fractions on the validation and test nodes, by seed and digests.

    With `breakdown` the key of that name takes the test score apart.
    """
    student, graph, split, setup = case.student.model, case.setup.graph, case.split, case.setup
    asked = Asked(student, graph, split, setup.tokens(student.hops))
    counts = range(student.hops + 1) if student.hops else (None,)
    by_count = dict(zip(counts, asked.answers(*counts), strict=True))
    own = by_count[counts[-1]]  # all hops at hand
    by_hops = {
        str(hops): scores_in(graph, split, answers)
        for hops, answers in by_count.items()
        if hops is not None
    }
    scores = {"name": case.student.name, **scores_in(graph, split, own), "by_hops": by_hops}
    teacher = setup.teacher_answers(split)
    named = None
    if teacher is not None:
        named = {"name": setup.teacher_name, **scores_in(graph, split, teacher)}
    seed = case.student.artifact.record["seed"]
    result = _result(graph, setup.fingerprint, split, seed, scores, named)
    if teacher is not None:
        result["agreement"] = agreement_of(graph, split, own, teacher)
    if breakdown:
        result["breakdown"] = breakdown_of(graph, split, own, teacher)
    return result


def _result(
    graph: Graph,
    digest: str,
    split: Split,
    seed: int,
    student: dict[str, Any] | None,
    teacher: dict[str, Any] | None,
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "graph": graph.name,
        "graph_digest": digest,
        "task": graph.task,
        "metric": graph.metric,
        "split": split.facts,
        "seed": seed,
        "student": student,
        "teacher": teacher,
        "agreement": None,
    }
