"""Stochastic gradient descent with momentum, torch's own: the teaching baseline.

b = momentum * b + g,  w = w - lr * b, or w - lr * (g + momentum * b) with Nesterov's look-ahead
(Sutskever et al. 2013, "On the importance of initialization and momentum in deep learning").
Its weight decay is the classic L2 penalty, g = gradient + weight_decay * w, which goes through the momentum,
unlike that of AdamW.
"""

from __future__ import annotations

from torch.optim import SGD

from bulba.optimizer.groups import NamedParameters, check_decays, decay_groups, trained
from bulba.optimizer.kernel import choose_kernel, unscale_before_step
from bulba.optimizer.ranges import check_average, check_nesterov, check_not_negative, check_positive


def build_sgd(
    named_parameters: NamedParameters, lr: float, momentum: float, nesterov: bool, weight_decay: float
) -> SGD:
    """SGD over the weights that are trained; `lr` is the peak. ConfigError for values out of range."""
    check_positive(lr=lr)
    check_average(momentum=momentum)
    check_nesterov(nesterov, momentum)
    check_not_negative(weight_decay=weight_decay)
    weights = trained(named_parameters)
    check_decays(weight_decay, weights)
    groups = decay_groups(weights, weight_decay, algorithm="SGD")
    optimizer = SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov, **choose_kernel(weights))
    unscale_before_step(optimizer)
    return optimizer
