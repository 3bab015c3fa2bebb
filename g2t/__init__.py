"""g2t: distil what a GNN knows about a graph into a Transformer, offline, from a verified cache."""

__version__ = "0.1.0"
