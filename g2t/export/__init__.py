"""Teacher + graph → cache, layer by layer and out of core.

`plan` says which tensors there will be, `write` walks over them, `walk` runs one layer over all
rows, `layer` holds the mathematics, `bag` the sums over edges; `run` and `add` are the two ways in.
"""

from g2t.export.plan import ExportPlan, ExportSettings, plan_export
from g2t.export.run import export

__all__ = ["ExportPlan", "ExportSettings", "export", "plan_export"]
