"""How often something may happen."""

from collections import deque
from time import monotonic

WINDOW_SECONDS = 60
BUCKET_SECONDS = 5


class AverageRate:
    """Limits the average of a minute, as Supabase Realtime does, so that bursts pass.

    Args:
        per_second: how often it may happen; 0 sets no limit.
    """

    def __init__(self, per_second: int) -> None:
        self._most = per_second * WINDOW_SECONDS
        self._buckets: deque[list[float]] = deque()
        self._count = 0

    def admits(self, times: int = 1) -> bool:
        """Count what happens now; return whether it still may."""
        if not self._most:
            return True
        now = monotonic()
        while self._buckets and self._buckets[0][0] <= now - WINDOW_SECONDS:
            self._count -= int(self._buckets.popleft()[1])
        if self._count + times > self._most:
            return False
        if not self._buckets or self._buckets[-1][0] <= now - BUCKET_SECONDS:
            self._buckets.append([now, 0])
        self._buckets[-1][1] += times
        self._count += times
        return True
