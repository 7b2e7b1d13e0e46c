// Flows of accounts: PKCE, the events of a session, changes by letter, anonymous users, and what is
// not offered.
import assert from 'node:assert/strict'
import { client, inbox, ok, PASSWORD, refused, service, signedUp } from './project.mjs'

const admin = service().auth.admin
const letterTo = async (email) => (await inbox()).messages.find((each) => each.to[0] === email).text
const linkTo = async (email) => (await letterTo(email)).match(/http\S+/)[0]
const codeTo = async (email) => (await letterTo(email)).match(/\b\d{6}\b/)[0]
const sentOn = async (link) =>
  new URL((await fetch(link, { redirect: 'manual' })).headers.get('location'))

// A code for whoever began the flow
const pkce = client({ flowType: 'pkce' })
await ok(pkce.auth.signInWithOtp({ email: 'ann@example.com' }))
const code = (await sentOn(await linkTo('ann@example.com'))).searchParams.get('code')
const { user: ann } = await ok(pkce.auth.exchangeCodeForSession(code))
assert.equal(ann.email, 'ann@example.com')
const stranger = client({ flowType: 'pkce' })
await ok(stranger.auth.signInWithOtp({ email: 'ann@example.com' }))
assert.equal((await refused(stranger.auth.exchangeCodeForSession(code))).code, 'flow_state_not_found')
const foreign = (await sentOn(await linkTo('ann@example.com'))).searchParams.get('code')
await ok(pkce.auth.signInWithOtp({ email: 'bob@example.com' }))
assert.equal((await refused(pkce.auth.exchangeCodeForSession(foreign))).code, 'bad_code_verifier')
await ok(pkce.auth.resetPasswordForEmail('ann@example.com'))
const recovery = (await sentOn(await linkTo('ann@example.com'))).searchParams.get('code')
assert.equal((await ok(pkce.auth.exchangeCodeForSession(recovery))).redirectType, 'recovery')
const spent = (await sentOn(await linkTo('ann@example.com')))
assert.equal(spent.searchParams.get('error_code'), 'otp_expired')
assert.equal(new URLSearchParams(spent.hash.slice(1)).get('error_code'), 'otp_expired')

// What a page is told of its session
const events = []
const page = client()
page.auth.onAuthStateChange((event, session) => events.push([event, session?.user.email]))
await page.auth.getSession()
await ok(page.auth.signUp({ email: 'eve@example.com', password: PASSWORD }))
await ok(page.auth.updateUser({ data: { name: 'Eve', nothing: null } }))
const refreshed = (await ok(page.auth.refreshSession())).session
assert.equal(refreshed.user.user_metadata.name, 'Eve')
await ok(page.auth.signOut({ scope: 'local' }))
assert.deepEqual(events, [
  ['INITIAL_SESSION', undefined],
  ['SIGNED_IN', 'eve@example.com'],
  ['USER_UPDATED', 'eve@example.com'],
  ['TOKEN_REFRESHED', 'eve@example.com'],
  ['SIGNED_OUT', undefined],
])
assert.equal((await refused(page.auth.refreshSession(refreshed))).code, 'refresh_token_not_found')

// Changes by letter
await ok(page.auth.signInWithPassword({ email: 'eve@example.com', password: PASSWORD }))
await ok(page.auth.reauthenticate())
const nonce = await codeTo('eve@example.com')
await ok(page.auth.updateUser({ password: `${PASSWORD} staple`, nonce }))
const { user: changing } = await ok(page.auth.updateUser({ email: 'new@example.com' }))
assert.deepEqual([changing.email, changing.new_email], ['eve@example.com', 'new@example.com'])
await ok(page.auth.resend({ type: 'email_change', email: 'eve@example.com' }))
// Where addresses need no confirmation, one of the two emails is enough.
const first = await sentOn(await linkTo('eve@example.com'))
assert.match(first.hash, /type=email_change/)
const { user: changed } = await ok(page.auth.getUser())
assert.deepEqual([changed.email, changed.new_email], ['new@example.com', undefined])
assert.equal(changed.identities[0].identity_data.email, 'new@example.com')
assert.equal((await refused(page.auth.updateUser({ email: 'ann@example.com' }))).code, 'email_exists')
assert.equal((await refused(page.auth.updateUser({ email: 'nothing' }))).code, 'validation_failed')
const weak = await refused(page.auth.updateUser({ password: 'weak' }))
assert.deepEqual([weak.name, weak.reasons], ['AuthWeakPasswordError', ['length']])
const unknown = { email: 'nobody@example.com', options: { shouldCreateUser: false } }
assert.equal((await refused(page.auth.signInWithOtp(unknown))).code, 'otp_disabled')

// Anonymous users, and what becomes of them
const guest = client()
const { user: nobody } = await ok(guest.auth.signInAnonymously({ options: { data: { theme: 'dark' } } }))
assert.deepEqual([nobody.is_anonymous, nobody.identities], [true, []])
assert.equal((await ok(guest.auth.getClaims())).claims.is_anonymous, true)
const { user: somebody } = await ok(guest.auth.updateUser({ email: 'gus@example.com', password: PASSWORD }))
assert.deepEqual([somebody.id, somebody.is_anonymous], [nobody.id, false])
assert.equal(somebody.user_metadata.theme, 'dark')
await ok(client().auth.signInWithPassword({ email: 'gus@example.com', password: PASSWORD }))

// Sessions that an administrator ends
const [zoe] = await signedUp('zoe@example.com')
const { session } = await ok(zoe.auth.getSession())
await ok(admin.signOut(session.access_token, 'global'))
assert.equal((await refused(zoe.auth.getUser(session.access_token))).name, 'AuthSessionMissingError')
assert.equal((await refused(client().auth.setSession({ ...session, access_token: 'x.y.z' }))).name, 'AuthInvalidJwtError')

// What is not offered
const { identities } = await ok(guest.auth.getUserIdentities())
assert.equal((await refused(guest.auth.unlinkIdentity(identities[0]))).code, 'single_identity_not_deletable')
assert.equal((await refused(guest.auth.linkIdentity({ provider: 'github' }))).code, 'validation_failed')
assert.equal((await refused(client().auth.signInWithIdToken({ provider: 'google', token: 'x' }))).code, 'provider_disabled')
assert.equal((await refused(client().auth.signInWithSSO({ domain: 'example.com' }))).code, 'saml_provider_disabled')
const wallet = { chain: 'solana', message: 'x', signature: new Uint8Array(64) }
assert.equal((await refused(client().auth.signInWithWeb3(wallet))).code, 'web3_provider_disabled')
const { url } = await ok(client().auth.signInWithOAuth({ provider: 'github', options: { skipBrowserRedirect: true } }))
assert.equal((await fetch(url)).status, 400)
