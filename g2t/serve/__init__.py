"""Serving: a trained student on nodes that it has never seen, without graph, cache or PyG."""

from g2t.serve.student import Prediction, ServedStudent, load_student

__all__ = ["Prediction", "ServedStudent", "load_student"]
