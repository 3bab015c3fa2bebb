"""Scores of students and teachers: the only place that reads test labels.

In the production setting test nodes that were seen are answered from the observed graph, nodes that
were held out from the whole one; `test` is GLNN's mix of both.

Every score carries the split's name and digest, and the lineage of student, cache, teacher and
graph is checked before anything is computed. `case` opens, `answers` asks and scores, `card` looks
at embeddings, `breakdown` takes scores apart, `robust` asks about corrupted graphs, `latency` times
what `ready` prepares, `run` writes, `check` holds figures against bounds.
"""

from g2t.evaluate.card import Cards, CardSources
from g2t.evaluate.case import Case, Setup, Sources, open_case
from g2t.evaluate.check import check_scores
from g2t.evaluate.run import EVALUATION, evaluate, evaluate_in, evaluate_teachers, scores_of

__all__ = [
    "EVALUATION",
    "CardSources",
    "Cards",
    "Case",
    "Setup",
    "Sources",
    "check_scores",
    "evaluate",
    "evaluate_in",
    "evaluate_teachers",
    "open_case",
    "scores_of",
]
