#!/usr/bin/env bash
# What tuspy takes for the same upload: every file of the same length whose first 64 KiB are the
# same, whatever its name, its metadata and the rest of it.
#
# Seen with tuspy 1.1.0 against a small tus server that keeps what it receives, store_url=True:
#     january.bin   POST, PATCH
#     february.bin  HEAD only, upload() returns as for a success, its URL is january's
#     copy.bin      (january's bytes, another objectName) HEAD only, january's URL
#     the server has one upload, january's, and never saw the names of the other two
# One would guess that a stored URL serves to resume what was interrupted, and that a file is known
# by all of it or by its path, size and time, as tus-js-client does for files. tuspy's fingerprint is
# the size and the MD5 of the first 65,536 bytes (tusclient/fingerprint/fingerprint.py), neither the
# endpoint nor the metadata is part of it, and the URL stays in the storage after the upload is
# complete. The server reports the full offset, so nothing is left to send. Files with a fixed size
# and a fixed head are common: images of disks and cards, preallocated databases, recordings. Pass a
# fingerprinter to uploader(), or remove the item from the storage after each upload.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check tuspy==1.1.0

"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import base64
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path

from tusclient.client import TusClient
from tusclient.storage.filestorage import FileStorage

folder = Path(sys.argv[1])
uploads = []
requests = []


class TusHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def upload(self):
        return uploads[int(self.path.rpartition("/")[2])]

    def respond(self, status, **headers):
        requests.append(self.command)
        self.send_response(status)
        self.send_header("Tus-Resumable", "1.0.0")
        self.send_header("Content-Length", "0")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def do_POST(self):
        _, encoded_name = self.headers["Upload-Metadata"].split(" ")
        uploads.append({"name": base64.b64decode(encoded_name).decode(), "content": b""})
        self.respond(201, Location=f"/uploads/{len(uploads) - 1}")

    def do_HEAD(self):
        self.respond(200, Upload_Offset=len(self.upload()["content"]))

    def do_PATCH(self):
        self.upload()["content"] += self.rfile.read(int(self.headers["Content-Length"]))
        self.respond(204, Upload_Offset=len(self.upload()["content"]))

    def log_message(self, *arguments):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), TusHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = TusClient(f"http://127.0.0.1:{server.server_port}/uploads")
url_storage = FileStorage(str(folder / "urls.json"))

head = bytes(64 * 1024)
files = {
    "january.bin": head + b"January's readings ",
    "february.bin": head + b"February's readings",
    "copy.bin": head + b"January's readings ",
    "longer.bin": head + b"January's readings, and one more",
}
print("tuspy", version("tuspy"))
seen = {}
for name, content in files.items():
    path = folder / name
    path.write_bytes(content)
    requests.clear()
    uploader = client.uploader(
        str(path), store_url=True, url_storage=url_storage, metadata={"objectName": name}
    )
    uploader.upload()
    assert uploader.offset == len(content), "upload() no longer reports a complete upload"
    seen[name] = list(requests)
    print(f"{name:13} {' '.join(requests):11} {uploader.url.rpartition('/')[2]}")
server.shutdown()

stored = {upload["name"]: upload["content"] for upload in uploads}
print("stored:", {name: content[len(head) :] for name, content in stored.items()})
assert seen["january.bin"] == ["POST", "PATCH"]
assert seen["february.bin"] == ["HEAD"], "another file of this size and head is uploaded now"
assert seen["copy.bin"] == ["HEAD"], "a copy with other metadata is uploaded now"
assert seen["longer.bin"] == ["POST", "PATCH"]
assert stored == {name: files[name] for name in ("january.bin", "longer.bin")}
PYTHON
echo "as described"
