// A whole project: supabase-js, @supabase/ssr and tus-js-client.
import assert from 'node:assert/strict'
import { createServerClient } from '@supabase/ssr'
import * as tus from 'tus-js-client'
import { ok, url, client } from './project.mjs'

const EVA = { email: 'eva@example.com', password: 'correct horse battery' }
const titles = (rows) => rows.map((row) => row.title)

// supabase-js, as nobody and as a user of the seed
const anybody = client()
assert.deepEqual(titles(await ok(anybody.from('recipes').select('title').order('id'))), ['Rye bread', 'Plum cake'])
assert.deepEqual(await ok(anybody.schema('kitchen').from('tools').select().order('name')), [{ name: 'spoon' }, { name: 'whisk' }])
const picture = anybody.storage.from('pictures').getPublicUrl('rye.txt').data.publicUrl
assert.equal(await (await fetch(picture)).text(), 'A loaf of rye bread.\n')

const eva = client()
const { user, session } = await ok(eva.auth.signInWithPassword(EVA))
const claims = JSON.parse(atob(session.access_token.split('.')[1]))
assert.equal(claims.cook, 'eva')
const own = await ok(eva.from('recipes').select('title, cook:profiles(name)').eq('owner_id', user.id).order('id'))
assert.deepEqual(own, [
  { title: 'Rye bread', cook: { name: 'eva' } },
  { title: 'A secret soup', cook: { name: 'eva' } },
])
assert.deepEqual(titles(await ok(eva.rpc('similar_recipes', { taste: '[0,0.9,0.1]' }))), ['A secret soup'])

// @supabase/ssr: the session is in cookies, which the next request brings along
const cookies = new Map()
const server = () =>
  createServerClient(url, process.env.ANON_KEY, {
    cookies: {
      getAll: () => [...cookies].map(([name, value]) => ({ name, value })),
      setAll: (changed) => changed.forEach(({ name, value }) => cookies.set(name, value)),
    },
  })
await ok(server().auth.signInWithPassword(EVA))
assert.ok([...cookies.keys()].some((name) => name.includes('auth-token')))
const next = server()
assert.equal((await ok(next.auth.getUser())).user.email, EVA.email)
assert.equal((await ok(next.from('recipes').select('title'))).length, 3)

// tus-js-client: an upload in parts into the user's own folder
const content = Buffer.alloc(300_000, 'soup ')
const object = `${user.id}/soup.txt`
const upload = (name) =>
  new Promise((resolve, reject) =>
    new tus.Upload(content, {
      endpoint: `${url}/storage/v1/upload/resumable`,
      headers: { authorization: `Bearer ${session.access_token}`, 'x-upsert': 'true' },
      metadata: { bucketName: 'drafts', objectName: name, contentType: 'text/plain' },
      chunkSize: 128 * 1024,
      retryDelays: null,
      onError: reject,
      onSuccess: resolve,
    }).start(),
  )
await upload(object)
const stored = await ok(eva.storage.from('drafts').download(object))
assert.ok(content.equals(Buffer.from(await stored.arrayBuffer())))
await assert.rejects(upload('somebody/soup.txt'), /row-level security/)
