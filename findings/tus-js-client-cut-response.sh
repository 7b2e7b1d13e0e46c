#!/usr/bin/env bash
# What tus-js-client does in Node when a response is cut after its head: neither onSuccess nor onError
# is called, nothing is tried again, and where nothing else is under way the process exits with 0.
#
# Seen with tus-js-client 4.3.1 on Node 24: a server responds to PATCH with 423, a
# Content-Length of 12 and no body, and closes the connection.
# One would guess that a connection lost at this place is an error like any other, to be retried by
# retryDelays. The promise of a request (lib.esm/node/httpStack.js) is settled by `end` of the
# response or `error` of the request; after the head, Node reports a lost connection by `aborted` and
# `error` of the response, which nobody listens to. So an exit status of 0 says nothing: record
# onSuccess, and set a timeout of your own. (A proxy that dies in the middle of a response is enough.)
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund tus-js-client@4.3.1 >/dev/null
cat >upload.mjs <<'NODE'
import { createServer } from "node:http";
import { Upload } from "tus-js-client";

const server = createServer((request, response) => {
  response.setHeader("Tus-Resumable", "1.0.0");
  if (request.method === "POST") {
    response.setHeader("Location", "/uploads/1");
    response.writeHead(201).end();
  } else {
    response.setHeader("Content-Length", "12");
    response.writeHead(423).flushHeaders();
    setTimeout(() => request.socket.destroy(), 100);
  }
});
server.listen(0, "127.0.0.1", () => {
  server.unref();
  new Upload(Buffer.alloc(1000), {
    endpoint: `http://127.0.0.1:${server.address().port}/uploads`,
    retryDelays: [0, 0],
    onSuccess: () => console.log("success"),
    onError: (error) => console.log("error", String(error)),
  }).start();
});
NODE
output=$(node upload.mjs)
status=$?
echo "status: $status, output: '$output'"
[ "$status" = 0 ] && [ -z "$output" ] || { echo "a cut response is reported now"; exit 1; }
echo "as described"
