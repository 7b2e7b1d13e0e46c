#!/usr/bin/env bash
# What Python's clients make of a stream of server-sent events with heartbeats that is cut: httpx-sse
# makes events of the heartbeats, once an id has been seen; sseclient-py makes one of what was cut off.
#
# Seen with httpx-sse 0.4.3 (httpx 0.28.1) and sseclient-py 1.9.0 (requests 2.34.2) on CPython 3.11, each
# line a block of one stream, the last one without its end:
#     sent                      httpx-sse                     sseclient-py                browsers
#     : a comment               nothing                       nothing                     nothing
#     id: 1, data: {"n": 1}     {"n": 1}, id 1                {"n": 1}, id 1              {"n": 1}, id 1
#     : a comment               an event without data, id 1   nothing                     nothing
#     data: {"n": 2}            {"n": 2}, id 1                {"n": 2}, no id             {"n": 2}, id 1
#     data: {"n": 3, "tit       nothing                       {"n": 3, "tit               nothing
# One would guess that a comment, which the HTML Standard has for keeping a connection open, is never
# an event, as it is not at the start of the stream. httpx-sse leaves a block out only where it has
# neither data nor an event nor an id, and the id of an earlier event counts. So json.loads(event.data)
# fails at the first heartbeat after the first event. The Standard also says that an incomplete block at
# the end is discarded; from sseclient-py it comes as an event with half of its data, and whoever
# goes on after the last id that it gave starts at the beginning where the last event had none. Take no
# event without data, and keep the id by yourself.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    httpx-sse==0.4.3 httpx==0.28.1 sseclient-py==1.9.0 requests==2.34.2

"$folder/venv/bin/python" - <<'PYTHON'
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import httpx_sse
import requests
import sseclient

BLOCKS = (
    ": a comment\n\n",
    'id: 1\ndata: {"n": 1}\n\n',
    ": a comment\n\n",
    'data: {"n": 2}\n\n',
    'data: {"n": 3, "tit',
)


class Stream(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for block in BLOCKS:
            self.wfile.write(block.encode())
            self.wfile.flush()

    def log_message(self, *arguments):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Stream)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"
with httpx.Client() as client, httpx_sse.connect_sse(client, "GET", url) as source:
    of_httpx = [(event.data, event.id) for event in source.iter_sse()]
client = sseclient.SSEClient(requests.get(url, stream=True))
of_requests = [(event.data, event.id) for event in client.events()]
server.shutdown()
print("httpx-sse   ", of_httpx)
print("sseclient-py", of_requests)
assert of_httpx == [('{"n": 1}', "1"), ("", "1"), ('{"n": 2}', "1")], of_httpx
cut = ('{"n": 3, "tit', None)
assert of_requests == [('{"n": 1}', "1"), ('{"n": 2}', None), cut], of_requests
PYTHON
echo "as described"
