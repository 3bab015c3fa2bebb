"""Figures of a report: inline SVG whose colours and letters are those of the page around it.

`canvas` turns a drawing into SVG, `charts` draws, `parts` says what is drawn of `g2t.report/1`.
"""

from g2t.report.figures.parts import Figure, Panel, figures_of

__all__ = ["Figure", "Panel", "figures_of"]
