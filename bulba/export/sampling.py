"""How other programs draw tokens from an exported model: as the run drew its samples, by the model's own probabilities.

Left to themselves they cut the tail off (top_k 40 or 50, top_p 0.9 or 0.95, min_p 0.05) and punish repetitions.
"""

from __future__ import annotations

from bulba.export.run_facts import Facts

# Every token may be drawn, by the probability that the model gives it.
TOP_K, TOP_P, MIN_P, REPEAT_PENALTY = 0, 1.0, 0.0, 1.0


def gguf_sampling(facts: Facts) -> dict[str, int | float]:
    """The keys of a GGUF file that llama.cpp's programs take their defaults from; {} where the run drew no samples."""
    if "sampling" not in facts:
        return {}
    return {
        "general.sampling.temp": float(facts["sampling"]["temperature"]),
        "general.sampling.top_k": TOP_K,
        "general.sampling.top_p": TOP_P,
        "general.sampling.min_p": MIN_P,
        "general.sampling.penalty_repeat": REPEAT_PENALTY,
    }
