"""Figures of a report: inline SVG whose colours and letters are those of the page around it.

`canvas` turns a drawing into SVG, `charts` draws, `series` says who has which
colour, `parts` and `structure` what is drawn of `g2t.report/1`.
"""

from g2t.report.figures.parts import figures_of
from g2t.report.figures.series import Figure, Panel

__all__ = ["Figure", "Panel", "figures_of"]
