"""Muon for the hidden matrices, AdamW for everything else, as one optimizer; both steps are torch's own.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/):
b = momentum * b + (1 - momentum) * g,
w = w - lr * (weight_decay * w + scale * orthogonal(g + momentum * (b - g))),
where orthogonal() is close to the nearest semi-orthogonal matrix: `ns_steps` Newton-Schulz steps in bfloat16.
For an [out, in] matrix, `scale` is one of
    original         sqrt(max(1, out / in)) (Jordan et al. 2024)
    match_rms_adamw  0.2 * sqrt(max(out, in)): updates as large as AdamW's, so that its lr can be kept
                     (Liu et al. 2025, "Muon is Scalable for LLM Training", arXiv 2502.16982, section 2.2)
Embeddings, head, norms, biases and LoRA matrices never go to Muon. Clipping by global norm scales the
gradients of both parts alike; Muon's update does not depend on that scale, only the weight of the step in its
momentum does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, overload

import torch
from torch.optim import AdamW, Muon, Optimizer

from bulba.errors import ConfigError
from bulba.optimizer.groups import NamedParameters, decay_groups, role_of, trained
from bulba.optimizer.kernel import choose_kernel
from bulba.optimizer.ranges import check_average, check_nesterov, check_not_negative, check_positive

MAX_NS_STEPS = 99  # torch refuses more


class MuonWithAdamW(Optimizer):
    """Steps torch's Muon and AdamW, each over the groups whose `algorithm` names it.

    Groups and state belong to this object and the parts work on the same ones, so that schedulers,
    checkpoints and Lightning see one ordinary optimizer.
    """

    _parts: list[Optimizer]

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        """groups: with all their hyperparameters, because the parts are made from the groups alone."""
        super().__init__(groups, defaults={})
        self._link_parts()

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Loading a state, and copying, replaces groups and state; the parts must follow.
        super().__setstate__(state)
        self._link_parts()

    def _link_parts(self) -> None:
        self._parts = []
        for algorithm in (Muon, AdamW):
            groups = [group for group in self.param_groups if group["algorithm"] == algorithm.__name__]
            if groups:
                part = algorithm(groups)
                part.state = self.state
                self._parts.append(part)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of both parts; `closure`, if given, is called once and its loss returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss


def build_muon(
    named_parameters: NamedParameters,
    lr: float,
    momentum: float,
    nesterov: bool,
    ns_steps: int,
    adjust_lr: Literal["original", "match_rms_adamw"],
    weight_decay: float,
    adamw_lr: float,
    adamw_beta1: float,
    adamw_beta2: float,
    adamw_eps: float,
) -> MuonWithAdamW:
    """Muon and AdamW over the weights that are trained; `lr` and `adamw_lr` are the peaks of the two parts.

    Raises ConfigError for values out of range, and when there is no hidden matrix for Muon.
    """
    check_positive(lr=lr, adamw_lr=adamw_lr, adamw_eps=adamw_eps)
    check_average(momentum=momentum, adamw_beta1=adamw_beta1, adamw_beta2=adamw_beta2)
    check_nesterov(nesterov, momentum)
    check_not_negative(weight_decay=weight_decay)
    if not 1 <= ns_steps <= MAX_NS_STEPS:
        raise ConfigError(f"optimizer.ns_steps={ns_steps} is out of range: set 1 to {MAX_NS_STEPS}.")
    weights = trained(named_parameters)
    hidden = [pair for pair in weights if role_of(*pair) == "matrix"]
    rest = [pair for pair in weights if role_of(*pair) != "matrix"]
    if not hidden:
        raise ConfigError("optimizer=muon has nothing to do, because no trained weight is a hidden matrix: use adamw.")
    muon_group: dict[str, Any] = {
        "name": "muon",
        "algorithm": "Muon",
        "params": hidden,
        "lr": lr,
        "momentum": momentum,
        "nesterov": nesterov,
        "ns_steps": ns_steps,
        "adjust_lr_fn": adjust_lr,
        "weight_decay": weight_decay,
    }
    adamw_options: dict[str, Any] = {
        "algorithm": "AdamW",
        "lr": adamw_lr,
        "betas": (adamw_beta1, adamw_beta2),
        "eps": adamw_eps,
        **choose_kernel(rest),
    }
    return MuonWithAdamW([muon_group, *decay_groups(rest, weight_decay, prefix="adamw_", **adamw_options)])
