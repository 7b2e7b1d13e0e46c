#!/usr/bin/env bash
# What a request of a signed-in supabase-js sends first, when the access token is valid for less than
# 90 seconds: a refresh, before each request, though the token is good and was just issued.
#
# Seen with @supabase/supabase-js 2.119.1 on Node.js 20 and supabase 2.34.1 on CPython 3.11, one
# sign-in and five reads of a table:
#     the token is valid for                      supabase-js                supabase-py
#     an hour                                     0 refreshes, 1 token       0 refreshes, 1 token
#     96 seconds                                  0 refreshes, 1 token       0 refreshes, 1 token
#     60 seconds                                  5 refreshes, 5 tokens      0 refreshes, 1 token
#     an hour, on a clock that is an hour fast    5 refreshes, 5 tokens      0 refreshes, 1 token
# One would guess that a token is refreshed once, shortly before it expires. The JavaScript client
# asks for the session before each request of any service, and takes one that ends within 90 seconds
# by the device's own clock for expired (GoTrueClient.ts, __loadSession; constants.ts,
# EXPIRY_MARGIN_MS); a new token with the same lifetime is as short. Each read costs two requests
# then, and a refresh that writes to the database, and the limit of refreshes is soon used up; with a
# wrong clock that happens to one user of many, with the usual hour. Tests that want a token to
# expire soon see another client than production does. Make jwt_expiry several minutes at least.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check supabase==2.34.1
npm install --silent --no-audit --no-fund --prefix "$folder" @supabase/supabase-js@2.119.1 ws@8.23.0

cat >"$folder/read.mjs" <<'JAVASCRIPT'
import { createClient } from "@supabase/supabase-js";
import ws from "ws";

const client = createClient(process.argv[2], "key", {
  auth: { persistSession: false },
  realtime: { transport: ws },
});
await client.auth.signInWithPassword({ email: "ann@example.com", password: "password" });
for (let read = 0; read < 5; read += 1) await client.from("note").select();
process.exit(0);
JAVASCRIPT

cat >"$folder/read.py" <<'PYTHON'
import os
import sys

from supabase import create_client

client = create_client(sys.argv[1], "key")
client.auth.sign_in_with_password({"email": "ann@example.com", "password": "password"})
for _ in range(5):
    client.table("note").select("*").execute()
os._exit(0)  # a timer waits for the time to refresh
PYTHON

"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import base64
import json
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

FOLDER = sys.argv[1]
NOW = "2026-01-01T00:00:00Z"
USER = {"id": "5b3ba1d9-0b0f-4a4e-9b0c-4f4fb8f1c2aa", "aud": "authenticated", "created_at": NOW}
USER |= {"app_metadata": {}, "user_metadata": {}}


def part(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.refreshes += "grant_type=refresh_token" in self.path
        issued = int(time.time()) + self.server.ahead
        ends = issued + self.server.lifetime
        claims = {"sub": USER["id"], "iat": issued, "exp": ends, "n": self.server.refreshes}
        token = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part(claims)}.c2lnbmF0dXJl"
        session = {"access_token": token, "token_type": "bearer", "user": USER}
        session |= {"expires_in": self.server.lifetime, "expires_at": ends}
        self.respond(session | {"refresh_token": f"refresh-{self.server.refreshes}"})

    def do_GET(self):
        self.server.tokens.add(self.headers["Authorization"])
        self.server.reads += 1
        self.respond([])

    def respond(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def seen(command, lifetime, ahead=0):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.lifetime, server.ahead = lifetime, ahead
    server.refreshes, server.reads, server.tokens = 0, 0, set()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    subprocess.run([*command, url], check=True, stderr=subprocess.DEVNULL)
    server.shutdown()
    assert server.reads == 5, server.reads
    return server.refreshes, len(server.tokens)


print("supabase", version("supabase"))
javascript = ["node", f"{FOLDER}/read.mjs"]
python = [f"{FOLDER}/venv/bin/python", f"{FOLDER}/read.py"]
# A device whose clock is fast sees tokens from the past, which is how the last row is made.
for lifetime, ahead, refreshes in ((3600, 0, 0), (96, 0, 0), (60, 0, 5), (3600, -3600, 5)):
    by_javascript, by_python = seen(javascript, lifetime, ahead), seen(python, lifetime, ahead)
    print(f"{lifetime:5} s {ahead:6} s   supabase-js {by_javascript}   supabase-py {by_python}")
    assert by_javascript == (refreshes, max(1, refreshes)), "supabase-js refreshes otherwise now"
    assert by_python == (0, 1), "supabase-py refreshes before its requests now"
PYTHON
echo "as described"
