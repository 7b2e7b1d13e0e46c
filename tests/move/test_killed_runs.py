"""A move that is killed at any moment ends, when it is run again, as if it had not been."""

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.conftest import prepared_database
from tests.move.application import contents, fill
from tests.move.moving import MoveFolder

KILLS = 50
ROWS = 300
KILLED = -9


@pytest.fixture(params=["sqlite-postgres", "postgres-postgres", "postgres-sqlite"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MoveFolder]:
    source, target = request.param.split("-")
    with ExitStack() as opened:
        urls = []
        for name, kind in (("source", source), ("target", target)):
            (tmp_path / name).mkdir()
            place = prepared_database(kind, request, tmp_path / name)
            urls.append(opened.enter_context(place))
        moved = MoveFolder(tmp_path, urls[0], urls[1])
        fill(moved.source, moved.source_files, users=30, rows=ROWS)
        yield moved


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_fifty_kills_at_random_moments_change_nothing_of_the_result(folder: MoveFolder) -> None:
    folder.plan()
    empty = contents(folder.target)
    began = time.monotonic()
    folder.run()
    longest = time.monotonic() - began
    folder.undo()
    random_ = random.Random(folder.source)
    kills = 0
    while kills < KILLS:
        options = random_.choice([(), ("--freeze",)])
        code = folder.run_and_kill(random_.uniform(0, longest), *options)
        assert code in (0, KILLED), (folder.path / "killed.err").read_text()
        if code == KILLED:
            kills += 1
        else:
            folder.check_equal()
            folder.undo()
            assert contents(folder.target) == empty
    folder.run()
    folder.check_equal()
    folder.check_clean()
