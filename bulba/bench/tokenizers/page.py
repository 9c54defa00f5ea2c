"""The report as one HTML file that needs nothing else: its style and its picture are inside."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from bulba.bench.tokenizers.tables import Table

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 75rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem; }
p { margin: .3rem 0; max-width: 50rem; color: #444; }
ul { columns: 2; max-width: 50rem; } img { max-width: 100%; }
div { overflow-x: auto; } table { border-collapse: collapse; margin-top: .5rem; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top; }
th { border-bottom: 2px solid #888; } th.figure, td.figure { text-align: right; font-variant-numeric: tabular-nums; }
tbody tr:hover { background: #f3f6fa; }
"""


def html_page(title: str, tables: Sequence[Table], picture: bytes | None, remark: str) -> str:
    """picture: a PNG, or None; remark: a sentence under the heading, such as why there is no picture."""
    contents = "".join(f'<li><a href="#t{place}">{escape(table.title)}</a></li>' for place, table in enumerate(tables))
    image = ""
    if picture is not None:
        data = base64.b64encode(picture).decode()
        image = f'<img alt="The main figures as charts; all are in the tables." src="data:image/png;base64,{data}">'
    sections = "".join(_section(place, table) for place, table in enumerate(tables))
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        f"<h1>{escape(title)}</h1><p>{escape(remark)}</p>{image}<ul>{contents}</ul>{sections}</body></html>\n"
    )


def _section(place: int, table: Table) -> str:
    classes = [' class="figure"' if table.is_figure(column) else "" for column in range(len(table.header))]
    head = "".join(f"<th{kind}>{escape(name)}</th>" for kind, name in zip(classes, table.header, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(classes, row, strict=True)) + "</tr>\n"
        for row in table.rows
    )
    return (
        f'<h2 id="t{place}">{escape(table.title)}</h2><p>{escape(table.note)}</p>'
        f"<div><table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>\n"
    )
