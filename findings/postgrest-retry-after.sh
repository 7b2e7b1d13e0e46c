#!/usr/bin/env bash
# What the clients of PostgREST make of a 503 with Retry-After: postgrest-js waits so many seconds
# three times, without a limit, and not at all before a date; postgrest-py does not read the header.
# Both send a read four times, and a write once.
#
# Seen with @supabase/postgrest-js 2.109.0 on Node.js 20 and postgrest 2.34.1 on CPython 3.11 (the
# clients of supabase-js and supabase-py), seconds before each of the three repetitions of a read:
#     Retry-After                      postgrest-js   postgrest-py
#     none                             1 2 4          1 2 4
#     2                                2 2 2          1 2 4
#     a date half an hour later        0 0 0          1 2 4
# One would guess that a read fails at once, as a write does, or that both clients do the same, and
# that a date (RFC 9110, section 10.2.3, allows either form) makes them wait longer, not less. The
# JavaScript client parses the header with parseInt(value, 10) || 0 (PostgrestBuilder.ts), in which
# a date is 0; the Python client has only its own delays (request_builder.py, get_retry_delay). So a
# server that is short of connections and says "Retry-After: 30" keeps a page of supabase-js waiting
# for a minute and a half, and one that sends a date receives four times the load at once. Say
# seconds, and few. .retry(false) and .retry(False) on a query turn the repetitions off.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check postgrest==2.34.1
npm install --silent --no-audit --no-fund --prefix "$folder" @supabase/postgrest-js@2.109.0

cat >"$folder/read.mjs" <<'JAVASCRIPT'
import { PostgrestClient } from "@supabase/postgrest-js";

const client = new PostgrestClient(process.argv[2]);
await Promise.all(process.argv.slice(3).map((table) => client.from(table).select()));
await client.from("write").insert({ id: 1 });
JAVASCRIPT

"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import asyncio
import subprocess
import sys
import threading
import time
from collections import defaultdict
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

from postgrest import AsyncPostgrestClient
from postgrest.exceptions import APIError

RETRY_AFTER = {"none": None, "seconds": "2", "date": formatdate(time.time() + 1800, usegmt=True)}
arrivals = defaultdict(list)


class BusyHandler(BaseHTTPRequestHandler):
    def respond(self):
        table = self.path.strip("/").partition("?")[0]
        arrivals[table].append(time.monotonic())
        body = b'{"message": "no connection is free"}'
        self.send_response(503)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if retry_after := RETRY_AFTER.get(table):
            self.send_header("Retry-After", retry_after)
        self.end_headers()
        self.wfile.write(body)

    do_GET = respond

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.respond()

    def log_message(self, *arguments):
        pass


def waits():
    """Return the whole seconds between the requests for each table, and forget the requests."""
    seconds = {
        table: [int(after - before + 0.1) for before, after in zip(times, times[1:])]
        for table, times in arrivals.items()
    }
    arrivals.clear()
    return seconds


async def execute(query):
    try:
        await query.execute()
    except APIError:
        return
    raise AssertionError("a 503 raises no error now")


async def read_by_python(url):
    async with AsyncPostgrestClient(url) as client:
        await asyncio.gather(*(execute(client.from_(table).select("*")) for table in RETRY_AFTER))
        await execute(client.from_("write").insert({"id": 1}))


server = ThreadingHTTPServer(("127.0.0.1", 0), BusyHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"
print("postgrest", version("postgrest"))
subprocess.run(["node", f"{sys.argv[1]}/read.mjs", url, *RETRY_AFTER], check=True, timeout=50)
javascript = waits()
print("postgrest-js waits", javascript)
asyncio.run(read_by_python(url))
python = waits()
print("postgrest-py waits", python)
server.shutdown()

assert javascript["none"] == [1, 2, 4] and javascript["write"] == []
assert javascript["seconds"] == [2, 2, 2], "postgrest-js reads seconds otherwise now"
assert javascript["date"] == [0, 0, 0], "postgrest-js reads a date now"
assert python["write"] == []
for table in RETRY_AFTER:
    assert python[table] == [1, 2, 4], "postgrest-py reads Retry-After now"
PYTHON
echo "as described"
