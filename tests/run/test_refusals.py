"""Settings that cannot be: one sentence from train.py, no traceback, and nothing trained."""

from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, open_dict

from bulba.checkpoint_io import FolderCheckpointIO
from bulba.config.entry import arguments_for_hydra
from bulba.config.overrides import Source, check, expand
from bulba.data.corpora import FolderData, TalesData
from bulba.device import choose_device, choose_precision
from bulba.errors import BulbaError, ConfigError, UnsupportedError
from bulba.run.check import check_config
from bulba.run.trainer import build_trainer
from callbacks.attention_figures import AttentionFigures
from callbacks.checkpoints import Checkpoints
from callbacks.metrics import Metrics
from callbacks.progress import Progress
from callbacks.samples import Samples
from tests.conftest import run_program

ROWS = {
    "seq_len": 8, "batch_size": 4, "micro_batch_size": 2, "val_frac": 0.1, "val_rows": None,
    "on_bad": "skip", "seed": 1, "cache_dir": "unused",
}  # fmt: skip


def settings(words: list[str]) -> DictConfig:
    """The settings as a job of Hydra gets them."""
    config = check(expand(words))
    with open_dict(config):
        del config["hydra"]
    return config


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["model.num_heads=3"], "model.hidden_size=128 is not divisible by model.num_heads=3"),
        (["model.num_kv_heads=3"], "model.num_heads=4 is not divisible by model.num_kv_heads=3"),
        (["data.seq_len=512"], "data.seq_len=512 is longer than model.max_seq_len=256"),
        (["trainer.max_steps=many"], "trainer.max_steps='many' must be a whole number"),
        (["trainer.activation_checkpointing=half"], "trainer.activation_checkpointing='half' must be one of none, sel"),
        (["mode=both", "mode.compile_mode=fastest"], "mode.compile_mode='fastest' must be one of default, reduce-over"),
        (
            ["trainer.strategy=fsdp2", "mode=both"],
            "strategy=fsdp2 does not work with torch.compile, which cannot follow",
        ),
        (["trainer.strategy=fsdp2", "optimizer=muon"], "whole matrices: set optimizer=adamw"),
        (["trainer.strategy=fsdp2"], "samples, which one process writes: set callbacks.samples.every_steps=null"),
        (["trainer.strategy=fsdp3"], "trainer.strategy='fsdp3' must be one of auto, ddp, fsdp2"),
        (
            ["mode=both", "mode.compile_mode=max-autotune", "trainer.device=cpu"],
            "records CUDA graphs and this is a cpu",
        ),
        (["+model.num_experts=8"], "model.num_experts is not an option of GPT"),
        (["data=hub"], "data.name must be set: add data.name=VALUE"),
        (["scheduler.warmup_steps=9999"], "warmup_steps"),
        (["attention._target_=os.system"], "not allowed"),
    ],
)
def test_a_config_that_cannot_be_is_refused_before_any_work(words: list[str], sentence: str) -> None:
    with pytest.raises(BulbaError) as caught:
        check_config(settings(words))
    assert sentence in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_asked_for_and_absent(tmp_path: Path) -> None:
    done = run_program("train.py", "trainer.device=cuda", f"hydra.run.dir='{tmp_path}'")
    assert done.returncode == 2
    assert "trainer.device=cuda is not to be had" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    done = run_program("train.py", "experiment=smoke", f"hydra.run.dir='{tmp_path}/file/run'")
    assert done.returncode == 2
    assert "may not be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_precisions_that_the_device_lacks() -> None:
    with pytest.raises(UnsupportedError, match="fp16 needs a CUDA card"):
        choose_precision("fp16", torch.device("cpu"))
    assert choose_precision("auto", torch.device("cpu")) == "fp32"
    assert choose_device("cpu").type == "cpu"


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"val_frac": 1.5}, "data.val_frac=1.5 must lie between 0 and 1"),
        ({"batch_size": 0}, "data.batch_size=0 must be at least 1"),
        ({"val_rows": 0}, "data.val_rows=0 must be at least 1"),
    ],
)
def test_row_sizes(changed: dict, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        TalesData(size_mb=1.0, tales_seed=1, **(ROWS | changed))


def test_a_batch_that_does_not_divide() -> None:
    data = TalesData(size_mb=1.0, tales_seed=1, **ROWS)
    assert data.accumulation(2) == 1
    with pytest.raises(ConfigError, match=r"data\.batch_size=4 is not divisible by .* 3 device"):
        data.accumulation(3)


def test_path_and_sources_exclude_each_other() -> None:
    for path, sources in ((None, None), ("a", [{"path": "b"}])):
        with pytest.raises(ConfigError, match="set either data.path=FOLDER or data.sources"):
            FolderData(path=path, sources=sources, **ROWS)
    with pytest.raises(ConfigError, match="each source is"):
        FolderData(path=None, sources=[{"path": "b", "wieght": 2}], **ROWS)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Metrics(every_steps=0), "callbacks.metrics.every_steps=0"),
        (lambda: Progress(every_steps=0), "callbacks.progress.every_steps=0"),
        (lambda: Checkpoints(every_steps=0, keep_last=1), "callbacks.checkpoints.every_steps=0"),
        (lambda: Checkpoints(every_steps=1, keep_last=0), "callbacks.checkpoints.keep_last=0"),
        (
            lambda: Samples(every_steps=0, max_new_tokens=1, temperature=1.0),
            "callbacks.samples.every_steps=0",
        ),
        (lambda: AttentionFigures(every_steps=0, num_rows=1), "attention_figures.every_steps=0 .* or null for never"),
        (lambda: AttentionFigures(every_steps=1, num_rows=0), r"attention_figures.num_rows=0 must be at least 1\.$"),
    ],
)
def test_callbacks_that_would_never_act(make, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        make()


def test_a_progress_bar_without_figures(small: list[str], tmp_path: Path) -> None:
    done = run_program(
        "train.py",
        *[word for word in small if "callbacks.metrics" not in word],
        "~callbacks.metrics",
        "~callbacks.doctor",
        f"hydra.run.dir='{tmp_path}'",
    )
    assert done.returncode == 2
    assert "callbacks.progress shows what callbacks.metrics reads" in done.stderr


def test_processes_started_side_by_side_need_one_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As torchrun and srun start them, each with the whole command line."""
    for variable in ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.setenv(variable, "2")
        words = [f"runs_dir='{tmp_path}'"]
        with pytest.raises(
            ConfigError, match=rf"{variable}=2 processes were started, .* all of them with hydra.run.dir"
        ):
            arguments_for_hydra([], words, Source())
        named = f"hydra.run.dir='{tmp_path}/one'"
        assert arguments_for_hydra([], [*words, named], Source()) == [*words, named]
        monkeypatch.delenv(variable)
    assert not list(tmp_path.iterdir())


def test_a_trainer_of_no_steps(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="trainer.max_steps=0 must be at least 1"):
        build_trainer(
            max_steps=0, val_every_steps=1, grad_clip_norm=None, device="cpu", num_devices=1, precision="auto",
            run=tmp_path, checkpoint_io=FolderCheckpointIO(), num_micro_batches=1, loggers=[], callbacks=[],
        )  # fmt: skip


def test_a_corpus_smaller_than_one_row(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / "texts" / f"{name}.txt").write_text(f"Дом {name}.", encoding="utf-8")
    done = run_program(
        "train.py", f"data.path='{tmp_path / 'texts'}'", "tokenizer.vocab_size=256", "data.val_frac=0.4",
        f"data.cache_dir='{tmp_path / 'cache'}'", f"hydra.run.dir='{tmp_path / 'run'}'",
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "data.seq_len" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"dedup": {"_target_": "bulba.data.dedup.Dedup", "threshold": 0.2}}, "data.dedup.threshold=0.2 must lie"),
        ({"dedup": {"_target_": "bulba.data.dedup.Dedup", "memory_mb": 0}}, "data.dedup.memory_mb=0 must be"),
        ({"dedup": {"_target_": "bulba.data.dedup.Dedup", "exact": False}}, "set data.dedup.exact=true with it"),
        ({"cleaning": {"_target_": "bulba.data.cleaning.Cleaning", "min_chars": -1}}, "data.cleaning.min_chars=-1"),
        ({"mode": "rows"}, "data.mode=rows must be chunked, packed or bucketed"),
    ],
)
def test_data_settings_that_cannot_be(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        FolderData(path="a", sources=None, **(ROWS | changes))
    assert sentence in str(caught.value)


def test_weights_for_some_sources_only() -> None:
    from bulba.data.datamodule import weights_of
    from bulba.data.prepare import Source

    assert weights_of([Source("a"), Source("b")]) is None
    assert weights_of([Source("a", 2.0), Source("b", 1.0)]) == [2.0, 1.0]
    with pytest.raises(ConfigError, match="some sources a weight and b none"):
        weights_of([Source("a", 2.0), Source("b")])
    with pytest.raises(ConfigError, match="the weight 0 of a must be a number above 0"):
        FolderData(path=None, sources=[{"path": "a", "weight": 0}], **ROWS)
