"""What commands print on: results on standard output, everything else on standard error."""

from rich.console import Console
from rich.table import Column, Table

WIDEST = 100_000


def results() -> Console:
    """Return the standard output. No line is wrapped, and a file or another program gets tables as
    wide as what is in them."""
    return _console(is_error=False)


def messages() -> Console:
    """Return the standard error, as `results` returns the standard output."""
    return _console(is_error=True)


def table(*headings: str) -> Table:
    """Return a table that breaks a long value, such as an id, and cuts none."""
    return Table(*(Column(heading, overflow="fold") for heading in headings))


def _console(is_error: bool) -> Console:
    console = Console(stderr=is_error, soft_wrap=True, highlight=False)
    if not console.is_terminal:
        console.width = WIDEST
    return console
