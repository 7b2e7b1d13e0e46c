#!/usr/bin/env bash
# What postgrest-py sends for one and the same Python value: insert() and update() write an enum by
# its value and bytes as Postgres reads them, a filter writes what str() returns. What was inserted is
# not found, without an error.
#
# Seen with postgrest 2.34.1 (the client of supabase-py) on CPython 3.11, against a stub that keeps
# the requests:
#     value                            insert()        eq()                 in_([...])
#     Status.OPEN, class Status(str,   "open"          eq.Status.OPEN       in.(Status.OPEN)
#       Enum) with OPEN = "open"
#     the same as a StrEnum            "open"          eq.open              in.(open)
#     b"abc"                           "\\x616263"     eq.b'abc'            in.(b'abc')
#     timedelta, Decimal               TypeError       str() of it          str() of it
# One would guess that a client has one way to write a value. Bodies go through json.dumps, which
# writes a subclass of str by its characters, with a function for what JSON lacks
# (_encode_json_value); filters through str() apart from None, booleans, dicts and lists
# (_serialize_filter_value), and str() of such an enum is the name of its member. On a text column
# "Status.OPEN" is a text like any other, and b'abc' is a valid bytea of six characters: the response is an
# empty list, and an update() or delete() with such a filter changes nothing and says so to nobody.
# Pass status.value, derive from StrEnum, and write bytes as "\\x" + value.hex() in filters.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check postgrest==2.34.1

"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
import json
from datetime import timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from importlib.metadata import version

import httpx
from postgrest import AsyncPostgrestClient


class Status(str, Enum):
    OPEN = "open"


class NewStatus(StrEnum):
    OPEN = "open"


VALUES = {
    "str, Enum": Status.OPEN,
    "StrEnum": NewStatus.OPEN,
    "bytes": b"abc",
    "timedelta": timedelta(days=1),
    "Decimal": Decimal("1.50"),
}


def respond(request):
    if request.method == "POST":
        return httpx.Response(201, json=[{"seen": json.loads(request.content)["column"]}])
    return httpx.Response(200, json=[{"seen": request.url.params["column"]}])


async def seen_of(client, value):
    async def sent(query):
        try:
            return (await query().execute()).data[0]["seen"]
        except TypeError:
            return "TypeError"

    table = client.from_("note")
    return (
        await sent(lambda: table.insert({"column": value})),
        await sent(lambda: table.select().eq("column", value)),
        await sent(lambda: table.select().in_("column", [value])),
    )


async def main():
    async with httpx.AsyncClient(transport=httpx.MockTransport(respond)) as http:
        client = AsyncPostgrestClient("http://stub/rest/v1", http_client=http)
        return {name: await seen_of(client, value) for name, value in VALUES.items()}


print("postgrest", version("postgrest"))
seen = asyncio.run(main())
for name, values in seen.items():
    print(f"{name:10}", *(f"{value:17}" for value in values))
assert seen["str, Enum"] == ("open", "eq.Status.OPEN", "in.(Status.OPEN)"), "filters use the value"
assert seen["StrEnum"] == ("open", "eq.open", "in.(open)")
assert seen["bytes"] == (r"\x616263", "eq.b'abc'", "in.(b'abc')"), "filters write bytes otherwise"
assert seen["timedelta"] == ("TypeError", "eq.1 day, 0:00:00", 'in.("1 day, 0:00:00")')
assert seen["Decimal"] == ("TypeError", "eq.1.50", "in.(1.50)")
PYTHON
echo "as described"
