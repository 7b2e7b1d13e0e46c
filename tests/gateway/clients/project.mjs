// The clients of one project, and what all walks need.
import assert from 'node:assert/strict'
import { createClient } from '@supabase/supabase-js'

const { SUPABASE_URL, ANON_KEY, PUBLISHABLE_KEY, SERVICE_ROLE_KEY } = process.env

const options = { auth: { persistSession: false, autoRefreshToken: false } }

export const url = SUPABASE_URL
export const client = (auth = {}, others = {}) =>
  createClient(SUPABASE_URL, ANON_KEY, { ...others, auth: { ...options.auth, ...auth } })
export const publishable = () => createClient(SUPABASE_URL, PUBLISHABLE_KEY, options)
export const service = () => createClient(SUPABASE_URL, SERVICE_ROLE_KEY, options)

// What a call gave; it must not have failed.
export const ok = async (call) => {
  const { data, error } = await call
  assert.equal(error, null, JSON.stringify(error))
  return data
}

// The error of a call, which must have failed.
export const refused = async (call) => {
  const { error } = await call
  assert.ok(error, 'it was not refused')
  return error
}

export const PASSWORD = 'correct horse battery'

export const signedUp = async (email, make = client) => {
  const made = make()
  const { user, session } = await ok(made.auth.signUp({ email, password: PASSWORD }))
  assert.ok(session.access_token)
  return [made, user]
}

export const inbox = async () => (await fetch(`${url}/inbox/api/messages`)).json()
