"""Rows that hold several documents, one after another: what tells attention where each of them ends."""

from __future__ import annotations

import torch
from torch import Tensor


def document_mask(documents_BT: Tensor) -> Tensor:
    """True where a query may read a key: not later, and in the same document. [B, T] -> [B, T, T]."""
    same_BTS = documents_BT[:, :, None] == documents_BT[:, None, :]
    return same_BTS.tril()


def document_offsets(documents_BT: Tensor) -> Tensor:
    """Where each document begins in the rows laid end to end, and where the last one ends: int32 [documents + 1].

    documents_BT: the document of every token, one number for neighbours in a document; no document goes beyond its row.
    Waits for the device of `documents_BT`, since the number of documents is a size.
    """
    starts_BT = torch.ones_like(documents_BT, dtype=torch.bool)
    starts_BT[:, 1:] = documents_BT[:, 1:] != documents_BT[:, :-1]
    end = torch.tensor([documents_BT.numel()], device=documents_BT.device)
    return torch.cat([starts_BT.flatten().nonzero()[:, 0], end]).int()


def of_any_length(offsets: Tensor) -> Tensor:
    """The same offsets, marked so that compiled code takes any number of documents; call it on the device they are for.

    Whole rows of two batches have one shape, but hardly ever as many documents.
    """
    torch._dynamo.mark_dynamic(offsets, 0)
    return offsets
