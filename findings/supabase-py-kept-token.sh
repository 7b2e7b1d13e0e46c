#!/usr/bin/env bash
# With which token supabase-py sends what a part of the client requests that was kept from before
# the sign-in, or from before the token was refreshed: with the old one. supabase-js sends the new
# one.
#
# Seen with supabase 2.34.1 on CPython 3.11 and @supabase/supabase-js 2.109.0 on Node.js 20, against
# a stub that keeps the requests, each part taken before sign_in_with_password:
#     part, and the token it sends             supabase-py     supabase-js
#     storage, storage.from_("files")          the anon key    the user's
#     functions                                the anon key    the user's
#     table("note"), also with select()        the anon key    the user's
#     a bucket taken after the sign-in         the user's      the user's
#     the same, once the token was refreshed   the old one     the new one
# One would guess that a bucket is a name and a client, and that the client knows who is signed in,
# as the one for JavaScript asks for the token at each request. supabase-py copies the headers into
# each part when it is taken, and drops its own parts at a sign-in or refresh; what others hold
# stays as it was. So files = client.storage.from_("files") at the top of a module lists nothing for
# a user who has files, without an error where policies show an anonymous caller no rows; taken
# after the sign-in, it works for the life of one token, an hour by default, and then all that it
# sends is rejected. Write client.storage.from_(...) at each use.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check supabase==2.34.1
npm install --silent --no-audit --no-fund --prefix "$folder" @supabase/supabase-js@2.109.0

cat >"$folder/kept.mjs" <<'JAVASCRIPT'
import { createClient } from "@supabase/supabase-js";

const [url, key] = process.argv.slice(2);
const client = createClient(url, key, {
  auth: { persistSession: false, autoRefreshToken: false },
  realtime: { transport: class {} }, // Node.js 20 has no WebSocket; none is opened
});
const { storage, functions } = client;
const bucket = storage.from("kept-bucket");
const table = client.from("kept-table");
const query = client.from("kept-query").select();
await client.auth.signInWithPassword({ email: "ann@example.com", password: "correct horse" });
await storage.from("kept-storage").list();
await bucket.list();
await functions.invoke("kept-functions");
await table.select();
await query;
await client.storage.from("new-bucket").list();
const refreshed = client.storage.from("refreshed-bucket");
await client.auth.refreshSession();
await refreshed.list();
JAVASCRIPT

"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import base64
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

from supabase import create_client

requests = {}
tokens = []


def token(role, number=0):
    parts = {"alg": "HS256", "typ": "JWT"}, {"role": role, "sub": "ann", "exp": 2**31, "n": number}
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts]
    return b".".join([*encoded, b"c2lnbmF0dXJl"]).decode()


KEY = token("anon")


class Stub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = []
        if self.path.startswith("/auth/"):
            tokens.append(token("authenticated", len(tokens)))
            user = {"id": "ann", "aud": "authenticated", "created_at": "2026-01-01T00:00:00Z"}
            user |= {"app_metadata": {}, "user_metadata": {}}
            body = {"access_token": tokens[-1], "refresh_token": "r", "user": user}
            body |= {"token_type": "bearer", "expires_in": 3600}
        else:
            part = self.path.partition("?")[0].rpartition("/")[2]
            sent = self.headers["Authorization"].removeprefix("Bearer ")
            requests[part] = "anonymous" if sent == KEY else f"token {tokens.index(sent) + 1}"
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST

    def log_message(self, *_):
        pass


def by_python(url):
    client = create_client(url, KEY)
    storage, functions = client.storage, client.functions
    bucket = storage.from_("kept-bucket")
    table = client.table("kept-table")
    query = client.table("kept-query").select("*")
    client.auth.sign_in_with_password({"email": "ann@example.com", "password": "correct horse"})
    storage.from_("kept-storage").list()
    bucket.list()
    functions.invoke("kept-functions")
    table.select("*").execute()
    query.execute()
    client.storage.from_("new-bucket").list()
    refreshed = client.storage.from_("refreshed-bucket")
    client.auth.refresh_session()
    refreshed.list()


def by_javascript(url):
    subprocess.run(["node", f"{sys.argv[1]}/kept.mjs", url, KEY], check=True, timeout=60)


server = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
threading.Thread(target=server.serve_forever, daemon=True).start()
seen = {}
for client in (by_python, by_javascript):
    requests.clear()
    tokens.clear()
    client(f"http://127.0.0.1:{server.server_port}")
    seen[client] = dict(requests)
print("supabase", version("supabase"))
for part in seen[by_python]:
    print(f"{part:18} {seen[by_python][part]:12}", seen[by_javascript][part])
kept = ["kept-storage", "kept-bucket", "kept-functions", "kept-table", "kept-query"]
assert [seen[by_python][part] for part in kept] == ["anonymous"] * 5, "the token is asked for now"
assert [seen[by_javascript][part] for part in kept] == ["token 1"] * 5
assert seen[by_python]["new-bucket"] == seen[by_javascript]["new-bucket"] == "token 1"
assert seen[by_python]["refreshed-bucket"] == "token 1"
assert seen[by_javascript]["refreshed-bucket"] == "token 2"
PYTHON
