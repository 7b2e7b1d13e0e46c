// Channels: broadcasts as JSON and as bytes, presence, broadcasts over HTTP, and their ends.
import assert from 'node:assert/strict'
import { client, PASSWORD } from './project.mjs'

const subscribed = (channel) =>
  new Promise((resolve, reject) =>
    channel.subscribe((status, error) =>
      status === 'SUBSCRIBED' ? resolve(channel) : reject(error ?? new Error(status)),
    ),
  )
const received = (channel, type, filter) =>
  new Promise((resolve) => channel.on(type, filter, resolve))

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
process.exit(0)
