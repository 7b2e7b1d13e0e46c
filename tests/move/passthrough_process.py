"""Copies a table in a process of its own, which prints a line for each range: to be killed."""

import asyncio
import sys
from pathlib import Path

from sqlalchemy.engine import make_url
from tests.move.two_databases import TwoDatabases, open_side

from amphibase.move.journal import Journal
from amphibase.move.progress import NoProgress
from amphibase.move.tables import passthrough, ranges
from amphibase.move.tables.passthrough import Passthrough


class Lines(NoProgress):
    """Prints a line for each range that was copied."""

    def advance(self, task: str, amount: int) -> None:
        print(amount, flush=True)


async def main(source: str, target: str, plan: str) -> None:
    passthrough.LARGE, ranges.PAGES = 0, 4
    with Journal(Path(plan)) as journal:
        sides = TwoDatabases(open_side(make_url(source)), open_side(make_url(target)), journal)
        mover = Passthrough(
            sides.source.url, sides.target.url, "tests", journal, progress=Lines(), workers=2
        )
        await mover.copy(await sides.pairs("people"))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
