"""Where a token stands: rotary, sinusoidal and learned positions, ALiBi, and the scalings of rotary ones.

- rope (Su et al. 2021, arXiv 2104.09864), in the half-split layout of Hugging Face Llama: dimension d of a head is
  paired with d + D/2, and the pair is turned by position * base^(-2d/D). Angles are fp32, the turn at least.
- sinusoidal (Vaswani et al. 2017, arXiv 1706.03762, 3.5): added to the embedding; dimension 2d is
  sin(position * base^(-2d/H)) and 2d + 1 its cosine. No weights.
- learned: a table [max_seq_len, hidden_size], added to the embedding.
- alibi (Press et al. 2022, arXiv 2108.12409): the score of a key falls by slope * distance.
- none.
Longer contexts for rope: linear divides positions by a factor (Chen et al. 2023, arXiv 2306.15595); yarn divides the
slow pairs alone and sharpens attention (Peng et al. 2023, arXiv 2309.00071).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from bulba.errors import ConfigError

PositionScheme = Literal["rope", "sinusoidal", "learned", "alibi", "none"]
WITH_BASE: tuple[PositionScheme, ...] = ("rope", "sinusoidal")
# Turns within the original context above which a pair is left alone, and below which it is divided whole (YaRN, 3.2).
YARN_FAST_TURNS, YARN_SLOW_TURNS = 32.0, 1.0


@dataclass(frozen=True)
class RopeScaling:
    """How rotary positions are stretched to `factor` times the `original_max_seq_len` that the weights know."""

    type: Literal["linear", "yarn"]
    factor: float
    original_max_seq_len: int

    def __post_init__(self) -> None:
        if self.type not in ("linear", "yarn"):
            raise ConfigError(f"model.rope_scaling.type={self.type} must be linear or yarn.")
        if not self.factor >= 1:
            raise ConfigError(f"model.rope_scaling.factor={self.factor} must be at least 1.")
        if self.original_max_seq_len < 1:
            raise ConfigError(f"model.rope_scaling.original_max_seq_len={self.original_max_seq_len} must be above 0.")


def check_positions(
    scheme: PositionScheme, base: float | None, scaling: Mapping[str, Any] | None
) -> RopeScaling | None:
    """The scaling as an object; ConfigError for settings that the scheme does not have or lacks."""
    if scheme not in get_args(PositionScheme):
        raise ConfigError(f"model.position={scheme} must be one of {', '.join(get_args(PositionScheme))}.")
    if scheme in WITH_BASE and not (base is not None and base > 0):
        raise ConfigError(f"model.rope_base={base} must be above 0 for model.position={scheme}.")
    if scheme not in WITH_BASE and base is not None:
        raise ConfigError(
            f"model.rope_base={base} does nothing with model.position={scheme}: set model.rope_base=null."
        )
    if scaling is None:
        return None
    if scheme != "rope":
        raise ConfigError(f"model.rope_scaling does nothing with model.position={scheme}: set it to null.")
    missing = {"type", "factor", "original_max_seq_len"} ^ set(scaling)
    if missing:
        raise ConfigError(
            f"model.rope_scaling takes type, factor and original_max_seq_len, and {', '.join(sorted(missing))} is "
            "missing or unknown."
        )
    return RopeScaling(**scaling)


def rotary_tables(
    positions_BT: Tensor, head_dim: int, base: float, scaling: RopeScaling | None = None
) -> tuple[Tensor, Tensor]:
    """cos and sin, [B, 1, T, D/2] fp32, of the angle of every pair of dimensions at every position.

    With yarn both are multiplied by 0.1 ln(factor) + 1, and scores so by its square (section 3.4 there).
    """
    frequencies = rotary_frequencies(head_dim, base, scaling, positions_BT.device)
    angles_B1TK = positions_BT[:, None, :, None].float() * frequencies
    cos, sin = angles_B1TK.cos(), angles_B1TK.sin()
    if scaling is None or scaling.type == "linear":
        return cos, sin
    sharper = 0.1 * math.log(scaling.factor) + 1
    return cos * sharper, sin * sharper


def rotary_frequencies(head_dim: int, base: float, scaling: RopeScaling | None, device: torch.device) -> Tensor:
    """The angle of every pair of dimensions per position, [D/2] fp32."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device=device) / head_dim
    frequencies = 1.0 / base**exponents
    if scaling is None:
        return frequencies
    if scaling.type == "linear":
        return frequencies / scaling.factor

    def pair_that_turns(turns: float) -> float:
        """Which pair makes so many turns in the original context."""
        return head_dim * math.log(scaling.original_max_seq_len / (turns * 2 * math.pi)) / (2 * math.log(base))

    first = max(math.floor(pair_that_turns(YARN_FAST_TURNS)), 0)
    last = min(math.ceil(pair_that_turns(YARN_SLOW_TURNS)), head_dim - 1)
    pairs = torch.arange(head_dim // 2, dtype=torch.float32, device=device)
    divided = ((pairs - first) / max(last - first, 0.001)).clamp(0, 1)
    return frequencies * (1 - divided) + frequencies / scaling.factor * divided


def rotate(x_BNTD: Tensor, cos_B1TK: Tensor, sin_B1TK: Tensor) -> Tensor:
    """Turn q or k, [B, heads, T, D], by the tables of `rotary_tables`."""
    wide_BNTD = x_BNTD.to(torch.promote_types(x_BNTD.dtype, cos_B1TK.dtype))
    first, second = wide_BNTD.chunk(2, -1)
    turned = (first * cos_B1TK - second * sin_B1TK, second * cos_B1TK + first * sin_B1TK)
    return torch.cat(turned, -1).to(x_BNTD.dtype)


@dataclass(frozen=True)
class Rotation:
    """`rotate` by given tables, as `AttentionContext.rotate`."""

    cos_B1TK: Tensor
    sin_B1TK: Tensor

    def __call__(self, x_BNTD: Tensor) -> Tensor:
        return rotate(x_BNTD, self.cos_B1TK, self.sin_B1TK)


def keep_as_it_is(x_BNTD: Tensor) -> Tensor:
    """`AttentionContext.rotate` where positions are not rotary."""
    return x_BNTD


def sinusoidal(positions_BT: Tensor, hidden_size: int, base: float) -> Tensor:
    """The table of Vaswani et al. at these positions, [B, T, H] fp32."""
    exponents = torch.arange(0, hidden_size, 2, dtype=torch.float32, device=positions_BT.device) / hidden_size
    angles_BTK = positions_BT[..., None].float() / base**exponents
    return torch.stack([angles_BTK.sin(), angles_BTK.cos()], -1).flatten(-2)


def alibi_slopes(num_heads: int, device: torch.device) -> Tensor:
    """2^(-8/N), 2^(-16/N), ..., [N] fp32; for N heads that are no power of two, those of the power below, then every
    other one of the power above, as in the code that Press et al. publish.

    Made on the device: a copy from the host would wait for all that the device has to do.
    """
    power = 2 ** math.floor(math.log2(num_heads))
    whole = torch.arange(1, power + 1, device=device) / power
    between = (2 * torch.arange(num_heads - power, device=device) + 1) / (2 * power)
    return torch.exp2(-8 * torch.cat([whole, between]))
