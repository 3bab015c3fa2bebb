"""The losses: one file and one table line each."""

from collections.abc import Mapping

LOSSES: Mapping[str, str] = {
    "hard": "g2t.distill.losses.labels:Hard",
    "soft": "g2t.distill.losses.labels:Soft",
    "pseudo": "g2t.distill.losses.labels:Pseudo",
    "edge_low": "g2t.distill.losses.edge_low:EdgeLow",
    "edge_high": "g2t.distill.losses.edge_high:EdgeHigh",
    "reliable_edge": "g2t.distill.losses.reliable_edge:ReliableEdge",
    "hardness_edge": "g2t.distill.losses.hardness_edge:HardnessEdge",
    "lsp": "g2t.distill.losses.lsp:LSP",
    "gram": "g2t.distill.losses.gram:Gram",
    "cka": "g2t.distill.losses.cka:CKA",
    "contrast": "g2t.distill.losses.contrast:Contrast",
    "cluster": "g2t.distill.losses.cluster:Cluster",
    "codebook": "g2t.distill.losses.codebook:Codebook",
    "align": "g2t.distill.losses.align:Align",
    "adversarial": "g2t.distill.losses.adversarial:Adversarial",
    "hop_consistency": "g2t.distill.losses.hop_consistency:HopConsistency",
}
