"""A checkpoint gives back exactly what it was given, or says in one sentence why it cannot."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch.optim import Optimizer
from transformers import LlamaForCausalLM

from bulba.checkpoint import (
    check_fits,
    from_hf_names,
    load_model,
    load_state,
    load_weights,
    save_checkpoint,
    to_hf_names,
)
from bulba.checkpoint_folder import CheckpointRef, check_whole, checkpoint_folder, find_checkpoint, list_checkpoints
from bulba.config.build import build
from bulba.errors import CheckpointError, ConfigError
from bulba.files import remove_leftovers
from bulba.model.gpt import GPT
from tests.model.test_llama_parity import llama_config
from tests.model.tiny import tiny_gpt, tokens

ROOT = Path(__file__).parents[1]
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.uint8, torch.bool]

plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
tensors = st.builds(
    lambda shape, dtype, seed: (torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(seed)) * 3).to(
        dtype
    ),
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from(DTYPES),
    st.integers(0, 99),
)
keys = st.text(max_size=5) | st.integers() | st.booleans()
states = st.recursive(
    plain | tensors,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=12,
)


def same(a: Any, b: Any) -> bool:
    """Equality to the bit; tuples come back as lists."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        same_keys = [(type(key), key) for key in a] == [(type(key), key) for key in b]
        return same_keys and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or (a != a and b != b)) and str(a) == str(b)


def save(folder: Path, model: GPT, state: Any = None) -> None:
    save_checkpoint(folder, model.get_model_config(), model.state_dict(), {} if state is None else state)


@settings(deadline=None, max_examples=60)
@given(state=states)
def test_any_state_comes_back(state: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("checkpoints") / "step"
    save_checkpoint(folder, {}, {}, state)
    assert same(state, load_state(folder))


def test_tensors_that_share_or_skip_memory_come_back_too(tmp_path: Path) -> None:
    base = torch.arange(12.0).view(3, 4)
    state = {"whole": base, "row": base[1], "column": base[:, 2], "turned": base.T, "nan": torch.tensor(math.nan)}
    save_checkpoint(tmp_path / "c", {}, {}, state)
    loaded = load_state(tmp_path / "c")
    assert all(torch.equal(loaded[name], state[name]) for name in ("whole", "row", "column", "turned"))
    assert loaded["nan"].isnan()


def train(model: GPT, optimizer: Optimizer, steps: range) -> None:
    for step in steps:
        optimizer.zero_grad()
        model.logits(model(tokens(2, 8, seed=step))).logsumexp(-1).sum().backward()
        optimizer.step()


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_run_goes_on_from_a_checkpoint_bit_for_bit(name: str, tmp_path: Path) -> None:
    def make_optimizer(model: GPT) -> Optimizer:
        node: Any = OmegaConf.load(ROOT / "conf" / "optimizer" / f"{name}.yaml")
        node.lr = 0.01
        return build(node, path="optimizer", named_parameters=list(model.named_parameters()))

    model = tiny_gpt(tie_embeddings=False)
    optimizer = make_optimizer(model)
    train(model, optimizer, range(3))
    random = torch.get_rng_state()
    save(tmp_path / "c", model, {"optimizer": optimizer.state_dict(), "random": random})
    train(model, optimizer, range(3, 6))

    restored, state = load_model(tmp_path / "c"), load_state(tmp_path / "c")
    restored_optimizer = make_optimizer(restored)
    restored_optimizer.load_state_dict(state["optimizer"])
    assert torch.equal(state["random"], random)
    train(restored, restored_optimizer, range(3, 6))
    assert same(dict(model.state_dict()), dict(restored.state_dict()))
    assert same(optimizer.state_dict()["state"], restored_optimizer.state_dict()["state"])


@pytest.mark.parametrize("tied", [True, False])
def test_the_model_is_rebuilt_from_its_folder_alone(tied: bool, tmp_path: Path) -> None:
    model = tiny_gpt(tie_embeddings=tied)
    save(tmp_path / "c", model)
    loaded = load_model(tmp_path / "c")
    assert not loaded.training
    assert loaded.get_model_config() == model.get_model_config()
    assert torch.equal(loaded(tokens(1, 9)), model(tokens(1, 9)))
    assert (loaded.head.weight_VH.data_ptr() == loaded.embed_tokens.weight.data_ptr()) == tied


@pytest.mark.parametrize("tied", [True, False])
def test_the_weights_open_in_transformers(tied: bool, tmp_path: Path) -> None:
    model = tiny_gpt(tie_embeddings=tied)
    save(tmp_path / "c", model)
    llama_config(tie_embeddings=tied).save_pretrained(tmp_path / "c")
    llama = LlamaForCausalLM.from_pretrained(tmp_path / "c").eval()
    with torch.no_grad():
        ours = model.logits(model(tokens(2, 30)))
        torch.testing.assert_close(llama(tokens(2, 30)).logits, ours, rtol=0, atol=1e-4)
    assert same(from_hf_names(to_hf_names(model.state_dict())), dict(model.state_dict()))


FILES = ["model.safetensors", "model.json", "state.safetensors", "state.json", "checksums.json"]


@settings(deadline=None, max_examples=20)
@given(data=st.data())
@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_anywhere_is_noticed(name: str, data: st.DataObject, whole_checkpoint: Path) -> None:
    path = whole_checkpoint / name
    content = path.read_bytes()
    position = data.draw(st.integers(0, len(content) - 1))
    flipped = bytearray(content)
    flipped[position] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(flipped)
    try:
        for load in (load_model, load_state):
            with pytest.raises(CheckpointError, match="damaged.*use another checkpoint of the run"):
                load(whole_checkpoint)
    finally:
        path.write_bytes(content)


@pytest.fixture(scope="module")
def whole_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "step_00000001"
    save(folder, tiny_gpt(), {"moments": {0: torch.ones(3)}, "step": 1})
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    return folder


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["absent", "cut", "empty"])
def test_a_missing_or_cut_file_is_noticed(name: str, damage: str, tmp_path: Path) -> None:
    save(tmp_path / "c", tiny_gpt(num_layers=1))
    path = tmp_path / "c" / name
    content = path.read_bytes()
    path.unlink()
    if damage != "absent":
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    with pytest.raises(CheckpointError, match="damaged|has no checksums.json"):
        check_whole(tmp_path / "c")
    if name == "model.safetensors":
        with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read .*use another checkpoint"):
            load_weights(tmp_path / "c")


@pytest.mark.parametrize(
    ("changes", "weight"),
    [
        ({"vocab_size": 104}, r"embed_tokens\.weight is \(103, 48\) there and \(104, 48\) in this model"),
        ({"num_kv_heads": 3}, r"layers\.0\.self_attn\.k_proj\.weight is \(16, 48\) there and \(24, 48\)"),
        ({"num_layers": 3}, r"layers\.2\.input_layernorm\.weight is absent there and \(48,\)"),
        ({"num_layers": 1}, r"layers\.1\.input_layernorm\.weight is \(48,\) there and absent"),
        ({"tie_embeddings": False}, r"lm_head\.weight is absent there and \(103, 48\)"),
    ],
)
def test_another_shape_is_refused_naming_the_weight(
    changes: dict[str, Any], weight: str, whole_checkpoint: Path
) -> None:
    message = rf"is a checkpoint of another shape: {weight}.*use the model settings"
    with pytest.raises(CheckpointError, match=message):
        check_fits(tiny_gpt(**changes), load_weights(whole_checkpoint), whole_checkpoint)


def test_a_checkpoint_of_another_format_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bulba.checkpoint.FORMAT_VERSION", 7)
    save_checkpoint(tmp_path / "c", {}, {}, {})
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"has checkpoint format 7 and this Bulba reads 1: use the version"):
        load_state(tmp_path / "c")


@pytest.mark.parametrize("edit", [{"num_heads": None}, {"window": 128}])
def test_a_model_config_of_another_bulba_is_refused(edit: dict[str, Any], tmp_path: Path) -> None:
    model = tiny_gpt()
    config = {key: value for key, value in (model.get_model_config() | edit).items() if value is not None}
    save_checkpoint(tmp_path / "c", config, model.state_dict(), {})
    with pytest.raises(ConfigError, match=r"model\.json is not a model config of this Bulba \(.*(num_heads|window)"):
        load_model(tmp_path / "c")


def test_checkpoints_of_a_run_are_found_oldest_first(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    for step in (20, 100_000_000, 3):
        save_checkpoint(checkpoint_folder(tmp_path, step), {}, {}, {})
    (tmp_path / "checkpoints" / ".unfinished-step_00000400-12345678").mkdir()
    assert [found.step for found in list_checkpoints(tmp_path)] == [3, 20, 100_000_000]
    newest = find_checkpoint(tmp_path)
    assert (newest.step, newest.run) == (100_000_000, tmp_path)
    assert find_checkpoint(checkpoint_folder(tmp_path, 3)).run == tmp_path
    alone = tmp_path / "some" / "where" / "else"
    save_checkpoint(alone, {}, {}, {})
    assert (find_checkpoint(alone).folder, find_checkpoint(alone).run) == (alone, None)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere does not exist: give a run folder"):
        find_checkpoint(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"has no checkpoints: train the run until its first one"):
        find_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match=r"is not a Bulba checkpoint: it has no checksums\.json"):
        load_model(tmp_path)


def test_what_is_neither_tensor_nor_plain_is_our_own_mistake(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="tensors and plain values only, not set"):
        save_checkpoint(tmp_path / "c", {}, {}, {"names": {"a"}})
    assert list(tmp_path.iterdir()) == []


# Forks a writer that saves again and again, and kills it at a moment that nobody chose.
KILLED_WRITERS = """
    import os, random, signal, sys, time
    from pathlib import Path
    import torch
    from bulba.checkpoint import load_state, save_checkpoint
    from bulba.checkpoint_folder import check_whole

    torch.set_num_threads(1)
    folder, kinds = Path(sys.argv[1]) / "step_00000001", {"absent": 0, "whole": 0, "leftovers": 0}
    for seed in range(40):
        child = os.fork()
        if child == 0:
            while True:
                save_checkpoint(folder, {}, {"weight": torch.ones(20_000)}, {"seed": seed, "moments": torch.ones(9)})
        time.sleep(random.Random(seed).uniform(0.002, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if folder.exists():
            check_whole(folder)
            assert load_state(folder)["moments"].sum() == 9
            kinds["whole"] += 1
        else:
            kinds["absent"] += 1
        kinds["leftovers"] += any(path.name.startswith(".unfinished-") for path in folder.parent.iterdir())
    print(kinds["whole"], kinds["leftovers"])
"""

FULL_DISK = """
    import resource, sys
    from pathlib import Path
    import torch
    from bulba.checkpoint import save_checkpoint
    from bulba.errors import BulbaError

    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    for weights, state in (({"weight": torch.ones(90_000)}, {}), ({}, {"numbers": list(range(50_000))})):
        try:
            save_checkpoint(Path(sys.argv[1]) / "step_00000001", {}, weights, state)
        except BulbaError as error:
            print(error)
"""


def run_script(script: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_writer_leaves_a_whole_checkpoint_or_none(tmp_path: Path) -> None:
    whole, leftovers = map(int, run_script(KILLED_WRITERS, tmp_path).split())
    assert whole > 0
    assert leftovers > 0  # some were killed in the middle, or this test has shown nothing
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] in (["step_00000001"], [])


@pytest.mark.skipif(sys.platform == "win32", reason="needs file size limits")
def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    lines = run_script(FULL_DISK, tmp_path).splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.startswith(f"the disk is full: {tmp_path / 'step_00000001'} could not be written (")
    assert list(tmp_path.iterdir()) == []


def test_nothing_in_a_checkpoint_is_a_pickle(whole_checkpoint: Path) -> None:
    for path in whole_checkpoint.iterdir():
        assert path.suffix in (".json", ".safetensors")
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))


def test_a_renamed_checkpoint_has_no_step(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="was renamed, so its step is not known"):
        _ = CheckpointRef(tmp_path / "best", None).step
    assert CheckpointRef(tmp_path / "step_00000012", None).step == 12
