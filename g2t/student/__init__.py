"""Students: a Transformer over landmarks, one over hop tokens, and the MLP floor.

One file and one table line each; none of them knows a teacher or torch_geometric.
"""

from collections.abc import Mapping

STUDENTS: Mapping[str, str] = {
    "landmark": "g2t.student.landmark:Landmark",
    "hop": "g2t.student.hop:Hop",
    "mlp": "g2t.student.mlp:MLP",
}
