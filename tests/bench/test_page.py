"""The page of measurements keeps the sections of other benchmarks."""

from __future__ import annotations

from pathlib import Path

from bulba.bench.page import write_section


def test_a_section_is_replaced_in_its_place_and_the_others_stay(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    head = ["what", "figure"]
    write_section(page, "Data", "bench data", [head, ["encode", "1 MB/s"]], "on one text")
    write_section(page, "Training", "bench train", [head, ["both", "2 tokens/s"]], "torch 1")
    write_section(page, "Data", "bench data", [head, ["encode", "3 MB/s"]], "on one text")
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Benchmarks\n")
    assert "| both | 2 tokens/s |" in text
    assert "| encode | 3 MB/s |" in text
    assert "1 MB/s" not in text
    assert [line for line in text.splitlines() if line.startswith("## ")] == ["## Data", "## Training"]
