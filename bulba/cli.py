"""`python -m bulba COMMAND key=value ...`: everything beside training (train.py) and exporting (export.py)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console

from bulba.cli_help import help_text
from bulba.config.build import check_keys, signature_of
from bulba.errors import BulbaError, ConfigError

app = typer.Typer(help=help_text("app"), no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
bench = typer.Typer(no_args_is_help=True)
data = typer.Typer(no_args_is_help=True)
app.add_typer(data, name="data", help=help_text("data"))
app.add_typer(bench, name="bench", help=help_text("bench"))
tokenizer = typer.Typer(no_args_is_help=True)
app.add_typer(tokenizer, name="tokenizer", help=help_text("tokenizer"))
Settings = Annotated[list[str] | None, typer.Argument(help="key=value", metavar="[KEY=VALUE]...")]


def main() -> None:
    """Run the command line; what the user can mend is one sentence and an exit code."""
    try:
        app()
    except BulbaError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def call(function: Callable[..., Any], words: list[str] | None) -> Any:
    """Call `function` with `key=value` words, held against its signature; texts are taken as they are."""
    hints = signature_of(function)[1]
    settings: dict[str, Any] = {}
    for word in words or []:
        name, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(f"{word!r} is not understood: write settings as key=value, such as run=last.")
        settings[name] = value if hints.get(name) is str else yaml.safe_load(value)
    check_keys(function, settings, "")
    return function(**settings)


@app.command(help=help_text("generate"))
def generate(settings: Settings = None) -> None:
    from bulba.run.generate import generate_command

    call(generate_command, settings)


@app.command(help=help_text("prepare"), context_settings={"ignore_unknown_options": True, "help_option_names": []})
def prepare(settings: Settings = None) -> None:
    from bulba.run.prepare import prepare_command

    prepare_command(settings or [])


@app.command(help=help_text("ready"))
def ready(settings: Settings = None) -> None:
    from bulba.run.ready import ready_command

    ready_command(settings or [])


@app.command(help=help_text("plan"), context_settings={"ignore_unknown_options": True})
def plan(settings: Settings = None) -> None:
    from bulba.run.plan import plan_command

    plan_command(settings or [])


@app.command(help=help_text("compare"))
def compare(runs: Annotated[list[str], typer.Argument(metavar="RUN...")]) -> None:
    from bulba.report.compare import compare as compare_runs
    from bulba.runs import find_run

    Console().print(compare_runs([find_run(run) for run in runs]))


@app.command(help=help_text("doctor"))
def doctor(settings: Settings = None) -> None:
    from bulba.report.doctor import doctor_command

    call(doctor_command, settings)


@app.command(help=help_text("demo"))
def demo(name: Annotated[str, typer.Argument(metavar="list|NAME|all")], settings: Settings = None) -> None:
    from bulba.demo.run import demo_command

    call(demo_command, [f"name={name}", *(settings or [])])


@app.command(help=help_text("info"))
def info(settings: Settings = None) -> None:
    from bulba.report.presets import presets_table

    Console().print(presets_table(settings or []))


@app.command(help=help_text("load"))
def load(settings: Settings = None) -> None:
    from bulba.checkpoint import load_model
    from bulba.run.generate import resolve_checkpoint

    def load_command(run: str = "last") -> None:
        checkpoint = resolve_checkpoint(run).folder
        print(json.dumps({"checkpoint": str(checkpoint)} | load_model(checkpoint).get_model_config(), indent=1))

    call(load_command, settings)


@app.command(help=help_text("utility"))
def utility(settings: Settings = None) -> None:
    from bulba.utility.command import utility_command

    call(utility_command, settings)


@app.command(name="verify-resume", help=help_text("verify-resume"))
def verify_resume(settings: Settings = None) -> None:
    from bulba.bench.resume import verify_resume as prove

    call(prove, settings)


@bench.command(name="words", help=help_text("bench-words"))
def bench_words(settings: Settings = None) -> None:
    from bulba.bench.words import measure_words

    call(measure_words, settings)


@bench.command(name="text", help=help_text("bench-text"))
def bench_text(settings: Settings = None) -> None:
    from bulba.bench.text import measure_text

    call(measure_text, settings)


@bench.command(name="position", help=help_text("bench-position"))
def bench_position(settings: Settings = None) -> None:
    from bulba.bench.position import measure_position

    call(measure_position, settings)


@bench.command(name="types", help=help_text("bench-types"))
def bench_types(settings: Settings = None) -> None:
    from bulba.bench.types import measure_types

    call(measure_types, settings)


@bench.command(name="int8", help=help_text("bench-int8"))
def bench_int8(settings: Settings = None) -> None:
    from bulba.bench.int8 import bench_int8 as measure

    call(measure, settings)


@bench.command(name="converter", help=help_text("bench-converter"))
def bench_converter(settings: Settings = None) -> None:
    from bulba.bench.converter import bench_converter as measure

    call(measure, settings)


@tokenizer.callback()
def tokenizer_group() -> None:
    """Keeps `tokenizer` a group while it has one command."""


@tokenizer.command(name="report", help=help_text("tokenizer-report"))
def tokenizer_report(settings: Settings = None) -> None:
    from bulba.bench.tokenizers.report import report_command

    call(report_command, settings)


@app.command(help=help_text("replay"))
def replay(settings: Settings = None) -> None:
    from bulba.run.replay import replay_command

    call(replay_command, settings)


@app.command(help=help_text("verify"))
def verify(settings: Settings = None) -> None:
    from bulba.run.verify import verify_command

    call(verify_command, settings)


@data.command(name="show", help=help_text("data-show"))
def data_show(settings: Settings = None) -> None:
    from bulba.run.show import show_command

    call(show_command, settings)


@data.command(name="parquet", help=help_text("data-parquet"))
def data_parquet(settings: Settings = None) -> None:
    from bulba.run.parquet import parquet_command

    call(parquet_command, settings)


@bench.command(name="data", help=help_text("bench-data"))
def bench_data(settings: Settings = None) -> None:
    from bulba.bench.data import bench_data as measure

    call(measure, settings)


@bench.command(name="train", help=help_text("bench-train"))
def bench_train(settings: Settings = None) -> None:
    from bulba.bench.train import bench_train as measure

    call(measure, settings)


@bench.command(name="compile", help=help_text("bench-compile"))
def bench_compile(settings: Settings = None) -> None:
    from bulba.bench.compile import bench_compile as measure

    call(measure, settings)


@bench.command(name="attention", help=help_text("bench-attention"))
def bench_attention(settings: Settings = None) -> None:
    from bulba.bench.attention import bench_attention as measure

    call(measure, settings)


@bench.command(name="plan", help=help_text("bench-plan"))
def bench_plan(settings: Settings = None) -> None:
    from bulba.bench.plan import bench_plan as measure

    call(measure, settings)
