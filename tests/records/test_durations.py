"""Durations in JSON: any reader of ISO 8601 reads them as what they are."""

from datetime import timedelta

import pytest
from pydantic import TypeAdapter

from amphibase.records.durations import duration_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (timedelta(0), "PT0S"),
        (timedelta(days=400), "P400D"),
        (timedelta(days=1, seconds=2), "P1DT2S"),
        (timedelta(hours=3, seconds=5), "PT3H0M5S"),
        (timedelta(hours=3, minutes=1), "PT3H1M"),
        (timedelta(days=2, microseconds=100), "P2DT0.0001S"),
        (timedelta(microseconds=-1), "-PT0.000001S"),
        (timedelta.max, "P999999999DT23H59M59.999999S"),
        (timedelta.min, "-P999999999D"),
    ],
)
def test_a_duration_is_written_in_days_and_leaves_no_unit_out(value: timedelta, text: str) -> None:
    assert duration_text(value) == text
    if abs(value) < timedelta(days=999_999_999):  # more than pydantic reads
        assert TypeAdapter(timedelta).validate_python(text) == value
