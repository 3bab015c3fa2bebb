"""Distillation: a student from a cache alone. Neither the graph nor the GNN is at hand."""
