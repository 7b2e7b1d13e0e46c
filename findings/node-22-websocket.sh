#!/usr/bin/env bash
# What the WebSocket of Node.js 22 reports of a connection that is refused: an error, and never that it is
# closed. So a client of Supabase's Realtime that was started before its server waits for ever.
#
# Seen with Node.js 22.23.3 (undici 6.28.1) and 24.19.0 (undici 7.29.0), @supabase/realtime-js 2.119.1 and
# ws 8.23.0, a port on which nothing listens for the first second:
#                                     22, its own        22 with ws         24, its own
#     events of a WebSocket           error              error, close       error, close
#     its readyState afterwards       0 (CONNECTING)     3 (CLOSED)         3 (CLOSED)
#     attempts of realtime-js once    none               one each 0.2 s     one each 0.2 s
#     somebody listens
#     connectionState()               connecting         by turns           by turns
# One would guess that a version with long-term support, whose WebSocket is no experiment any more, does
# what the WebSockets Standard says: a connection that fails fires error and close. realtime-js goes on
# from the close, as every client does that opens a connection again, and takes the WebSocket of Node
# from version 22 on by itself. Its channel gets CHANNEL_ERROR once, which looks like one that is being
# tried again. Pass { realtime: { transport: ws } } there, or run Node.js 24.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
npm install --silent --no-audit --no-fund --prefix "$folder" @supabase/realtime-js@2.119.1 ws@8.23.0
for version in 22.23.3 24.19.0; do
    npm install --silent --no-audit --no-fund --prefix "$folder/$version" "node@$version"
done

cat >"$folder/refused.mjs" <<'JAVASCRIPT'
import assert from 'node:assert/strict'
import { createServer } from 'node:net'
import { RealtimeClient } from '@supabase/realtime-js'
import ws from 'ws'

const [, , kind, events, attempted] = process.argv
const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds))
const listen = (port) =>
  new Promise((resolve) => {
    const server = createServer()
    server.listen(port, '127.0.0.1', () => resolve(server))
  })
const first = await listen(0)
const { port } = first.address()
await new Promise((resolve) => first.close(resolve))

const transport = kind === 'ws' ? ws : WebSocket
const seen = []
const socket = new transport(`ws://127.0.0.1:${port}`)
for (const name of ['open', 'error', 'close']) socket.addEventListener(name, () => seen.push(name))

const options = { params: { apikey: 'key' }, reconnectAfterMs: () => 200 }
if (kind === 'ws') options.transport = ws
const client = new RealtimeClient(`ws://127.0.0.1:${port}/realtime/v1`, options)
client.channel('room').subscribe()
await wait(1000)
let attempts = 0
const second = await listen(port)
second.on('connection', (connection) => {
  attempts += 1
  connection.destroy()
})
await wait(3000)
console.log(process.version, kind, seen, socket.readyState, attempts, client.connectionState())
assert.equal(seen.join(), events)
assert.equal(attempts > 0, attempted === 'true')
if (attempts === 0) assert.equal(client.connectionState(), 'connecting')
process.exit()
JAVASCRIPT

node() { "$folder/$1/node_modules/node/bin/node" "$folder/refused.mjs" "${@:2}"; }
node 22.23.3 own error false
node 22.23.3 ws error,close true
node 24.19.0 own error,close true
echo "as described"
