"""Durations as they are written in JSON."""

from datetime import timedelta


def duration_text(value: timedelta) -> str:
    """Write a duration as ISO 8601 does, in days and what is smaller.

    pydantic writes 365 days as a year, which others read as one of the calendar, and years beside
    days, which the format `duration` of JSON Schema does not have (RFC 3339, appendix A: no unit
    is left out between two others). A negative one has its sign in front, as of ISO 8601-2.
    """
    size = abs(value)
    minutes, seconds = divmod(size.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{size.microseconds:06}".rstrip("0") if size.microseconds else ""
    has_seconds = bool(seconds or fraction)
    parts = [
        f"{hours}H" if hours else "",
        f"{minutes}M" if minutes or (hours and has_seconds) else "",
        f"{seconds}{fraction}S" if has_seconds or not size else "",
    ]
    clock = "".join(parts)
    days = f"{size.days}D" if size.days else ""
    return f"{'-' if value < size else ''}P{days}{'T' if clock else ''}{clock}"
