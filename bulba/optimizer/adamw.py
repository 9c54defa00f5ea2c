"""AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101), torch's own.

m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2,
w = w - lr * (weight_decay * w + m_hat / (sqrt(v_hat) + eps)), m_hat = m / (1 - beta1^step),
v_hat = v / (1 - beta2^step).
`weight_decay: 0` makes it Adam (Kingma and Ba 2015, arXiv 1412.6980). It has no AMSGrad.
"""

from __future__ import annotations

from torch.optim import AdamW

from bulba.optimizer.groups import NamedParameters, check_decays, decay_groups, trained
from bulba.optimizer.kernel import choose_kernel, unscale_before_step
from bulba.optimizer.ranges import check_average, check_not_negative, check_positive


def build_adamw(
    named_parameters: NamedParameters,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
) -> AdamW:
    """AdamW over the weights that are trained; `lr` is the peak. ConfigError for values out of range."""
    check_positive(lr=lr, eps=eps)
    check_average(beta1=beta1, beta2=beta2)
    check_not_negative(weight_decay=weight_decay)
    weights = trained(named_parameters)
    check_decays(weight_decay, weights)
    groups = decay_groups(weights, weight_decay, algorithm="AdamW")
    optimizer = AdamW(groups, lr=lr, betas=(beta1, beta2), eps=eps, **choose_kernel(weights))
    unscale_before_step(optimizer)
    return optimizer
