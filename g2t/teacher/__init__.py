"""Teachers: GNNs on PyG's convolutions that hand out every layer's node embedding.

One file and one table line each. Only this package and `g2t.graph.sources` import torch_geometric.
"""

from collections.abc import Mapping

TEACHERS: Mapping[str, str] = {
    "gcn": "g2t.teacher.gcn:GCN",
    "sage": "g2t.teacher.sage:SAGE",
    "gat": "g2t.teacher.gat:GAT",
    "gatv2": "g2t.teacher.gatv2:GATv2",
    "gat-sep": "g2t.teacher.gat_sep:GATSep",
    "gin": "g2t.teacher.gin:GIN",
    "pna": "g2t.teacher.pna:PNA",
    "appnp": "g2t.teacher.appnp:APPNP",
    "gcn2": "g2t.teacher.gcn2:GCN2",
    "sgc": "g2t.teacher.sgc:SGC",
}
