// Accounts: sign-up, sign-in, sessions, letters, a second factor, and the administrator's calls.
import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { client, inbox, ok, PASSWORD, refused, service, signedUp, url } from './project.mjs'

const EMAIL = 'ann@example.com'
const [ann, user] = await signedUp(EMAIL)
const admin = service().auth.admin

// Sessions
assert.equal((await refused(client().auth.signUp({ email: EMAIL, password: PASSWORD }))).code, 'user_already_exists')
assert.equal((await refused(client().auth.signUp({ email: 'b@example.com', password: 'x' }))).code, 'weak_password')
assert.equal((await refused(ann.auth.signInWithPassword({ email: EMAIL, password: 'no' }))).code, 'invalid_credentials')
assert.equal((await ok(ann.auth.signInWithPassword({ email: EMAIL, password: PASSWORD }))).user.id, user.id)
const before = (await ok(ann.auth.getSession())).session
const after = (await ok(ann.auth.refreshSession())).session
assert.notEqual(after.refresh_token, before.refresh_token)
assert.equal((await ok(ann.auth.getUser())).user.email, EMAIL)
assert.equal((await ok(ann.auth.getClaims())).claims.sub, user.id)
const same = client()
await ok(same.auth.setSession(after))
assert.equal((await ok(same.auth.getUser())).user.id, user.id)

// The user
const { user: named } = await ok(ann.auth.updateUser({ data: { name: 'Ann' } }))
assert.equal(named.user_metadata.name, 'Ann')
assert.equal((await refused(ann.auth.updateUser({ password: PASSWORD }))).code, 'same_password')
await ok(ann.auth.updateUser({ password: `${PASSWORD} staple` }))
const { identities } = await ok(ann.auth.getUserIdentities())
assert.equal(identities[0].provider, 'email')

// A second factor
const code = (secret) => {
  const key = Buffer.from([...secret].map((char) => 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'.indexOf(char)
    .toString(2).padStart(5, '0')).join('').match(/.{8}/g).map((bits) => parseInt(bits, 2)))
  const counter = Buffer.alloc(8)
  counter.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30000)))
  const digest = createHmac('sha1', key).update(counter).digest()
  const value = digest.readUInt32BE(digest[19] & 15) & 0x7fffffff
  return String(value % 1000000).padStart(6, '0')
}
const factor = await ok(ann.auth.mfa.enroll({ factorType: 'totp', friendlyName: 'phone' }))
assert.match(factor.totp.qr_code, /^data:image\/svg\+xml/)
assert.match(factor.totp.uri, /^otpauth:\/\/totp\//)
const challenge = await ok(ann.auth.mfa.challenge({ factorId: factor.id }))
const wrong = { factorId: factor.id, challengeId: challenge.id, code: '000000' }
assert.equal((await refused(ann.auth.mfa.verify(wrong))).code, 'mfa_verification_failed')
await ok(ann.auth.mfa.challengeAndVerify({ factorId: factor.id, code: code(factor.totp.secret) }))
const level = await ok(ann.auth.mfa.getAuthenticatorAssuranceLevel())
assert.deepEqual([level.currentLevel, level.nextLevel], ['aal2', 'aal2'])
assert.equal((await ok(ann.auth.mfa.listFactors())).totp[0].id, factor.id)
assert.equal((await ok(admin.mfa.listFactors({ userId: user.id }))).factors[0].id, factor.id)
await ok(ann.auth.mfa.unenroll({ factorId: factor.id }))

// Letters
const letter = async (subject) => (await inbox()).messages.find((each) => subject.test(each.subject))
await ok(client().auth.signInWithOtp({ email: 'otp@example.com' }))
const sent = await letter(/./)
const token = sent.text.match(/\b\d{6}\b/)[0]
const otp = client()
assert.equal((await refused(otp.auth.verifyOtp({ email: 'otp@example.com', token: '000000', type: 'email' }))).code, 'otp_expired')
assert.ok((await ok(otp.auth.verifyOtp({ email: 'otp@example.com', token, type: 'email' }))).session)
const link = await ok(admin.generateLink({ type: 'recovery', email: EMAIL }))
const reset = client()
const { session } = await ok(
  reset.auth.verifyOtp({ token_hash: link.properties.hashed_token, type: 'recovery' }),
)
assert.equal(session.user.id, user.id)
const followed = await fetch(
  (await ok(admin.generateLink({ type: 'magiclink', email: EMAIL }))).properties.action_link,
  { redirect: 'manual' },
)
assert.equal(followed.status, 303)
assert.match(followed.headers.get('location'), /#access_token=/)

// The administrator's calls
const { user: made } = await ok(
  admin.createUser({ email: 'c@example.com', password: PASSWORD, email_confirm: true, app_metadata: { role: 'editor' } }),
)
assert.equal((await ok(admin.getUserById(made.id))).user.app_metadata.role, 'editor')
const page = await admin.listUsers({ page: 1, perPage: 2 })
assert.equal(page.data.users.length, 2)
assert.ok(page.data.total >= 3)
const { user: changed } = await ok(admin.updateUserById(made.id, { user_metadata: { x: 1 }, ban_duration: '1h' }))
assert.equal(changed.user_metadata.x, 1)
assert.equal((await refused(client().auth.signInWithPassword({ email: 'c@example.com', password: PASSWORD }))).code, 'user_banned')
await ok(admin.updateUserById(made.id, { ban_duration: 'none' }))
await ok(admin.deleteUser(made.id))
assert.equal((await refused(admin.getUserById(made.id))).code, 'user_not_found')
assert.ok((await ok(admin.inviteUserByEmail('d@example.com'))).user.invited_at)
assert.equal((await refused(client().auth.admin.listUsers())).status, 403)

// Signing out
await ok(ann.auth.signOut({ scope: 'others' }))
assert.equal((await ok(ann.auth.getUser())).user.id, user.id)
await ok(ann.auth.signOut())
const settings = await (await fetch(`${url}/auth/v1/settings`)).json()
assert.equal(settings.external.email, true)
