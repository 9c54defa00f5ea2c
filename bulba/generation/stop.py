"""Stop texts in a stream: hold back what may be the beginning of one, and cut the stream where one begins."""

from __future__ import annotations


class StopFilter:
    """Passes text on, except a stop text and everything behind it; no part of a stop text ever comes out."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self.stops = stops
        self.found = False
        self._held = ""

    def push(self, text: str) -> str:
        """The text that is certain now."""
        if self.found:
            return ""
        self._held += text
        # The stop text that is complete first, whatever the pieces in which the text came.
        found = [(start + len(stop), start) for stop in self.stops if (start := self._held.find(stop)) >= 0]
        if found:
            self.found = True
            certain, self._held = self._held[: min(found)[1]], ""
            return certain
        keep = self._possible_beginning()
        cut = len(self._held) - keep
        certain, self._held = self._held[:cut], self._held[cut:]
        return certain

    def flush(self) -> str:
        """What was held back, when the text has ended without a stop text."""
        rest, self._held = self._held, ""
        return rest

    def _possible_beginning(self) -> int:
        """Length of the longest end of the held text with which a stop text begins."""
        longest = max((len(stop) - 1 for stop in self.stops), default=0)
        for length in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self.stops):
                return length
        return 0
