"""The structure report card: what of a graph stands in an embedding, level by level.

Every measure is taken of raw features (floor), of the teacher's last hidden layer (ceiling) and of
a student's last block, on the same draws of nodes, edges and paths. A student inherits
I = (student - floor) / (ceiling - floor).

`measures` has the table, `draws` what is drawn, `estimate` the standard errors, `card` puts them
together and `case` opens what an evaluation has. Standard errors are those of the draws: another
training is not in them. Probes look at no more than 256 principal directions of wider rows.
"""

from g2t.evaluate.card.case import Cards, CardSources

__all__ = ["CardSources", "Cards"]
