// Channels: broadcasts as JSON and as bytes, presence, broadcasts over HTTP, their ends, and a chat
// in a private channel with the rows that policies show.
import assert from 'node:assert/strict'
import { client, ok, PASSWORD, signedUp } from './project.mjs'

const sockets = []
globalThis.WebSocket = class extends WebSocket {
  constructor(...values) {
    super(...values)
    sockets.push(this)
  }
}
const subscribed = (channel) =>
  new Promise((resolve, reject) =>
    channel.subscribe((status, error) =>
      status === 'SUBSCRIBED' ? resolve(channel) : reject(error ?? new Error(status)),
    ),
  )
const received = (channel, type, filter) =>
  new Promise((resolve) => channel.on(type, filter, resolve))
const until = async (isReached) => {
  while (!isReached()) await new Promise((resolve) => setTimeout(resolve, 20))
}

for (const vsn of ['1.0.0', '2.0.0']) {
  const [ann, bob] = [0, 0].map(() => client({}, { realtime: { vsn } }))
  const theirs = bob.channel('room', { config: { presence: { key: 'bob' } } })
  const said = received(theirs, 'broadcast', { event: 'said' })
  const joined = new Promise((resolve) =>
    theirs.on('presence', { event: 'join' }, ({ key, newPresences }) =>
      key === 'ann' && resolve(newPresences[0].mood),
    ),
  )
  const left = received(theirs, 'presence', { event: 'leave' })
  await subscribed(theirs)
  const mine = ann.channel('room', {
    config: { broadcast: { ack: true, self: true }, presence: { key: 'ann' } },
  })
  const own = received(mine, 'broadcast', { event: 'said' })
  const synced = received(mine, 'presence', { event: 'sync' })
  await subscribed(mine)
  const sent = { type: 'broadcast', event: 'said', payload: { text: 'hello' } }
  assert.equal(await mine.send(sent), 'ok')
  assert.deepEqual((await said).payload, { text: 'hello' })
  assert.deepEqual((await own).payload, { text: 'hello' })
  assert.equal(await mine.track({ mood: 'calm' }), 'ok')
  assert.equal(await joined, 'calm')
  await synced
  await until(() => mine.presenceState().ann)
  assert.equal(mine.presenceState().ann[0].mood, 'calm')
  assert.equal(await mine.untrack(), 'ok')
  assert.equal((await left).key, 'ann')

  const over = received(theirs, 'broadcast', { event: 'over http' })
  const single = received(theirs, 'broadcast', { event: 'alone' })
  const outside = client().channel('room')
  assert.deepEqual(await outside.httpSend('alone', { n: 1 }), { success: true })
  assert.deepEqual((await single).payload, { n: 1 })
  assert.equal(await outside.send({ ...sent, event: 'over http' }), 'ok')
  assert.deepEqual((await over).payload, { text: 'hello' })

  if (vsn === '2.0.0') {
    const bytes = received(theirs, 'broadcast', { event: 'bytes' })
    await mine.send({ type: 'broadcast', event: 'bytes', payload: new Uint8Array([0, 255]).buffer })
    assert.deepEqual([...new Uint8Array((await bytes).payload)], [0, 255])
  }

  // A sign-in sends its token to the channels, which go on
  const { error } = await ann.auth.signUp({ email: `ann.${vsn}@example.com`, password: PASSWORD })
  assert.equal(error, null)
  assert.equal(await mine.send(sent), 'ok')
  assert.equal(await ann.removeChannel(mine), 'ok')
  assert.deepEqual(await bob.removeAllChannels(), ['ok'])
  assert.deepEqual(ann.getChannels(), [])
}

// A chat
const [[ann], [bob, { id }]] = [
  await signedUp('chat.ann@example.com'),
  await signedUp('chat.bob@example.com'),
]
const anonymous = client().channel('chat:1', { config: { private: true } })
await assert.rejects(subscribed(anonymous), /do not have permissions to read from this Channel/)
const room = bob.channel('chat:1', { config: { private: true, presence: { key: id } } })
const events = []
const stars = (filter) => ({ event: '*', schema: 'public', table: 'notes', ...filter })
room.on('postgres_changes', stars({}), ({ eventType, new: row }) => events.push([eventType, row.title]))
const many = received(room, 'postgres_changes', stars({ filter: 'stars=gt.4' }))
const deleted = received(room, 'postgres_changes', { ...stars({}), event: 'DELETE' })
const joined = received(room, 'presence', { event: 'join' })
const said = received(room, 'broadcast', { event: 'said' })
await subscribed(room)
await ok(ann.from('notes').insert({ title: 'of ann' }))
await ok(bob.from('notes').insert({ title: 'few' }))
const note = await ok(bob.from('notes').insert({ title: 'many', stars: 5 }).select().single())
const { new: row, schema, table, errors } = await many
assert.deepEqual(row, note)
assert.deepEqual([schema, table, errors], ['public', 'notes', null])
await ok(bob.from('notes').delete().eq('id', note.id))
assert.deepEqual((await deleted).old, { id: note.id })
assert.deepEqual(events, [['INSERT', 'few'], ['INSERT', 'many'], ['DELETE', undefined]])
assert.equal(await room.track({ typing: true }), 'ok')
assert.equal((await joined).key, id)
const theirs = ann.channel('chat:1', { config: { private: true, broadcast: { ack: true } } })
await subscribed(theirs)
assert.equal(await theirs.send({ type: 'broadcast', event: 'said', payload: { n: 1 } }), 'ok')
assert.deepEqual((await said).payload, { n: 1 })

// A token that is refreshed in the middle, and a connection that is lost
const titles = () => events.map(([, title]) => title)
await ok(bob.auth.refreshSession())
await ok(bob.from('notes').insert({ title: 'after the refresh' }))
await until(() => titles().includes('after the refresh'))
for (const socket of sockets) socket.close(3000, 'lost')
await until(() => room.state !== 'joined')
await until(() => room.state === 'joined')
await ok(bob.from('notes').insert({ title: 'after the loss' }))
await until(() => titles().includes('after the loss'))

// What a trigger sends, and has sent
const log = (config) => bob.channel('chat:log', { config: { private: true, ...config } })
const live = log({})
const sent = received(live, 'broadcast', { event: 'INSERT' })
await subscribed(live)
await ok(bob.from('notes').insert({ title: 'logged' }))
assert.equal((await sent).payload.record.title, 'logged')
assert.equal(await bob.removeChannel(live), 'ok')
const late = log({ broadcast: { replay: { since: Date.now() - 60_000, limit: 2 } } })
const replayed = []
late.on('broadcast', { event: '*' }, ({ payload, meta }) =>
  replayed.push([payload.record.title, meta.replayed]),
)
await subscribed(late)
await until(() => replayed.length === 2)
assert.deepEqual(replayed, [['after the loss', true], ['logged', true]])
process.exit(0)
