"""A plan as lines for the terminal."""

from __future__ import annotations

from typing import Any

# More epochs than this add little: at four, repeated text is still almost as good as new (Muennighoff et al. 2023,
# arXiv 2305.16264).
MAX_EPOCHS = 4
# Tokens per weight of a model that is best for its compute (Hoffmann et al. 2022, arXiv 2203.15556: about 20).
BEST_TOKENS_PER_PARAM = (15, 20)
PARTS = ("weights", "gradients", "optimizer", "activations", "loss", "temporary", "overhead")


def print_plan(plan: dict[str, Any]) -> None:
    """The plan in plain lines; warnings at the end."""
    for line in plan_lines(plan):
        print(line, flush=True)


def plan_lines(plan: dict[str, Any]) -> list[str]:
    """Sizes, work and memory of a run, and what is worth knowing about them."""
    memory, tokens = plan["memory"], plan["train_tokens"]
    per_param, epochs = tokens / plan["num_params"], tokens / plan["corpus_tokens"]
    parts = ", ".join(f"{name} {memory[f'{name}_bytes'] / 1e6:,.0f}" for name in PARTS)
    beside = f"; malloc may keep {memory['malloc_bytes'] / 1e6:,.0f} MB more" if memory["malloc_bytes"] else ""
    lines = [
        f"model: {plan['num_params']:,} weights",
        f"work: {plan['flops_per_token'] / 1e6:,.2f} MFLOPs a token, "
        f"{plan['flops_per_token'] * tokens / 1e15:,.4g} PFLOPs in all",
        f"tokens: {tokens:,} to train on, {epochs:.2f} epochs of {plan['corpus_tokens']:,}",
        f"tokens per weight: {per_param:.2f}, {beside_best(per_param)}",
        f"memory: {memory['peak_bytes'] / 1e6:,.0f} MB at the peak (in MB: {parts}){beside}; "
        f"{memory['free_bytes'] / 1e6:,.0f} MB are free on {plan['device']}",
    ]
    if epochs > MAX_EPOCHS:
        lines.append(
            f"warning: every text is read {epochs:.1f} times, and more than {MAX_EPOCHS} times teach little new: "
            "give more text, or lower trainer.max_steps."
        )
    return lines


def beside_best(tokens_per_param: float) -> str:
    low, high = BEST_TOKENS_PER_PARAM
    if tokens_per_param < low:
        return f"below the {low} to {high} of a model that is best for its compute: a smaller one would learn as much"
    if tokens_per_param > high:
        return f"above the {low} to {high} of a model that is best for its compute: a larger one would learn more"
    return f"within the {low} to {high} of a model that is best for its compute"
