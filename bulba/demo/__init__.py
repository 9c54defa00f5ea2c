"""One file per attention: its theorem at work on numbers and in a picture, and the same quantity in a trained run.

Each has `TITLE`, `show(figure) -> lines` and `look(mixer, x_BTH, context, words, figure) -> lines`; `run.py`
calls them.
"""
