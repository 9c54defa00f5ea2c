"""Functions that config files may call, such as ${lr_of_width:4.0e-3,${model.hidden_size}}."""

from omegaconf import OmegaConf

REFERENCE_WIDTH = 128  # hidden size of murashka, on which the base rates were measured


def lr_of_width(base: float, hidden_size: int) -> float:
    """`base` at width 128, falling as 1 / width, so that one setting serves every preset.

    Source: Yang et al. 2022, "Tensor Programs V" (arXiv 2203.03466), table 3: Adam's rate of hidden matrices.
    """
    return base * REFERENCE_WIDTH / hidden_size


def register() -> None:
    """Make the functions known to OmegaConf; once per process is enough, twice does no harm."""
    OmegaConf.register_new_resolver("lr_of_width", lr_of_width, replace=True)
