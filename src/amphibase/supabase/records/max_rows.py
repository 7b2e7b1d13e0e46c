"""How many rows the project returns at most in one response, as far as its responses show.

A project has a limit of its own (`max_rows`, 1,000 by default), which no response mentions: what is
beyond it is missing (https://github.com/supabase/supabase/issues/4544). So a response with fewer
rows than were requested is complete if the server was seen to return more, or if the rows were
counted in the same request.
"""

from time import monotonic

REMEMBERED_SECONDS = 60
"""A project's limit may be lowered while the application runs."""


class MaxRows:
    """What is known of the limit.

    Attributes:
        limit: None until a response has shown it.
    """

    def __init__(self) -> None:
        self.limit: int | None = None
        self._most = 0
        self._since = monotonic()

    def must_count(self, requested: int) -> bool:
        """Return whether a request for so many rows has to have the matching rows counted."""
        if monotonic() - self._since > REMEMBERED_SECONDS:
            self.limit, self._most, self._since = None, 0, monotonic()
        return self.limit is None and requested > self._most

    def is_end(self, returned: int, requested: int, matching: int | None) -> bool:
        """Return whether there are no rows after those of a response; learn from it.

        Args:
            matching: how many rows there are, where they were counted.
        """
        self._most = max(self._most, returned)
        if returned >= requested:
            return False
        if matching is not None and matching > returned:
            self.limit = returned
        return not self.may_cut(returned + 1) if matching is None else matching == returned

    def may_cut(self, count: int) -> bool:
        """Return whether the project may return fewer rows where there are so many."""
        return count > self._most if self.limit is None else count > self.limit
