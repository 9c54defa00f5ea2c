"""Which keys a query may read, as two numbers a token: kernels skip what lies outside instead of masking it."""

from __future__ import annotations

import torch
from torch import Tensor


def reading_bounds(documents_BT: Tensor | None, rows: int, queries: int, keys: int, device: torch.device) -> Bounds:
    """For every query the first key of its document, for every key the end of the queries of its document.

    Both int32, [B, T] and [B, S]. documents_BT: one number for neighbours in a document (bulba/packing.py), S = T then;
    None means one document a row. A query at the place i reads the keys first .. i.
    """
    if documents_BT is None:
        first_BT = torch.zeros(rows, queries, dtype=torch.int32, device=device)
        return first_BT, torch.full((rows, keys), queries, dtype=torch.int32, device=device)
    places_T = torch.arange(queries, dtype=torch.int32, device=device)
    inner_BT = documents_BT[:, 1:] != documents_BT[:, :-1]
    edge_B1 = torch.ones_like(documents_BT[:, :1], dtype=torch.bool)
    starts_BT = torch.cat([edge_B1, inner_BT], 1)
    ends_BT = torch.cat([inner_BT, edge_B1], 1)
    first_BT = torch.where(starts_BT, places_T, 0).cummax(1).values
    end_BT = torch.where(ends_BT, places_T + 1, queries).flip(1).cummin(1).values.flip(1)
    return first_BT.contiguous(), end_BT.contiguous()


Bounds = tuple[Tensor, Tensor]
