#!/usr/bin/env bash
# What obstore lists of an S3 bucket that others have written to: objects under keys that cannot be
# read, and nothing at all where one key has an empty segment.
#
# Seen with obstore 0.12.1 against a stub of S3 that serves objects by their exact keys:
#     key in the bucket   list() says    get() of what list() says
#     notes/a.txt         notes/a.txt    its content
#     notes/archive/      notes/archive  FileNotFoundError
#     /top.txt            top.txt        FileNotFoundError
#     notes//b.txt        InvalidPathError for the whole listing; get() raises ValueError
# One would guess that what list() returns can be passed to get(), and that a strange key is at most
# skipped. The paths of object_store, the Rust library below, have no leading or trailing slash and
# no empty segment: list() strips the slashes from the keys it receives and get() sends what is left.
# S3 allows all of these keys: consoles create "folder/" for an empty folder, and a client that joins
# a prefix which begins or ends with a slash creates the others. So a copy of a bucket
# by list() and get() stops or drops objects, and a count of objects or bytes includes some that
# cannot be read.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check obstore==0.12.1

"$folder/venv/bin/python" - <<'PYTHON'
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from urllib.parse import parse_qs, unquote, urlsplit

from obstore.exceptions import InvalidPathError
from obstore.store import S3Store

objects = {}


class S3Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        url = urlsplit(self.path)
        key = unquote(url.path).removeprefix("/bucket").removeprefix("/")
        if not key and "list-type" in parse_qs(url.query):
            self.respond(200, self.listing())
        elif key in objects:
            self.respond(200, objects[key])
        else:
            self.respond(404, b"<Error><Code>NoSuchKey</Code></Error>")

    def listing(self):
        contents = "".join(
            f"<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f'<ETag>"1"</ETag><Size>{len(content)}</Size></Contents>'
            for key, content in sorted(objects.items())
        )
        return (
            "<ListBucketResult><Name>bucket</Name><IsTruncated>false</IsTruncated>"
            f"{contents}</ListBucketResult>"
        ).encode()

    def respond(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), S3Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
store = S3Store(
    "bucket",
    endpoint=f"http://127.0.0.1:{server.server_port}",
    region="us-east-1",
    access_key_id="key",
    secret_access_key="secret",
    client_options={"allow_http": True},
)


def listed():
    try:
        return [entry["path"] for batch in store.list() for entry in batch]
    except InvalidPathError:
        return "InvalidPathError"


def read(path):
    try:
        return bytes(store.get(path).bytes()).decode()
    except (FileNotFoundError, ValueError) as error:
        return type(error).__name__


print("obstore", version("obstore"))
seen = {}
for key in ("notes/a.txt", "notes/archive/", "/top.txt", "notes//b.txt"):
    objects.clear()
    objects[key] = b"content"
    paths = listed()
    path = paths[0] if isinstance(paths, list) else key
    seen[key] = (paths, read(path))
    print(f"{key:15} list() {paths!s:20} get({path!r}) {seen[key][1]}")
objects["notes/a.txt"] = b"content"
beside = listed()
print("notes/a.txt beside notes//b.txt: list()", beside)
server.shutdown()

assert seen["notes/a.txt"] == (["notes/a.txt"], "content")
assert seen["notes/archive/"] == (["notes/archive"], "FileNotFoundError"), "a slash at the end stays"
assert seen["/top.txt"] == (["top.txt"], "FileNotFoundError"), "a slash at the beginning stays"
assert seen["notes//b.txt"] == ("InvalidPathError", "ValueError"), "an empty segment is listed now"
assert beside == "InvalidPathError", "other keys are listed beside an empty segment now"
PYTHON
echo "as described"
