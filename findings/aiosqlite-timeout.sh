#!/usr/bin/env bash
# What a statement does with aiosqlite after its caller has given up waiting: it is run all the same,
# and the next commit stores it.
#
# Seen with aiosqlite 0.22.1, CPython 3.11, SQLite 3.40.1, one connection, on which a query takes
# 0.5 seconds:
#     wait_for(execute("INSERT ... 'first'"), 0.1)   TimeoutError
#     execute("INSERT ... 'second'"), commit()
#     rows                                            first, second
#     the same with rollback() after the TimeoutError: second
# One would guess that a statement that was cancelled while it waited for its turn is not run, as with
# a lock or a queue of asyncio, and that at worst only its result is lost. Each call is put into the
# queue of the connection's thread; cancelling the task cancels the future of the result, and the
# thread looks at that only after the call, to set it (aiosqlite/core.py). So an endpoint that
# responds "timed out" and is called again adds a row twice, wherever connections are shared or what
# comes next commits. Roll back after each TimeoutError and CancelledError, before anything else.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check aiosqlite==0.22.1

"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
import platform
import sqlite3
import time
from importlib.metadata import version

import aiosqlite

INSERT = "INSERT INTO note (title) VALUES (?)"


async def titles(*, rolls_back):
    async with aiosqlite.connect(":memory:") as connection:
        await connection.execute("CREATE TABLE note (title TEXT)")
        await connection.create_function("pause", 0, lambda: time.sleep(0.5))
        query = asyncio.create_task(connection.execute("SELECT pause()"))
        await asyncio.sleep(0.1)
        try:
            await asyncio.wait_for(connection.execute(INSERT, ["first"]), 0.1)
        except TimeoutError:
            if rolls_back:
                await connection.rollback()
        else:
            raise AssertionError("nothing timed out")
        await query
        await connection.execute(INSERT, ["second"])
        await connection.commit()
        return [title for (title,) in await connection.execute_fetchall("SELECT * FROM note")]


print("aiosqlite", version("aiosqlite"), "python", platform.python_version(), sqlite3.sqlite_version)
without = asyncio.run(titles(rolls_back=False))
rolled_back = asyncio.run(titles(rolls_back=True))
print("stored:", without, "after a rollback:", rolled_back)
assert without == ["first", "second"], "a statement that was given up is not run now"
assert rolled_back == ["second"]
PYTHON
echo "as described"
