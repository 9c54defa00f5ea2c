"""Softmax attention of given queries, keys and values, by the kernel that the device has.

Formula: y_i = sum_j softmax_j(q_i . k_j / sqrt(D)) v_j, causal, inside each document (Vaswani et al. 2017, arXiv
1706.03762). Query heads share key/value heads in groups (Ainslie et al. 2023, arXiv 2305.13245).
Memory: O(T^2) for kernel `reference`, O(T) for `flash`, whose packed rows are read by
- torch.nn.attention.varlen on CUDA in bf16 or fp16, with no work between documents;
- bulba/attention/blocked.py on CUDA otherwise, on a CPU in compiled code, and with ALiBi everywhere;
- torch's fused kernels elsewhere, which want the documents as a mask of T x T bytes.
"""

from __future__ import annotations

import inspect
import math
import warnings
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from bulba.attention.base import AttentionContext, DocumentForm, Kernel, MixerShape
from bulba.attention.blocked import blocked_attention
from bulba.errors import UnsupportedError

FUSED_BACKENDS = [SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
# torch's varlen_attn once `load_varlen` was called, ahead of any compilation.
_varlen: Any = None


class Softmax:
    """Attention of q, k, v as a layer uses it: which implementation runs is settled once, by `choose_backend`.

    repeat_heads: for a device whose fused kernels take no grouped heads. documents: the form that kernel flash reads.
    """

    def __init__(self, shape: MixerShape) -> None:
        self.shape = shape
        self.repeat_heads = False
        self.documents: DocumentForm = "mask_BTS"

    def __call__(
        self,
        q_BNTD: Tensor,
        k_BGSD: Tensor,
        v_BGSD: Tensor,
        context: AttentionContext,
        decoding: bool = False,
        training: bool = False,
    ) -> Tensor:
        """[B, N, T, D], 2 x [B, G, S, D] -> [B, N, T, D]; decoding: k and v come out of a cache."""
        slopes_N, documents_BT = context.slopes_N, context.documents_BT
        if context.kernel == "reference":
            dropout = self.shape.dropout if training else 0.0
            return reference_attention(q_BNTD, k_BGSD, v_BGSD, context.mask_BTS, slopes_N, dropout)
        if slopes_N is not None:
            if decoding:
                return reference_attention(q_BNTD, k_BGSD, v_BGSD, None, slopes_N)
            return blocked_attention(q_BNTD, k_BGSD, v_BGSD, documents_BT, slopes_N)
        if context.offsets is not None and self.documents == "offsets":
            return varlen_attention(q_BNTD, k_BGSD, v_BGSD, context.offsets)
        if not decoding and self._runs_blocked(q_BNTD, documents_BT):
            return blocked_attention(q_BNTD, k_BGSD, v_BGSD, documents_BT)
        if self.repeat_heads:
            k_BGSD, v_BGSD = repeat_heads(q_BNTD, k_BGSD), repeat_heads(q_BNTD, v_BGSD)
        return flash_attention(q_BNTD, k_BGSD, v_BGSD, context.mask_BTS)

    def reads(self, kernel: Kernel) -> DocumentForm:
        """As `Mixer.reads`."""
        return "mask_BTS" if kernel == "reference" else self.documents

    def choose_backend(
        self, kernel: Kernel, compiled: bool, num_rows: int, num_tokens: int, dtype: torch.dtype, device: torch.device
    ) -> str:
        """As `Mixer.choose_backend`; key/value heads are repeated where only that gives a fused kernel."""
        self.repeat_heads, self.documents = False, "mask_BTS"
        if kernel == "reference":
            return kernel
        if compiled and device.type == "cpu":
            return "cpu blocked"
        shape = (num_rows, self.shape.num_heads, num_tokens, self.shape.head_dim)
        q_BNTD = torch.empty(shape, dtype=dtype, device=device, requires_grad=True)
        k_BGSD = torch.empty_like(q_BNTD[:, : self.shape.num_kv_heads]).requires_grad_()
        if device.type == "cuda":
            self.documents = "offsets" if has_flash(q_BNTD, k_BGSD) else "documents_BT"
            load_varlen()
            q_BNTD = q_BNTD[:, :, :1]  # what is left for torch's kernels with a mask is decoding
        mask_BTS = torch.ones(num_rows, q_BNTD.shape[2], num_tokens, dtype=torch.bool, device=device)
        backend = fused_backend(q_BNTD, k_BGSD, k_BGSD, mask_BTS)
        if backend is None and self.shape.num_kv_heads < self.shape.num_heads:
            k_BNSD = repeat_heads(q_BNTD, k_BGSD)
            backend = fused_backend(q_BNTD, k_BNSD, k_BNSD, mask_BTS)
            self.repeat_heads = backend is not None
        if backend is None:
            raise no_fused_kernel(q_BNTD, k_BGSD)
        if device.type == "cuda":
            return "cuda varlen" if self.documents == "offsets" else "cuda blocked"
        return f"{backend}, key/value heads repeated" if self.repeat_heads else backend

    def _runs_blocked(self, q_BNTD: Tensor, documents_BT: Tensor | None) -> bool:
        if self.documents == "documents_BT":
            return documents_BT is not None
        return q_BNTD.device.type == "cpu" and torch.compiler.is_compiling()


def reference_attention(
    q_BNTD: Tensor,
    k_BGSD: Tensor,
    v_BGSD: Tensor,
    mask_BTS: Tensor | None,
    slopes_N: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """The formula written out, softmax in fp32 at least: [B, N, T, D], 2 x [B, G, S, D] -> [B, N, T, D].

    slopes_N, dropout: as in `AttentionContext` and `MixerShape`.
    """
    k_BNSD, v_BNSD = repeat_heads(q_BNTD, k_BGSD), repeat_heads(q_BNTD, v_BGSD)
    num_queries, num_keys = q_BNTD.shape[2], k_BGSD.shape[2]
    if mask_BTS is None:
        mask_BTS = causal_mask(num_queries, num_keys, q_BNTD.device)[None]
    scores_BNTS = (q_BNTD @ k_BNSD.transpose(-2, -1)) / math.sqrt(q_BNTD.shape[-1])
    scores_BNTS = scores_BNTS.to(torch.promote_types(scores_BNTS.dtype, torch.float32))
    if slopes_N is not None:
        places_S = torch.arange(num_keys, device=q_BNTD.device)
        distance_TS = places_S[num_keys - num_queries :, None] - places_S
        scores_BNTS = scores_BNTS - slopes_N.to(scores_BNTS.dtype)[:, None, None] * distance_TS
    scores_BNTS = scores_BNTS.masked_fill(~mask_BTS[:, None], -torch.inf)
    weights_BNTS = F.dropout(scores_BNTS.softmax(-1), dropout) if dropout else scores_BNTS.softmax(-1)
    return weights_BNTS.to(v_BNSD.dtype) @ v_BNSD


def flash_attention(q_BNTD: Tensor, k_BGSD: Tensor, v_BGSD: Tensor, mask_BTS: Tensor | None) -> Tensor:
    """torch's fused kernels and never its T x T math fallback: UnsupportedError where no fused kernel fits."""
    square = q_BNTD.shape[2] == k_BGSD.shape[2]
    mask_B1TS = None
    if mask_BTS is not None:
        mask_B1TS = mask_BTS[:, None]
    elif not square:
        mask_B1TS = causal_mask(q_BNTD.shape[2], k_BGSD.shape[2], q_BNTD.device)[None, None]
    try:
        with sdpa_kernel(FUSED_BACKENDS):
            return F.scaled_dot_product_attention(
                q_BNTD, k_BGSD, v_BGSD, attn_mask=mask_B1TS, is_causal=mask_B1TS is None, enable_gqa=True
            )
    except RuntimeError as error:
        if "No available kernel" in str(error):
            raise no_fused_kernel(q_BNTD, k_BGSD) from error
        raise


def load_varlen() -> None:
    """Import torch's attention between offsets, and with it torch's compiler: seconds that only CUDA needs."""
    from torch.nn.attention.varlen import varlen_attn

    global _varlen
    # Older versions of torch take grouped heads without being told.
    is_told = "enable_gqa" in inspect.signature(varlen_attn).parameters
    _varlen = partial(varlen_attn, enable_gqa=True) if is_told else varlen_attn


def varlen_attention(q_BNTD: Tensor, k_BGTD: Tensor, v_BGTD: Tensor, offsets: Tensor) -> Tensor:
    """Causal attention inside each document, CUDA and half precision only; offsets as in `AttentionContext`.

    `load_varlen` must have been called.
    """
    num_rows, _, num_tokens, _ = q_BNTD.shape
    # Of a single row flatten would give a view with the heads outermost, whose layout not every version keeps.
    q_XND, k_XGD, v_XGD = (x.transpose(1, 2).flatten(0, 1).contiguous() for x in (q_BNTD, k_BGTD, v_BGTD))
    # Newer versions of torch prefer cuDNN, which makes a plan for every number of documents.
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        y_XND = _varlen(q_XND, k_XGD, v_XGD, offsets, offsets, num_tokens, num_tokens, window_size=(-1, 0))
    return cast("Tensor", y_XND).unflatten(0, (num_rows, num_tokens)).transpose(1, 2)


def has_flash(q_BNTD: Tensor, k_BGSD: Tensor) -> bool:
    """Whether torch's flash attention for CUDA takes tensors of this width and dtype on this card."""
    parameters = torch.backends.cuda.SDPAParams(q_BNTD, k_BGSD, k_BGSD, None, 0.0, True, True)
    return torch.backends.cuda.can_use_flash_attention(parameters)


def fused_backend(q_BNTD: Tensor, k_BGSD: Tensor, v_BGSD: Tensor, mask_BTS: Tensor) -> str | None:
    """The fused kernel that torch would take for these tensors, or None; nothing is computed."""
    with sdpa_kernel(FUSED_BACKENDS), warnings.catch_warnings(action="ignore"):  # torch lists its reasons as warnings
        try:
            number = torch._fused_sdp_choice(q_BNTD, k_BGSD, v_BGSD, mask_BTS[:, None], enable_gqa=True)
        except RuntimeError:
            return None
    backend = SDPBackend(number)
    if backend not in FUSED_BACKENDS:
        return None
    return f"{'cpu ' if q_BNTD.is_cpu else ''}{backend.name.removesuffix('_ATTENTION').lower()}"


def no_fused_kernel(q_BNTD: Tensor, k_BGSD: Tensor) -> UnsupportedError:
    """The sentence for a shape that torch has no fused kernel for on this device."""
    rows, heads, num_tokens, head_dim = q_BNTD.shape
    return UnsupportedError(
        f"torch {torch.__version__} has no fused attention kernel on {q_BNTD.device.type} for {rows} rows of "
        f"{num_tokens} tokens, {heads} heads over {k_BGSD.shape[1]} key/value heads of width {head_dim}, in "
        f"{str(q_BNTD.dtype).removeprefix('torch.')}: choose mode=eager or mode=compile, or another "
        "trainer.precision or model.num_heads."
    )


def repeat_heads(q_BNTD: Tensor, k_BGSD: Tensor) -> Tensor:
    """Each key/value head once for every query head of its group: [B, G, S, D] -> [B, N, S, D]."""
    return k_BGSD.repeat_interleave(q_BNTD.shape[1] // k_BGSD.shape[1], 1)


def causal_mask(num_queries: int, num_keys: int, device: torch.device) -> Tensor:
    """True where a query may read a key; the last query stands at the last key. [T, S]."""
    offset = num_keys - num_queries
    return torch.ones(num_queries, num_keys, dtype=torch.bool, device=device).tril(offset)
