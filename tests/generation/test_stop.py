"""Stop texts in a stream: the result does not depend on how the text was cut, and no part of one comes out."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from bulba.generation.stop import StopFilter

# Few letters, so that stop texts begin, break off and overlap often.
TEXTS = st.text(alphabet="абA", max_size=30)
STOPS = st.lists(st.text(alphabet="абA", min_size=1, max_size=4), max_size=3).map(tuple)


def letter_by_letter(text: str, stops: tuple[str, ...]) -> tuple[str, bool]:
    """The definition: read on until a stop text is complete, then cut where the longest such one begins."""
    for end in range(1, len(text) + 1):
        complete = [len(stop) for stop in stops if text[:end].endswith(stop)]
        if complete:
            return text[: end - max(complete)], True
    return text, False


@given(text=TEXTS, stops=STOPS, cuts=st.lists(st.integers(0, 30)))
@example(text="ааааб", stops=("аааб",), cuts=[1, 2, 3, 4])
@example(text="абA", stops=("абAа", "бA"), cuts=[])
def test_any_cutting_gives_the_text_before_the_first_stop(text: str, stops: tuple[str, ...], cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    stop = StopFilter(stops)
    expected, found = letter_by_letter(text, stops)
    shown = ""
    for start, end in pairwise(places):
        shown += stop.push(text[start:end])
        assert expected.startswith(shown)
    assert shown + stop.flush() == expected
    assert stop.found == found


def test_only_a_possible_beginning_is_held_back() -> None:
    stop = StopFilter(("КАНЕЦ",))
    assert stop.push("Жыў дзед КА") == "Жыў дзед "
    assert stop.push("ШКА") == "КАШ"
    assert stop.push("НЕЦ і далей") == ""
    assert stop.found
    assert stop.push("яшчэ") == stop.flush() == ""
