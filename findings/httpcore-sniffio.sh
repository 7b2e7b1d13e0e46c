#!/usr/bin/env bash
# What a request costs in httpx where the package sniffio is not installed: a search of the import
# path, several times for each request.
#
# Seen with httpx 0.28.1, httpcore 1.0.9, anyio 4.16.0 on Python 3.11: 1.0 ms of CPU time for a small
# GET and four searches, 0.8 ms and none with sniffio 1.3.1 beside it (1.5 and 1.1 ms with headers and
# parameters as the clients of Supabase send them).
# httpcore asks `import sniffio` whenever it makes a lock or a shield
# (current_async_library in httpcore/_synchronization.py), which is a look into a dictionary where
# the package is there. It used to be, since anyio depended on it; anyio does no longer, and Python
# does not remember an import that has failed. So who upgrades anyio alone has slower requests.
# Install sniffio beside httpx.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    httpx==0.28.1 httpcore==1.0.9 anyio==4.16.0

cat >"$folder/measure.py" <<'PYTHON'
import asyncio
import sys
import time
from collections import Counter

import httpx

REQUESTS = 300
searches = Counter()


class Finder:
    def find_spec(self, name, path=None, target=None):
        searches[name] += 1


async def respond(reader, writer):
    while await reader.readline():
        while (await reader.readline()).strip():
            pass
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
    writer.close()


async def main():
    server = await asyncio.start_server(respond, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with httpx.AsyncClient() as client:
        await client.get(url)
        sys.meta_path.insert(0, Finder())
        begin = time.process_time()
        for _ in range(REQUESTS):
            await client.get(url)
        spent = (time.process_time() - begin) / REQUESTS * 1000
    print(f"{spent:.2f} ms of CPU a request,", searches["sniffio"] / REQUESTS, "searches")
    server.close()
    await asyncio.sleep(0.1)  # until it has seen that the client is gone


asyncio.run(main())
PYTHON

echo "without sniffio:"
"$folder/venv/bin/python" "$folder/measure.py"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check sniffio==1.3.1
echo "with sniffio:"
"$folder/venv/bin/python" "$folder/measure.py"
