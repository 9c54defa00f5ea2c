"""The build backend of the package: maturin, after a look at whether there is a compiler to call.

Every hook of PEP 517 and PEP 660 is maturin's own. Without this, a missing compiler shows up as pages of
build output, or maturin downloads a Rust toolchain without asking.
"""

import os
import shutil
import sys
from collections.abc import Mapping
from typing import Any

# maturin would otherwise ask for a package that downloads Rust.
os.environ["MATURIN_NO_INSTALL_RUST"] = "1"

Settings = Mapping[str, Any] | None

INSTALL_RUST = (
    "winget install Rustlang.Rustup"
    if sys.platform == "win32"
    else "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
)
INSTALL_CC = "xcode-select --install" if sys.platform == "darwin" else "sudo apt install build-essential"


def check_compilers() -> None:
    """Ends the build with one sentence if Rust or the C linker is missing."""
    if shutil.which("cargo") is None:
        sys.exit(
            "Bulba is built with Rust, and cargo is not on PATH; install it, then open a new shell: " + INSTALL_RUST
        )
    # rustc links by calling `cc`, whichever compiler that is. On Windows it finds the linker by itself.
    if sys.platform != "win32" and shutil.which("cc") is None:
        sys.exit(f"Rust links with the C compiler, and cc is not on PATH; install it: {INSTALL_CC}")


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    check_compilers()
    return _maturin().get_requires_for_build_wheel(config_settings)


def get_requires_for_build_editable(config_settings: Settings = None) -> list[str]:
    check_compilers()
    return _maturin().get_requires_for_build_editable(config_settings)


def get_requires_for_build_sdist(config_settings: Settings = None) -> list[str]:
    return _maturin().get_requires_for_build_sdist(config_settings)


def prepare_metadata_for_build_wheel(metadata_directory: str, config_settings: Settings = None) -> str:
    check_compilers()
    return _maturin().prepare_metadata_for_build_wheel(metadata_directory, config_settings)


def prepare_metadata_for_build_editable(metadata_directory: str, config_settings: Settings = None) -> str:
    check_compilers()
    return _maturin().prepare_metadata_for_build_editable(metadata_directory, config_settings)


def build_wheel(wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None) -> str:
    check_compilers()
    return _maturin().build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    check_compilers()
    return _maturin().build_editable(wheel_directory, config_settings, metadata_directory)


def build_sdist(sdist_directory: str, config_settings: Settings = None) -> str:
    check_compilers()
    return _maturin().build_sdist(sdist_directory, config_settings)


def _maturin() -> Any:
    # Imported late: the sentence about a missing compiler must come even where maturin cannot be imported.
    import maturin

    return maturin
