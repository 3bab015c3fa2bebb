"""Teachers: GNNs on PyG's convolutions that hand out every layer's node embedding.

One file and one table line each. Only this package and `g2t.graph.sources` import torch_geometric.
"""

from collections.abc import Mapping

TEACHERS: Mapping[str, str] = {
    "gcn": "g2t.teacher.gcn:GCN",
    "sage": "g2t.teacher.sage:SAGE",
    "gat": "g2t.teacher.gat:GAT",
}
