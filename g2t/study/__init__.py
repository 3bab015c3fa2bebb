"""Studies: many losses on many graphs, in tiers, through the same stages as a recipe.

`plan` reads the file and says which cells there are, `standing` which of them are done, `run` makes
the others, `table` compares them, and `page` writes that for people.
"""

from g2t.study.plan import Cell, Study, read_study, recipes_of, select
from g2t.study.run import check_study, run_study
from g2t.study.standing import Standing

__all__ = [
    "Cell",
    "Standing",
    "Study",
    "check_study",
    "read_study",
    "recipes_of",
    "run_study",
    "select",
]
