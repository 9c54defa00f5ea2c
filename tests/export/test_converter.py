"""llama.cpp's converter is found, wrapped and run in every layout it has had; what cannot be used is said."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import json
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import bulba.export.sdist as sdist_module
from bulba.errors import ConfigError, ExportError
from bulba.export.converter import find_converter, run_converter
from bulba.export.sdist import ARCHIVE, fetch_sdist, unpack

# Stand-ins with the shape of the releases: where the classes are, what they are called, how they are started.
METHOD = """
    def get_vocab_base_pre(self, tokenizer) -> str:
        raise NotImplementedError("BPE pre-tokenizer was not recognized")
"""
MAIN = """
import argparse, os, pathlib, sys

if "NO_LOCAL_GGUF" not in os.environ:
    sys.path.insert(1, str(pathlib.Path(__file__).parent / "gguf-py"))
import gguf

def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--outfile")
    parser.add_argument("--outtype", choices=["f32", "f16", "bf16", "q8_0"])
    args = parser.parse_args()
    with open(args.outfile, "w") as file:
        file.write(f"{LlamaModel().get_vocab_base_pre(None)} {args.outtype} {gguf.PLACE}")

if __name__ == "__main__":
    raise SystemExit("not by being imported")
"""
OLD = f"class Model:{METHOD}\nclass LlamaModel(Model): ...\n{MAIN}"
MIDDLE = f"class ModelBase: ...\nclass TextModel(ModelBase):{METHOD}\nclass LlamaModel(TextModel): ...\n{MAIN}"
NEW = {
    "convert_hf_to_gguf.py": f"from conversion import ModelBase\n{MAIN}".replace(
        "    args = parser", "    from conversion.llama import LlamaModel\n    args = parser"
    ),
    "conversion/__init__.py": "from .base import ModelBase, TextModel\n",
    "conversion/base.py": f"class ModelBase: ...\nclass TextModel(ModelBase):{METHOD}",
    "conversion/llama.py": "from .base import TextModel\nclass LlamaModel(TextModel): ...\n",
}
LAYOUTS = {
    "old": ({"convert-hf-to-gguf.py": OLD}, "one script", "Model"),
    "middle": ({"convert_hf_to_gguf.py": MIDDLE}, "one script", "TextModel"),
    "new": (NEW, "package conversion", "TextModel"),
}


def write_files(folder: Path, files: dict[str, str]) -> Path:
    for name, content in (files | {"gguf-py/gguf/__init__.py": "PLACE = 'beside'\n"}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    return folder


@pytest.fixture
def model(tokenizer_json: Path, tmp_path: Path) -> Path:
    """All that a stand-in looks at of a Hugging Face folder."""
    (tmp_path / "model").mkdir()
    shutil.copy(tokenizer_json, tmp_path / "model")
    return tmp_path / "model"


def convert(folder: Path, model: Path) -> dict[str, object]:
    return run_converter(find_converter(str(folder)), model, model.parent / "out.gguf", "f16")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("inside", ["", "vendor/llama.cpp"])
def test_every_layout_is_found_and_its_one_class_wrapped(
    tmp_path: Path, model: Path, layout: str, inside: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, where, class_name = LAYOUTS[layout]
    write_files(tmp_path / "llama.cpp" / inside, files)
    # Neither a folder of the same name where the user is, nor his settings, may come before what lies beside.
    write_files(tmp_path / "here", {"gguf/__init__.py": "PLACE = 'elsewhere'\n", "conversion/__init__.py": ""})
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("NO_LOCAL_GGUF", "1")
    before = {path: path.read_bytes() for path in (tmp_path / "llama.cpp").rglob("*.py")}
    assert find_converter(str(tmp_path / "llama.cpp")).layout == where
    report = convert(tmp_path / "llama.cpp", model)
    assert report == {"class_name": class_name, "num_asked": 1, "num_answered": 1}
    assert (tmp_path / "out.gguf").read_text(encoding="utf-8") == "llama-bpe f16 beside"
    assert {path: path.read_bytes() for path in (tmp_path / "llama.cpp").rglob("*.py")} == before


def test_a_name_that_the_converter_knows_is_left_alone(tmp_path: Path, model: Path) -> None:
    known = MIDDLE.replace('raise NotImplementedError("BPE pre-tokenizer was not recognized")', 'return "its-own"')
    report = convert(write_files(tmp_path / "llama.cpp", {"convert_hf_to_gguf.py": known}), model)
    assert report["num_answered"] == 0
    assert (tmp_path / "out.gguf").read_text(encoding="utf-8").startswith("its-own ")


OTHER_CLASS = f"class Other:{METHOD}"


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        (MIDDLE.replace("get_vocab_base_pre", "get_pre"), "defines get_vocab_base_pre in no class where exactly one"),
        (MIDDLE.replace(MAIN, OTHER_CLASS + MAIN), "get_vocab_base_pre in Other, TextModel where exactly one class"),
        (MIDDLE.replace("LlamaModel().get_vocab_base_pre(None)", "1"), "wrote a file without asking get_vocab_base_pr"),
        (MIDDLE.replace("main() -> None:", "main() -> None:\n    raise KeyError('rope')"), "KeyError: 'rope'"),
        (
            MIDDLE.replace("import argparse,", "import mistral_uncommon, argparse,"),
            "No module named 'mistral_uncommon'",
        ),
    ],
)
def test_a_converter_that_cannot_be_used_is_said_with_its_own_words(
    tmp_path: Path, model: Path, script: str, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_files(tmp_path / "llama.cpp", {"convert_hf_to_gguf.py": script})
    with pytest.raises(ExportError, match=r"the converter of a llama\.cpp of unknown version failed \(") as error:
        convert(folder, model)
    assert fault in str(error.value)
    assert "its error output is above: give export.llama_cpp another version, or leave it out." in str(error.value)
    assert fault in capsys.readouterr().err


def test_another_regex_is_not_given_the_name(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))
    pattern = spec["pre_tokenizer"]["pretokenizers"][0]["pattern"]
    pattern["Regex"] = pattern["Regex"].replace(r"\p{N}{1,3}", r"\p{N}{1,2}")
    (model / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
    folder = write_files(tmp_path / "llama.cpp", LAYOUTS["new"][0])
    with pytest.raises(ExportError, match=r"its pre_tokenizer Split pattern is .* and llama\.cpp's llama-bpe needs"):
        convert(folder, model)


def test_a_folder_without_a_converter_is_refused(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "absent"):
        with pytest.raises(
            ConfigError, match=r"holds no llama\.cpp: neither it nor its vendor/llama\.cpp has convert_hf"
        ):
            find_converter(str(place))


def test_which_converter_it_was_can_be_told(tmp_path: Path) -> None:
    files = LAYOUTS["new"][0]

    folder = write_files(tmp_path / "plain", files)
    plain = find_converter(str(folder))
    assert plain.version == "a llama.cpp of unknown version"
    source = write_files(tmp_path / "source" / "vendor" / "llama.cpp", files)
    (tmp_path / "source" / "PKG-INFO").write_text(
        "Metadata-Version: 2.1\nName: llama_cpp_python\nVersion: 0.3.99\n", encoding="utf-8"
    )
    for place in (source, tmp_path / "source"):
        assert find_converter(str(place)).version == "llama-cpp-python 0.3.99"
    assert find_converter(str(source)).sha256 == plain.sha256
    git = functools.partial(subprocess.run, check=True, capture_output=True, cwd=folder)
    git(["git", "init"])
    assert find_converter(str(folder)).version == "a llama.cpp of unknown version"
    git(["git", "add", "."])
    git(["git", "-c", "user.name=x", "-c", "user.email=x@x", "commit", "-m", "x"])
    commit = git(["git", "rev-parse", "HEAD"]).stdout.decode().strip()
    assert find_converter(str(folder)).version == f"llama.cpp {commit}"
    (folder / "conversion" / "llama.py").write_text("\n", encoding="utf-8")
    changed = find_converter(str(folder))
    assert changed.version == f"llama.cpp {commit} with changes"
    assert changed.sha256 != plain.sha256


def make_archive(path: Path, names: dict[str, str]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in names.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content.encode()))
    return path


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *given: object) -> None:
        """Nothing is printed."""


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package index of this machine's own, to which uv is pointed, and an empty cache; its archive."""
    page = tmp_path / "index" / "simple" / "llama-cpp-python" / "index.html"
    page.parent.mkdir(parents=True)
    kept = {f"vendor/llama.cpp/{name}": content for name, content in NEW.items()}
    names = kept | {"PKG-INFO": "Name: llama_cpp_python\nVersion: 0.3.36\n", "vendor/llama.cpp/ggml/big.c": "int x;"}
    names |= {"vendor/llama.cpp/gguf-py/gguf/__init__.py": "", "setup.py": "raise SystemExit('it was built')"}
    archive = make_archive(
        tmp_path / "index" / f"{ARCHIVE}.tar.gz", {f"{ARCHIVE}/{name}": content for name, content in names.items()}
    )
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    page.write_text(f'<a href="/{ARCHIVE}.tar.gz#sha256={digest}">{ARCHIVE}.tar.gz</a>', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    handler = functools.partial(QuietHandler, directory=str(tmp_path / "index"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{server.server_port}/simple")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield archive
        server.shutdown()
        thread.join()


def test_the_source_is_fetched_once_and_only_the_converter_kept(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sdist_module, "SHA256", hashlib.sha256(index.read_bytes()).hexdigest())
    folder = fetch_sdist()
    assert folder == tmp_path / "cache" / "bulba" / ARCHIVE
    expected = {f"vendor/llama.cpp/{name}" for name in NEW} | {"PKG-INFO", "vendor/llama.cpp/gguf-py/gguf/__init__.py"}
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == expected
    assert [path.name for path in folder.parent.iterdir()] == [ARCHIVE]
    index.unlink()
    assert find_converter("sdist").version == "llama-cpp-python 0.3.36"


def test_another_archive_under_its_name_is_not_unpacked(index: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"has SHA-256 [0-9a-f]{64} and not 832db0699.* so it is not unpacked"):
        fetch_sdist()
    assert not (tmp_path / "cache").exists()


def test_an_archive_that_is_gone_is_said(index: Path) -> None:
    index.unlink()
    with pytest.raises(ExportError, match=r"could not be fetched \(HTTP Error 404: .*\): try again, or unpack"):
        fetch_sdist()


def test_without_network_one_sentence_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("UV_OFFLINE", "1")
    with pytest.raises(
        ExportError, match=r"was not found \(Because .*\): get a network, or unpack .* from a machine with"
    ):
        fetch_sdist()
    monkeypatch.delenv("UV", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ExportError, match=r"is found by uv, which is not installed: pip install uv, or unpack"):
        fetch_sdist()


@pytest.mark.parametrize("name", ["/etc/x", f"{ARCHIVE}/vendor/llama.cpp/conversion/../../../../x", "../x"])
def test_no_path_leaves_the_folder(tmp_path: Path, name: str) -> None:
    archive = make_archive(tmp_path / "archive.tar.gz", {name: "x"})
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(ExportError, match="which leads out of it"):
        unpack(archive, tmp_path / "a" / "b")
    assert list((tmp_path / "a").rglob("*")) == [tmp_path / "a" / "b"]
