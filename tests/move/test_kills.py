"""A copy that is killed goes on where it was."""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tests.move.test_constraints import dump
from tests.move.two_databases import TwoDatabases

from amphibase.move.tables.sql_checksums import open_sql_checksums

ROOT = Path(__file__).parents[2]
ROWS = 6_000


async def test_a_copy_that_is_killed_again_and_again_ends_as_if_it_had_not_been(
    two_databases: TwoDatabases, tmp_path: Path
) -> None:
    two_databases.run(
        "CREATE TABLE people (id int PRIMARY KEY, email text UNIQUE, boss int REFERENCES people)"
    )
    two_databases.source.run(
        f"INSERT INTO people SELECT n, repeat('x', 50) || n, 1 FROM generate_series(1, {ROWS}) n"
    )
    before = dump(two_databases.target)
    copied = 0
    for kill_after in (0, 2, 5, 1):
        copied += run_until(two_databases, tmp_path, kill_after)
        # These rows are in other pages from now on, some of them copied and some not.
        two_databases.source.run(f"UPDATE people SET boss = 2 WHERE id % 900 = {kill_after}")
    assert copied < ROWS
    run_until(two_databases, tmp_path, None)
    (pair,) = await two_databases.pairs("people")
    urls = two_databases.source.url, two_databases.target.url
    async with open_sql_checksums(*urls, [pair]) as checksums:
        fingerprints = await checksums.read_fingerprints(pair)
        differing = [
            int(key)
            async for keys in checksums.read_differing_keys(pair, fingerprints)
            for (key,) in keys
        ]
    assert {key % 900 for key in differing} <= {0, 1, 2, 5}  # what the comparison copies again
    two_databases.target.run("DROP SCHEMA amphibase_move CASCADE")
    assert dump(two_databases.target) == before


def run_until(sides: TwoDatabases, folder: Path, kill_after: int | None) -> int:
    """Copy in a process that is killed when so many ranges are copied; return their rows."""
    urls = [
        side.url.set(drivername="postgresql").render_as_string(hide_password=False)
        for side in (sides.source, sides.target)
    ]
    script = [sys.executable, "-m", "tests.move.passthrough_process", *urls, "killed.toml"]
    rows = 0
    environment = {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        script, cwd=folder, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        lines = iter(process.stdout)
        with suppress(StopIteration):
            while kill_after is None or kill_after > 0:
                rows += int(next(lines))
                kill_after = None if kill_after is None else kill_after - 1
        if kill_after is not None:
            process.kill()
    assert process.returncode == (0 if kill_after is None else -9)
    return rows
