// Rows: every method of the builder, and two users who see nothing of each other.
import assert from 'node:assert/strict'
import { client, ok, publishable, refused, service, signedUp } from './project.mjs'

const [ann, annUser] = await signedUp('ann@example.com')
const [bob] = await signedUp('bob@example.com', publishable)
const notes = (who) => who.from('notes')

// Writing
const [first] = await ok(notes(ann).insert({ title: 'one', stars: 1 }).select())
assert.equal(first.owner, annUser.id)
assert.equal(await ok(notes(ann).insert({ title: 'silent' })), null)
const many = await ok(
  notes(ann).insert([{ title: 'two', stars: 2 }, { title: 'three', stars: 3 }]).select('id, title'),
)
assert.deepEqual(many.map((each) => each.title), ['two', 'three'])
const kept = await ok(
  notes(ann).upsert({ id: first.id, title: 'uno', stars: 1 }).select('title').single(),
)
assert.deepEqual(kept, { title: 'uno' })
await ok(notes(ann).upsert({ id: first.id, title: 'no' }, { ignoreDuplicates: true }))
await ok(ann.from('labels').insert([{ note_id: first.id, name: 'red' }, { note_id: first.id, name: 'blue' }]))
const changed = await ok(notes(ann).update({ stars: 9 }).eq('title', 'silent').select('stars'))
assert.deepEqual(changed, [{ stars: 9 }])
const gone = await ok(notes(ann).delete().eq('title', 'silent').select('title'))
assert.deepEqual(gone, [{ title: 'silent' }])

// Reading
const titles = async (build) => (await ok(build(notes(ann).select('title')).order('id'))).map((each) => each.title)
const all = ['uno', 'two', 'three']
for (const [build, expected] of [
  [(q) => q, all],
  [(q) => q.eq('stars', 1), ['uno']],
  [(q) => q.neq('stars', 1), ['two', 'three']],
  [(q) => q.gt('stars', 1), ['two', 'three']],
  [(q) => q.gte('stars', 2), ['two', 'three']],
  [(q) => q.lt('stars', 2), ['uno']],
  [(q) => q.lte('stars', 1), ['uno']],
  [(q) => q.like('title', 't%'), ['two', 'three']],
  [(q) => q.ilike('title', 'T%'), ['two', 'three']],
  [(q) => q.likeAllOf('title', ['t%', '%o']), ['two']],
  [(q) => q.likeAnyOf('title', ['u%', '%ee']), ['uno', 'three']],
  [(q) => q.ilikeAnyOf('title', ['U%']), ['uno']],
  [(q) => q.ilikeAllOf('title', ['T%', '%O']), ['two']],
  [(q) => q.regexMatch('title', '^t'), ['two', 'three']],
  [(q) => q.regexIMatch('title', '^T.O$'), ['two']],
  [(q) => q.isDistinct('stars', 1), ['two', 'three']],
  [(q) => q.notIn('title', ['uno', 'two']), ['three']],
  [(q) => q.not('body', 'is', null), []],
  [(q) => q.is('body', null), all],
  [(q) => q.in('title', ['uno', 'a,b', 'x"y(']), ['uno']],
  [(q) => q.contains('tags', []), all],
  [(q) => q.containedBy('tags', ['x']), all],
  [(q) => q.overlaps('tags', ['x']), []],
  [(q) => q.contains('meta', {}), all],
  [(q) => q.rangeGt('span', '[0,1)'), all],
  [(q) => q.rangeGte('span', '[1,2)'), all],
  [(q) => q.rangeLt('span', '[90,99)'), all],
  [(q) => q.rangeLte('span', '[90,99)'), all],
  [(q) => q.rangeAdjacent('span', '[5,6)'), all],
  [(q) => q.textSearch('title', 'uno'), ['uno']],
  [(q) => q.textSearch('title', 'two', { type: 'websearch', config: 'english' }), ['two']],
  [(q) => q.textSearch('title', 'three', { type: 'plain', config: 'english' }), ['three']],
  [(q) => q.match({ stars: 1, title: 'uno' }), ['uno']],
  [(q) => q.not('stars', 'eq', 1), ['two', 'three']],
  [(q) => q.or('stars.eq.1,and(stars.gt.2,title.neq.uno)'), ['uno', 'three']],
  [(q) => q.filter('stars', 'in', '(1,3)'), ['uno', 'three']],
  [(q) => q.limit(1), ['uno']],
  [(q) => q.range(1, 2), ['two', 'three']],
]) {
  assert.deepEqual(await titles(build), expected, build.toString())
}
const embedded = await ok(
  notes(ann).select('title, labels(name)').eq('labels.name', 'red').order('id').limit(1).single(),
)
assert.deepEqual(embedded, { title: 'uno', labels: [{ name: 'red' }] })
const inner = await ok(notes(ann).select('title, labels!inner(name)').order('name', { referencedTable: 'labels' }))
assert.deepEqual(inner, [{ title: 'uno', labels: [{ name: 'blue' }, { name: 'red' }] }])
assert.deepEqual(await ok(notes(ann).select('title, labels(count)').eq('id', first.id)), [
  { title: 'uno', labels: [{ count: 2 }] },
])
const either = await ok(
  notes(ann).select('title, labels(name)').or('name.eq.red,name.eq.none', { referencedTable: 'labels' }).limit(1).order('id'),
)
assert.deepEqual(either, [{ title: 'uno', labels: [{ name: 'red' }] }])
const spread = await ok(ann.from('labels').select('name, ...notes(note:title)').order('name', { ascending: false }).limit(1))
assert.deepEqual(spread, [{ name: 'red', note: 'uno' }])
const part = await ok(notes(ann).select('title, labels(name)').order('id')
  .order('name', { referencedTable: 'labels' }).range(1, 1, { referencedTable: 'labels' }).limit(1))
assert.deepEqual(part, [{ title: 'uno', labels: [{ name: 'red' }] }])
assert.deepEqual(await ok(notes(ann).select('title, labels()').is('labels', null).order('id')), [{ title: 'two' }, { title: 'three' }])
assert.deepEqual(await ok(notes(ann).select('one:title, text:stars::text, key:meta->a->>b').eq('id', first.id)), [
  { one: 'uno', text: '1', key: null },
])
assert.deepEqual(await ok(notes(ann).select('title, body').eq('id', first.id).stripNulls().single()), { title: 'uno' })
const atMost = notes(ann).update({ stars: 5 }).gt('id', 0).maxAffected(1).select()
assert.equal((await refused(atMost)).code, 'PGRST124')
const doubled = await notes(ann).update({ body: null }, { count: 'exact' }).gt('id', 0)
assert.deepEqual([doubled.error, doubled.status, doubled.count], [null, 204, 3])
const defaults = await ok(notes(ann).insert([{ title: 'four', stars: 4 }, { title: 'five' }], { defaultToNull: false }).select('stars'))
assert.deepEqual(defaults, [{ stars: 4 }, { stars: 0 }])
await ok(notes(ann).delete().in('title', ['four', 'five']))
const { count } = await notes(ann).select('*', { count: 'exact', head: true })
assert.equal(count, 3)
assert.equal(await ok(notes(ann).select().eq('title', 'none').maybeSingle()), null)
assert.equal((await refused(notes(ann).select().single())).code, 'PGRST116')
assert.match(await ok(notes(ann).select('title').order('id').csv()), /^title\nuno\ntwo\nthree$/)

// Functions
assert.equal(await ok(ann.rpc('add', { a: 1, b: 2 })), 3)
assert.equal(await ok(ann.rpc('add', { a: 1, b: 2 }, { get: true })), 3)
const mine = await ok(ann.rpc('my_notes').select('title').order('id').limit(1))
assert.deepEqual(mine, [{ title: 'uno' }])
assert.equal((await refused(ann.rpc('nope'))).code, 'PGRST202')

// What is refused
assert.equal((await refused(ann.from('nope').select())).code, 'PGRST205')
assert.equal((await refused(notes(ann).select('nope'))).code, '42703')
assert.equal((await refused(notes(ann).insert({ id: first.id, title: 'again' }))).code, '23505')
assert.equal((await refused(ann.schema('hidden').from('x').select())).code, 'PGRST106')

// Who sees what
assert.deepEqual(await ok(notes(bob).select()), [])
assert.deepEqual(await ok(notes(client()).select()), [])
assert.deepEqual(await ok(notes(bob).update({ title: 'stolen' }).eq('id', first.id).select()), [])
assert.deepEqual(await ok(notes(bob).delete().eq('id', first.id).select()), [])
assert.equal((await refused(notes(bob).insert({ title: 'x', owner: annUser.id }))).code, '42501')
assert.equal((await ok(notes(service()).select())).length, 3)
