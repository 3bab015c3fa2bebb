"""g2t: distil what a GNN knows about a graph into a Transformer, offline, from a verified cache.

from g2t import load_student
student = load_student("runs/cora/student")
student.predict(features).labels
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from g2t.serve import Prediction, ServedStudent, load_student

__version__ = "0.1.0"
__all__ = ["Prediction", "ServedStudent", "__version__", "load_student"]


def __getattr__(name: str) -> object:
    """Load what serves only when it is asked for: `import g2t` alone costs nothing."""
    if name in __all__:
        return getattr(importlib.import_module("g2t.serve"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
