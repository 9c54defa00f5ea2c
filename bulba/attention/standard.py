"""Softmax attention with grouped key/value heads.

Formula: y = softmax(q k^T / sqrt(D)) v, causal, inside each document (Vaswani et al. 2017, arXiv 1706.03762). Query
heads share key/value heads in groups (Ainslie et al. 2023, arXiv 2305.13245): num_kv_heads = num_heads is multi-head,
num_kv_heads = 1 is multi-query attention.
Cost per layer: 4 T^2 N D multiply-adds for all pairs of tokens; memory O(T^2) for kernel `reference`, O(T) for `flash`,
whose packed rows are read by
- torch.nn.attention.varlen on CUDA in bf16 or fp16, with no work between documents;
- bulba/attention/blocked.py on CUDA otherwise, and on a CPU in compiled code;
- torch's fused kernels elsewhere, which want the documents as a mask of T x T bytes.
It does not do sliding windows or attention dropout.
"""

from __future__ import annotations

import inspect
import math
import warnings
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.varlen import varlen_attn

from bulba.attention.base import AttentionContext, Capabilities, DocumentForm, Kernel, Mixer, MixerShape
from bulba.attention.blocked import blocked_attention
from bulba.errors import UnsupportedError

FUSED_BACKENDS = [SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
# Older versions of torch take grouped heads without being told.
GROUPED: dict[str, Any] = {"enable_gqa": True} if "enable_gqa" in inspect.signature(varlen_attn).parameters else {}


class KeyValueCache:
    """Keys and values of one layer, [B, G, max_tokens, D] each; the model keeps count of how much is filled."""

    def __init__(self, shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device) -> None:
        self.k_BGSD = torch.zeros(shape, dtype=dtype, device=device)
        self.v_BGSD = torch.zeros(shape, dtype=dtype, device=device)

    def write(self, k_BGTD: Tensor, v_BGTD: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Put new keys and values behind the first `start` ones and return all that are filled now."""
        end = start + k_BGTD.shape[2]
        self.k_BGSD[:, :, start:end] = k_BGTD
        self.v_BGSD[:, :, start:end] = v_BGTD
        return self.k_BGSD[:, :, :end], self.v_BGSD[:, :, :end]

    @property
    def num_bytes(self) -> int:
        return self.k_BGSD.nbytes + self.v_BGSD.nbytes


class StandardAttention(Mixer):
    """Grouped-query softmax attention; `bias` adds biases to the four projections."""

    capabilities = Capabilities(
        kernels=frozenset({"reference", "flash"}), packing=True, cache=True, gqa=True, gguf=True
    )

    def __init__(self, shape: MixerShape, bias: bool = False) -> None:
        super().__init__()
        self.shape = shape
        self.repeat_heads = False  # for a device whose fused kernels take no grouped heads
        self.documents: DocumentForm = "mask_BTS"
        width, kv_width = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
        self.q_proj = nn.Linear(shape.hidden_size, width, bias=bias)
        self.k_proj = nn.Linear(shape.hidden_size, kv_width, bias=bias)
        self.v_proj = nn.Linear(shape.hidden_size, kv_width, bias=bias)
        self.o_proj = nn.Linear(width, shape.hidden_size, bias=bias)

    def forward(self, x_BTH: Tensor, context: AttentionContext, cache: Any | None = None) -> Tensor:
        q_BNTD = context.rotate(self._heads(self.q_proj(x_BTH)))
        k_BGSD = context.rotate(self._heads(self.k_proj(x_BTH)))
        v_BGSD = self._heads(self.v_proj(x_BTH))
        if cache is not None:
            k_BGSD, v_BGSD = cache.write(k_BGSD, v_BGSD, context.start)
        if context.kernel == "reference":
            y_BNTD = reference_attention(q_BNTD, k_BGSD, v_BGSD, context.mask_BTS)
        elif context.offsets is not None and self.documents == "offsets":
            y_BNTD = varlen_attention(q_BNTD, k_BGSD, v_BGSD, context.offsets)
        elif cache is None and self._runs_blocked(context):
            y_BNTD = blocked_attention(q_BNTD, k_BGSD, v_BGSD, context.documents_BT)
        else:
            if self.repeat_heads:
                k_BGSD, v_BGSD = repeat_heads(q_BNTD, k_BGSD), repeat_heads(q_BNTD, v_BGSD)
            y_BNTD = flash_attention(q_BNTD, k_BGSD, v_BGSD, context.mask_BTS)
        return self.o_proj(y_BNTD.transpose(1, 2).flatten(2))

    def reads(self, kernel: Kernel) -> DocumentForm:
        return "mask_BTS" if kernel == "reference" else self.documents

    def new_cache(self, batch_size: int, max_tokens: int, dtype: torch.dtype, device: torch.device) -> KeyValueCache:
        return KeyValueCache((batch_size, self.shape.num_kv_heads, max_tokens, self.shape.head_dim), dtype, device)

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

    def _runs_blocked(self, context: AttentionContext) -> bool:
        if self.documents == "documents_BT":
            return context.documents_BT is not None
        return self.q_proj.weight.device.type == "cpu" and torch.compiler.is_compiling()

    def _heads(self, x_BTW: Tensor) -> Tensor:
        """[B, T, heads * D] -> [B, heads, T, D]."""
        return x_BTW.unflatten(-1, (-1, self.shape.head_dim)).transpose(1, 2)


def reference_attention(q_BNTD: Tensor, k_BGSD: Tensor, v_BGSD: Tensor, mask_BTS: Tensor | None) -> Tensor:
    """The formula written out, softmax in fp32 at least: [B, N, T, D], 2 x [B, G, S, D] -> [B, N, T, D]."""
    k_BNSD, v_BNSD = repeat_heads(q_BNTD, k_BGSD), repeat_heads(q_BNTD, v_BGSD)
    if mask_BTS is None:
        mask_BTS = causal_mask(q_BNTD.shape[2], k_BGSD.shape[2], q_BNTD.device)[None]
    scores_BNTS = (q_BNTD @ k_BNSD.transpose(-2, -1)) / math.sqrt(q_BNTD.shape[-1])
    scores_BNTS = scores_BNTS.to(torch.promote_types(scores_BNTS.dtype, torch.float32))
    scores_BNTS = scores_BNTS.masked_fill(~mask_BTS[:, None], -torch.inf)
    return scores_BNTS.softmax(-1).to(v_BNSD.dtype) @ v_BNSD


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


def varlen_attention(q_BNTD: Tensor, k_BGTD: Tensor, v_BGTD: Tensor, offsets: Tensor) -> Tensor:
    """Causal attention inside each document, CUDA and half precision only; offsets as in `AttentionContext`."""
    num_rows, _, num_tokens, _ = q_BNTD.shape
    # Of a single row flatten would give a view with the heads outermost, whose layout not every version keeps.
    q_XND, k_XGD, v_XGD = (x.transpose(1, 2).flatten(0, 1).contiguous() for x in (q_BNTD, k_BGTD, v_BGTD))
    # Newer versions of torch prefer cuDNN, which makes a plan for every number of documents.
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        y_XND = varlen_attn(
            q_XND, k_XGD, v_XGD, offsets, offsets, num_tokens, num_tokens, window_size=(-1, 0), **GROUPED
        )
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
