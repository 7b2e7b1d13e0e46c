#!/usr/bin/env bash
# What a client of supabase-py reads before its first request: every certificate of the CA bundle,
# four times, also for a project at http://.
#
# Seen with supabase 2.34.1, httpx 0.28.1, certifi 2026.10.19 on CPython 3.11, bundles read:
#     create_client()                                   1    about 20 ms of CPU
#     then .table(), .storage and .functions            3    about 60 ms
#     the same, and acreate_client(), the second time   1 and 3
#     with one httpx client in ClientOptions            0 and 0
# One would guess that a client is an object with a URL and a key, whose connections are opened by its
# first request, and that a process reads the bundle once. Auth, the Data API, Storage and Functions
# each have an httpx client of their own, and httpx makes an SSL context with each client
# (_transports/default.py), which parses some hundred and fifty certificates. A route that makes a
# client for each request, so that every user has a session of their own, spends 80 ms of a processor
# before anything is sent; with acreate_client() the event loop stands still meanwhile. Make one
# httpx client, and pass it to each of them (httpx_client of the options).
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    supabase==2.34.1 httpx==0.28.1 certifi==2026.10.19.post1

env -u SSL_CERT_FILE -u SSL_CERT_DIR "$folder/venv/bin/python" - <<'PYTHON'
import asyncio
import resource
import ssl
from importlib.metadata import version

import httpx
from supabase import AsyncClientOptions, ClientOptions, acreate_client, create_client

URL = "http://127.0.0.1:1"
read = 0
load = ssl.SSLContext.load_verify_locations


def counted(context, *arguments, **options):
    global read
    read += 1
    return load(context, *arguments, **options)


ssl.SSLContext.load_verify_locations = counted


def processor_ms():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return 1000 * (usage.ru_utime + usage.ru_stime)


class Reading:
    def __enter__(self):
        self.number, self.ms = read, processor_ms()
        return self

    def __exit__(self, *raised):
        self.number, self.ms = read - self.number, processor_ms() - self.ms


def use(client):
    client.table("note")
    client.storage.from_("files")
    client.functions


def made(options=None):
    with Reading() as making:
        client = create_client(URL, "key", options)
    with Reading() as using:
        use(client)
    return making, using


async def made_async(options=None):
    with Reading() as making:
        client = await acreate_client(URL, "key", options)
    with Reading() as using:
        use(client)
    return making, using


print(*(f"{name} {version(name)}" for name in ("supabase", "httpx", "certifi")))
made()  # imports
seen = {
    "create_client": made(),
    "acreate_client": asyncio.run(made_async()),
    "one httpx client": made(ClientOptions(httpx_client=httpx.Client())),
    "one httpx client, async": asyncio.run(
        made_async(AsyncClientOptions(httpx_client=httpx.AsyncClient()))
    ),
}
for name, (making, using) in seen.items():
    print(f"{name:24} {making.number} {making.ms:3.0f} ms, {using.number} {using.ms:3.0f} ms")
numbers = {name: (making.number, using.number) for name, (making, using) in seen.items()}
assert numbers["create_client"] == numbers["acreate_client"] == (1, 3), numbers
# The client that is passed reads the bundle itself, before.
assert numbers["one httpx client"] == numbers["one httpx client, async"] == (0, 0), numbers
PYTHON
echo "as described"
