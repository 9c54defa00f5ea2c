"""The model is Hugging Face's LlamaForCausalLM, to fp32 rounding, and so are its parts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm, LlamaRotaryEmbedding, apply_rotary_pos_emb

from bulba.checkpoint import to_hf_names
from bulba.model.mlp import SwiGLU
from bulba.model.norm import RMSNorm
from bulba.model.position import RopeScaling, rotary_tables, rotate
from tests.model.tiny import TINY, tiny_gpt, tokens

# (heads, key/value heads): grouped 1:3 and 1:4, multi-head, multi-query.
HEADS = [(6, 2), (8, 2), (4, 4), (4, 1)]


def llama_config(rope_base: float = TINY["rope_base"], **changes: Any) -> LlamaConfig:
    sizes = TINY | changes
    config: Any = LlamaConfig
    return config(
        vocab_size=sizes["vocab_size"],
        hidden_size=sizes["hidden_size"],
        intermediate_size=sizes["intermediate_size"],
        num_hidden_layers=sizes["num_layers"],
        num_attention_heads=sizes["num_heads"],
        num_key_value_heads=sizes["num_kv_heads"],
        max_position_embeddings=sizes["max_seq_len"],
        rms_norm_eps=sizes["norm"]["eps"],
        rope_parameters={"rope_type": "default", "rope_theta": rope_base},
        tie_word_embeddings=sizes["tie_embeddings"],
        attention_bias=sizes.get("attention_bias", False),
        attn_implementation="eager",
    )


@pytest.mark.parametrize("kernel", ["reference", "flash"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("heads", "kv_heads"), HEADS)
def test_logits_equal_llama(heads: int, kv_heads: int, tied: bool, kernel: str) -> None:
    sizes = {"num_heads": heads, "num_kv_heads": kv_heads, "tie_embeddings": tied, "rope_base": 5e3}
    sizes["attention_bias"] = heads == 8
    model = tiny_gpt(kernel=kernel, **sizes)
    llama = LlamaForCausalLM(llama_config(**sizes)).eval()
    missing = llama.load_state_dict(to_hf_names(model.state_dict()), strict=False)
    assert missing.unexpected_keys == []
    assert missing.missing_keys == (["lm_head.weight"] if tied else [])
    llama.tie_weights()
    rows = tokens(3, 40)
    with torch.no_grad():
        ours, theirs = model.logits(model(rows)), llama(rows).logits
    assert theirs.std() > 0.5
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_rotary_positions_equal_llama_also_at_other_offsets() -> None:
    config = llama_config(rope_base=5e5)
    q, k = torch.randn(2, 6, 10, 8), torch.randn(2, 2, 10, 8)
    positions = torch.stack([torch.arange(10), torch.tensor([0, 1, 2, 0, 1, 0, 1, 2, 3, 500])])
    cos, sin = LlamaRotaryEmbedding(config)(q, positions)
    expected_q, expected_k = apply_rotary_pos_emb(q, k, cos, sin)
    tables = rotary_tables(positions, 8, 5e5)
    torch.testing.assert_close(rotate(q, *tables), expected_q, rtol=0, atol=1e-6)
    torch.testing.assert_close(rotate(k, *tables), expected_k, rtol=0, atol=1e-6)


@pytest.mark.parametrize("type", ["linear", "yarn"])
@pytest.mark.parametrize(("factor", "original"), [(4.0, 64), (1.5, 1024), (16.0, 4096)])
def test_stretched_rotary_positions_equal_transformers(type: str, factor: float, original: int) -> None:
    config = llama_config(rope_base=5e5, hidden_size=384)
    config.rope_parameters |= {"rope_type": type, "factor": factor, "original_max_position_embeddings": original}
    positions = torch.tensor([[0, 1, 5, 63, 500, 5000]])
    cos, sin = LlamaRotaryEmbedding(config)(torch.zeros(1), positions)
    scaling = RopeScaling(type, factor, original)  # type: ignore[arg-type]
    ours = [torch.cat([table, table], -1)[:, 0] for table in rotary_tables(positions, 64, 5e5, scaling)]
    torch.testing.assert_close(ours, [cos, sin], rtol=0, atol=2e-3)  # angles of thousands in fp32
    torch.testing.assert_close(ours[0][:, :4], cos[:, :4], rtol=0, atol=1e-5)


def test_swiglu_equals_llama() -> None:
    mlp, theirs = SwiGLU(48, 80), LlamaMLP(llama_config())
    theirs.load_state_dict(mlp.state_dict())
    x = torch.randn(3, 5, 48)
    torch.testing.assert_close(mlp(x), theirs(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rms_norm_equals_llama(dtype: torch.dtype) -> None:
    norm, theirs = RMSNorm(48, eps=1e-5).to(dtype), LlamaRMSNorm(48, eps=1e-5).to(dtype)
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter)
    theirs.load_state_dict(norm.state_dict())
    x = (100 * torch.randn(3, 48)).to(dtype)
    torch.testing.assert_close(norm(x), theirs(x), rtol=1e-6, atol=1e-6)
