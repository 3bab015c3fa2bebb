"""One page about runs: what students score, what they inherit, what they cost, and of what lineage.

`find` reads folders, `gather` makes rows of what lies there, `content` makes `g2t.report/1` of the
rows, and `page` and `markdown` write that for people; `run` keeps all three as one artefact.
"""

from g2t.report.find import find
from g2t.report.run import report

__all__ = ["find", "report"]
