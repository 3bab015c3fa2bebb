"""Embeddings in two dimensions."""

import torch

from g2t.report.projection import pca


def test_pca_keeps_the_distances_of_points_in_a_plane() -> None:
    draw = torch.Generator().manual_seed(0)
    plane = torch.randn(40, 2, generator=draw, dtype=torch.float64) * torch.tensor([3.0, 1.0])
    turn = torch.linalg.qr(torch.randn(5, 5, generator=draw, dtype=torch.float64)).Q[:2]
    found = pca(plane @ turn + 7)
    assert torch.allclose(torch.cdist(found, found), torch.cdist(plane, plane), atol=1e-6)
    assert found.var(0)[0] > found.var(0)[1]
    assert torch.allclose(pca(-(plane @ turn)).abs(), found.abs())


def test_pca_of_one_column_has_a_second_of_zeros() -> None:
    found = pca(torch.tensor([[1.0], [2.0], [6.0]]))
    assert torch.allclose(found[:, 0], torch.tensor([-2.0, -1.0, 3.0]).double())
    assert not found[:, 1].any()
