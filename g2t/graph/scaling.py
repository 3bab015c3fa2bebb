"""Feature scaling: how a teacher saw the features."""

import torch

from g2t.graph.csr import Csr, Features


def scale_features(features: Features, scaling: str) -> Features:
    """Return features `raw`, or with rows that sum to 1 (`row`; rows that sum to 0 stay)."""
    if scaling == "raw":
        return features
    if isinstance(features, Csr):
        sums = torch.zeros(len(features)).index_add_(0, features.row_E, features.values().abs())
        return features.scaled(1 / sums.clamp(min=1e-12))
    sums = features.abs().sum(1, keepdim=True)
    return features / sums.clamp(min=1e-12)
