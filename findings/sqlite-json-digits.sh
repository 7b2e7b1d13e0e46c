#!/usr/bin/env bash
# How many digits a float keeps when SQLite writes it into JSON.
#
# Seen with SQLite 3.40.1:
#     0.1 + 0.2                            0.30000000000000004 (the driver's value)
#     json_array(0.1 + 0.2)                [0.3]
#     json_array(json(quote(0.1 + 0.2)))   [3.00000000000000044408e-01]
#     quote(9e999)                         Inf, which json() calls malformed
# One would guess that JSON holds the number that was stored, as it does of Postgres (the shortest text
# that reads back as the same float) and of `json.dumps`. SQLite's JSON functions print 15 significant
# digits, so an audit trigger with `json_object(…)` logs another value than the row had, and a key of a
# float does not find its row. `quote()` keeps all digits, but writes infinity as no JSON does.
# From 3.43 on the versions differ: the script prints what the one at hand does.
set -euo pipefail

python3 - <<'PYTHON'
import json
import sqlite3

connection = sqlite3.connect(":memory:")


def select(expression):
    return connection.execute(f"SELECT {expression}").fetchone()[0]


value = select("0.1 + 0.2")
plain, exact = select("json_array(0.1 + 0.2)"), select("json_array(json(quote(0.1 + 0.2)))")
print("SQLite", sqlite3.sqlite_version, "value:", repr(value))
print("json_array:", plain, "with quote:", exact, "infinity:", select("quote(9e999)"))
assert json.loads(exact) == [value], "quote() does not keep all digits"
assert json.loads(plain) != [value], "json_array() keeps all digits"
PYTHON
echo "as described"
