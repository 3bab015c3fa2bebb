"""The Transformer block of both students: attention to landmarks (and a node's own tokens), FFN.

Shape letters: `B` nodes, `T` tokens, `M` landmarks, `D` width, `H` heads.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from g2t.chance import Dropout, drop


class Block(nn.Module):
    """Pre-norm attention and feed-forward.

    Tokens query M learned landmarks; with `own_tokens` also the other tokens of their node, never
    those of another node.
    """

    def __init__(
        self, width: int, heads: int, landmarks: int, dropout: float, own_tokens: bool
    ) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.own_tokens = own_tokens
        self.landmarks = nn.Parameter(torch.randn(landmarks, width))
        self.norm_tokens = nn.LayerNorm(width)
        self.norm_landmarks = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        self.feed = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            nn.GELU(),
            Dropout(dropout),
            nn.Linear(2 * width, width),
        )

    def landmark_pairs(self) -> tuple[Tensor, Tensor]:
        """Return keys and values of the landmarks, [H, M, D / H] each."""
        global_1MD = self.norm_landmarks(self.landmarks)[None]
        return self._split(self.key(global_1MD))[0], self._split(self.value(global_1MD))[0]

    def forward(self, tokens_BTD: Tensor, known_BT: Tensor | None) -> Tensor:
        """Return tokens [B, T, D]; a token that is not known is seen by no other."""
        normed_BTD = self.norm_tokens(tokens_BTD)
        attended_BTD = self._attend(normed_BTD, known_BT)
        tokens_BTD = tokens_BTD + drop(attended_BTD, self.dropout, self.training)
        fed_BTD: Tensor = self.feed(tokens_BTD)
        return tokens_BTD + drop(fed_BTD, self.dropout, self.training)

    def _attend(self, tokens_BTD: Tensor, known_BT: Tensor | None) -> Tensor:
        count, length, width = tokens_BTD.shape
        key_HMD, value_HMD = self.landmark_pairs()
        if not self.own_tokens:
            # One sequence of B·T queries over the M landmarks: nothing of a node reaches another.
            queries = self._split(self.query(tokens_BTD.reshape(1, -1, width)))
            mixed = F.scaled_dot_product_attention(queries, key_HMD[None], value_HMD[None])
            return self.output(mixed.transpose(1, 2).reshape(count, length, width))  # type: ignore[no-any-return]
        mixed = self._attend_both(tokens_BTD, key_HMD, value_HMD, known_BT)
        return self.output(mixed.transpose(1, 2).reshape(count, length, width))  # type: ignore[no-any-return]

    def _attend_both(
        self, tokens_BTD: Tensor, key_HMD: Tensor, value_HMD: Tensor, known_BT: Tensor | None
    ) -> Tensor:
        """Attend to the node's own tokens and the landmarks under one softmax, [B, H, T, D / H].

        The landmarks are the same for all nodes: one product with all queries, where a call of
        scaled_dot_product_attention would take a copy of them per node and twice the time.
        """
        query_BHTD, key_BHTD, value_BHTD = (
            self._split(part(tokens_BTD)) for part in (self.query, self.key, self.value)
        )
        query_BHTD = query_BHTD * query_BHTD.shape[3] ** -0.5
        own_BHTT = query_BHTD @ key_BHTD.transpose(2, 3)
        if known_BT is not None:
            own_BHTT = own_BHTT.masked_fill(~known_BT[:, None, None], -torch.inf)
        score = torch.cat([own_BHTT, _shared(query_BHTD, key_HMD.transpose(1, 2))], 3)
        length = tokens_BTD.shape[1]
        own_BHTT, far_BHTM = torch.split(score.softmax(3), [length, key_HMD.shape[1]], 3)
        mixed: Tensor = own_BHTT @ value_BHTD + _shared(far_BHTM, value_HMD)
        return mixed

    @torch.no_grad()
    def usage(self, tokens_BTD: Tensor) -> Tensor:
        """Return how the attention that goes to landmarks is shared among them, [M], in sum 1.

        Over all heads and tokens, of which all are at hand; takes B · H · T · (T + M) numbers.
        """
        normed_BTD = self.norm_tokens(tokens_BTD)
        query_BHTD = self._split(self.query(normed_BTD))
        scores = [_shared(query_BHTD, self.landmark_pairs()[0].transpose(1, 2))]
        if self.own_tokens:
            scores.append(query_BHTD @ self._split(self.key(normed_BTD)).transpose(2, 3))
        share_BHTX = (torch.cat(scores, 3) * query_BHTD.shape[3] ** -0.5).softmax(3)
        usage_M = share_BHTX[..., : len(self.landmarks)].sum((0, 1, 2))
        shared_M: Tensor = usage_M / usage_M.sum()
        return shared_M

    def _split(self, rows: Tensor) -> Tensor:
        """Cut the width into heads: [B, T, D] to [B, H, T, D / H]."""
        batch, length, width = rows.shape
        return rows.reshape(batch, length, self.heads, width // self.heads).transpose(1, 2)


def _shared(rows_BHTX: Tensor, matrix_HXY: Tensor) -> Tensor:
    """Multiply the rows of every node with one matrix per head, [B, H, T, Y]."""
    batch, heads, length, _ = rows_BHTX.shape
    rows = rows_BHTX.transpose(0, 1).reshape(heads, batch * length, -1)
    return (rows @ matrix_HXY).view(heads, batch, length, -1).transpose(0, 1)


def start_landmarks(blocks: nn.ModuleList, centres: list[Tensor]) -> None:
    """Place the landmarks of every block at its own centres, [M', any width] each.

    A random rotation carries them over, so distances among them survive where the student is at
    least as wide, and are projected where it is not; fewer centres than landmarks leave the rest as
    they are.
    """
    for block, places in zip(blocks, centres, strict=True):
        assert isinstance(block, Block)
        _place(block, places)


@torch.no_grad()
def _place(block: Block, centres: Tensor) -> None:
    count, width = min(len(centres), len(block.landmarks)), block.landmarks.shape[1]
    rotation = torch.empty(centres.shape[1], width)
    nn.init.orthogonal_(rotation)
    placed = (centres - centres.mean(0)) @ rotation.to(centres.device)
    block.landmarks[:count] = (placed / placed.std().clamp(min=1e-6))[:count]
