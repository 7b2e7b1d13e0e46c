// Buckets and files, as two users, anybody, and the service.
import assert from 'node:assert/strict'
import { client, ok, refused, service, signedUp, url } from './project.mjs'

const admin = service()
const [ann, user] = await signedUp('ann@files.example')
const [bob] = await signedUp('bob@files.example')
const fetched = async (address) => {
  const answer = await fetch(address)
  return [answer.status, await answer.text()]
}

// Buckets.
assert.deepEqual(await ok(admin.storage.createBucket('mine')), { name: 'mine' })
await ok(admin.storage.createBucket('open', {
  public: true,
  fileSizeLimit: '1KB',
  allowedMimeTypes: ['image/*', 'text/plain'],
}))
const taken = await refused(admin.storage.createBucket('mine'))
assert.deepEqual([taken.message, taken.statusCode], ['The resource already exists', '409'])
const open = await ok(admin.storage.getBucket('open'))
assert.deepEqual([open.id, open.public, open.file_size_limit], ['open', true, 1000])
await ok(admin.storage.updateBucket('open', { public: true, fileSizeLimit: 2000 }))
assert.equal((await ok(admin.storage.getBucket('open'))).file_size_limit, 2000)
assert.deepEqual((await ok(admin.storage.listBuckets())).map((each) => each.id).sort(), ['mine', 'open'])
assert.deepEqual((await ok(admin.storage.listBuckets({ search: 'op', limit: 5 }))).map((each) => each.id), ['open'])
assert.deepEqual(await ok(ann.storage.listBuckets()), [])
assert.equal((await refused(ann.storage.createBucket('x'))).message, 'new row violates row-level security policy')
assert.equal((await refused(admin.storage.getBucket('nope'))).message, 'Bucket not found')

// Uploads of all kinds.
const mine = ann.storage.from('mine')
const folder = user.id
const path = `${folder}/a b+c.txt`
const sent = await ok(mine.upload(path, 'as text', {
  contentType: 'text/x',
  cacheControl: '60',
  metadata: { by: 'Ann' },
}))
assert.deepEqual([sent.path, sent.fullPath], [path, `mine/${path}`])
await ok(mine.upload(`${folder}/blob`, new Blob(['as blob'], { type: 'text/y' }), { metadata: { by: 'Ann' } }))
await ok(mine.upload(`${folder}/file`, new File(['as file'], 'file.txt', { type: 'text/z' })))
await ok(mine.upload(`${folder}/buffer`, Buffer.from('as buffer')))
const form = new FormData()
form.append('', new Blob(['as form'], { type: 'text/f' }))
await ok(mine.upload(`${folder}/form`, form))
const twice = await refused(mine.upload(path, 'again'))
assert.deepEqual([twice.message, twice.statusCode], ['The resource already exists', '409'])
const info = await ok(mine.info(path))
assert.equal(info.id, sent.id)
assert.deepEqual([info.size, info.contentType, info.cacheControl], [7, 'text/x', 'max-age=60'])
assert.deepEqual(info.metadata, { by: 'Ann' })
assert.deepEqual((await ok(mine.info(`${folder}/blob`))).metadata, { by: 'Ann' })
assert.equal((await ok(mine.info(`${folder}/blob`))).contentType, 'text/y')
assert.equal((await ok(mine.info(`${folder}/form`))).contentType, 'text/f')
for (const [name, text] of [['a b+c.txt', 'as text'], ['blob', 'as blob'], ['file', 'as file'], ['buffer', 'as buffer'], ['form', 'as form']]) {
  assert.equal(await (await ok(mine.download(`${folder}/${name}`))).text(), text)
}
await ok(mine.update(path, 'updated'))
await ok(mine.upload(path, 'replaced', { upsert: true }))
assert.equal(await (await ok(mine.download(path))).text(), 'replaced')
assert.equal(await ok(mine.exists(path)), true)
assert.equal((await mine.exists(`${folder}/nope`)).data, false)

// Limits.
const small = admin.storage.from('open')
const large = await refused(small.upload('large.txt', 'x'.repeat(3000), { contentType: 'text/plain' }))
assert.deepEqual([large.message, large.statusCode], ['The object exceeded the maximum allowed size', '413'])
const wrong = await refused(small.upload('a.json', '{}', { contentType: 'application/json' }))
assert.deepEqual([wrong.message, wrong.statusCode], ['mime type application/json is not supported', '415'])
assert.equal((await refused(small.upload('ä', 'x', { contentType: 'text/plain' }))).message, 'Invalid key: ä')

// Lists.
await ok(mine.upload(`${folder}/deep/er/x`, 'x'))
const listed = await ok(mine.list(folder, { limit: 4, sortBy: { column: 'name', order: 'asc' } }))
assert.deepEqual(listed.map((each) => each.name), ['a b+c.txt', 'blob', 'buffer', 'deep'])
assert.deepEqual(listed.map((each) => each.id === null), [false, false, false, true])
assert.deepEqual((await ok(mine.list(folder, { search: 'bl' }))).map((each) => each.name), ['blob'])
let page = await ok(mine.listV2({ prefix: `${folder}/`, with_delimiter: true, limit: 4 }))
assert.equal(page.hasNext, true)
page = await ok(mine.listV2({ prefix: `${folder}/`, with_delimiter: true, cursor: page.nextCursor }))
assert.deepEqual([page.hasNext, page.objects.length], [false, 2])

// What a client may send, and bytes that do not come at once.
await ok(mine.upload(`${folder}/bytes`, new TextEncoder().encode('as bytes').buffer))
const stream = new ReadableStream({ start: (each) => { each.enqueue(new TextEncoder().encode('as stream')); each.close() } })
await ok(mine.upload(`${folder}/stream`, stream, { duplex: 'half' }))
for (const [name, text] of [['bytes', 'as bytes'], ['stream', 'as stream']]) {
  const streamed = await mine.download(`${folder}/${name}`).asStream()
  assert.equal(await new Response(streamed.data).text(), text)
}
await ok(mine.remove([`${folder}/bytes`, `${folder}/stream`]))
assert.match((await refused(mine.copy(path, `${path}2`, { sourceVersionId: 'x' }))).message, /one version of each object/)

// Another user, and nobody.
for (const stranger of [bob, client()]) {
  const theirs = stranger.storage.from('mine')
  assert.ok(await refused(theirs.download(path)))
  assert.equal((await refused(theirs.upload(path, 'x', { upsert: true }))).message, 'new row violates row-level security policy')
  assert.equal((await refused(theirs.createSignedUrl(path, 60))).message, 'Object not found')
  assert.equal((await refused(theirs.move(path, 'x'))).message, 'Object not found')
  assert.deepEqual(await ok(theirs.list(folder)), [])
  assert.deepEqual(await ok(theirs.remove([path])), [])
  assert.equal((await theirs.exists(path)).data, false)
}

// URLs.
const signed = await ok(mine.createSignedUrl(path, 60, { download: 'saved.txt' }))
assert.deepEqual(await fetched(signed.signedUrl), [200, 'replaced'])
assert.match((await fetch(signed.signedUrl)).headers.get('content-disposition'), /filename=saved.txt/)
const [one, none] = await ok(mine.createSignedUrls([path, 'nope'], 60))
assert.deepEqual(await fetched(one.signedUrl), [200, 'replaced'])
assert.deepEqual([none.path, none.error !== null], ['nope', true])
const upload = await ok(mine.createSignedUploadUrl(`${folder}/signed`))
const put = await ok(client().storage.from('mine').uploadToSignedUrl(upload.path, upload.token, 'signed'))
assert.equal(put.fullPath, `mine/${folder}/signed`)
assert.equal(await (await ok(mine.download(`${folder}/signed`))).text(), 'signed')
await ok(small.upload('in/x y.txt', 'public', { contentType: 'text/plain' }))
const { data } = client().storage.from('open').getPublicUrl('in/x y.txt')
assert.ok(data.publicUrl.startsWith(`${url}/storage/v1/object/public/open/`))
assert.deepEqual(await fetched(data.publicUrl), [200, 'public'])

// Move, copy, delete.
assert.equal((await ok(mine.move(`${folder}/blob`, `${folder}/moved`))).message, 'Successfully moved')
assert.equal((await ok(mine.copy(`${folder}/moved`, `${folder}/copied`))).path, `mine/${folder}/copied`)
await ok(admin.storage.from('mine').copy(`${folder}/deep/er/x`, 'elsewhere', { destinationBucket: 'mine' }))
assert.equal((await refused(mine.copy(`${folder}/moved`, 'not/mine'))).message, 'new row violates row-level security policy')
const removed = await ok(mine.remove([`${folder}/moved`, `${folder}/copied`, 'nope']))
assert.equal(removed.length, 2)
assert.equal((await refused(admin.storage.deleteBucket('mine'))).message, 'The bucket you tried to delete is not empty')
for (const bucket of ['mine', 'open']) {
  await ok(admin.storage.emptyBucket(bucket))
  assert.equal((await ok(admin.storage.deleteBucket(bucket))).message, 'Successfully deleted')
}
