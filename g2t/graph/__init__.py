"""Graphs: the artefact, its splits, its structure, and where it comes from."""
