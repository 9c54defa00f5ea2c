"""Train a model: `python train.py [group=choice ...] [key=value ...]`; `--help` shows the choices."""

from pathlib import Path

from omegaconf import DictConfig

from bulba.config.entry import run_hydra


def main(config: DictConfig, run: Path) -> None:
    # Imported here, so that a mistake on the command line is answered at once.
    from bulba.run.train import train

    train(config, run)


if __name__ == "__main__":
    run_hydra(main)
