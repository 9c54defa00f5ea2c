"""Export a trained model: `python export.py run=RUN [export=[hf,gguf]] [key=value ...]`; `--help` shows more."""

from pathlib import Path

from omegaconf import DictConfig

from bulba.config.entry import run_hydra


def main(config: DictConfig, _: Path) -> None:
    # Imported here, so that a mistake on the command line is answered at once.
    from bulba.run.export import export_run

    export_run(config)


if __name__ == "__main__":
    run_hydra(main, "export")
