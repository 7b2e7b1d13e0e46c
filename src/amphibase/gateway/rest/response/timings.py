"""How long the phases of a request take, for the header `Server-Timing`."""

from time import perf_counter
from typing import Literal, TypeAlias

Phase: TypeAlias = Literal["jwt", "parse", "plan", "transaction", "response"]

_PHASES: tuple[Phase, ...] = ("jwt", "parse", "plan", "transaction", "response")


class Timings:
    """A watch that begins with a request, and counts the time since the last mark."""

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(_PHASES, 0.0)
        self._last = perf_counter()

    def mark(self, phase: Phase) -> None:
        """Count the time since the last mark to a phase."""
        now = perf_counter()
        self._seconds[phase] += now - self._last
        self._last = now

    def __str__(self) -> str:
        """Return the header's value, in milliseconds."""
        return ", ".join(f"{phase};dur={self._seconds[phase] * 1000:.1f}" for phase in _PHASES)
