#!/usr/bin/env bash
# What a sign-in does to a password hash that is stronger than the default: pwdlib and argon2-cffi
# report that it needs a new hash, and the new one is weaker.
#
# Seen with pwdlib 0.3.1, argon2-cffi 25.1.0, bcrypt 5.0.0, PasswordHash.recommended() for Argon2 and
# BcryptHasher() for bcrypt, by verify_and_update() with the right password:
#     stored                          new hash
#     argon2id m=131072 t=4 p=2       m=65536 t=3 p=4
#     argon2id as recommended, but    the same with a salt of 16 bytes
#       with a salt of 32 bytes
#     bcrypt, 14 rounds               12 rounds
#     two services with two settings  a new hash at every sign-in that changes the service
# One would guess that "needs rehash" and "update" mean: weaker than what is configured. They mean:
# other than that. argon2-cffi compares all parameters, the lengths of salt and hash among them, for
# inequality (PasswordHasher.check_needs_rehash), and pwdlib does so with the rounds and the prefix
# of bcrypt. So accounts imported from a system that hashed at a higher cost lose that cost one by
# one, as their owners sign in, and a service whose settings are lowered by mistake weakens exactly
# the accounts in use. Two services over one table of accounts replace each other's hashes. Compare
# the costs yourself (argon2.extract_parameters) and hash again only where one of them is lower.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    pwdlib==0.3.1 argon2-cffi==25.1.0 argon2-cffi-bindings==25.1.0 cffi==2.0.0 bcrypt==5.0.0

"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from argon2 import PasswordHasher, extract_parameters
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from pwdlib.hashers.bcrypt import BcryptHasher

PASSWORD = "correct horse battery staple"


def update(passwords, stored):
    verified, new_hash = passwords.verify_and_update(PASSWORD, stored)
    assert verified
    return new_hash


def costs(hashed):
    parameters = extract_parameters(hashed)
    return parameters.memory_cost, parameters.time_cost, parameters.salt_len


print(*(f"{name} {version(name)}" for name in ("pwdlib", "argon2-cffi", "bcrypt")))
recommended = PasswordHash.recommended()
default = costs(recommended.hash(PASSWORD))

costly = Argon2Hasher(time_cost=4, memory_cost=128 * 1024, parallelism=2).hash(PASSWORD)
after_costly = update(recommended, costly)
print("argon2 (KiB, passes, bytes of salt)", costs(costly), "->", costs(after_costly))
assert PasswordHasher().check_needs_rehash(costly), "argon2-cffi keeps a stronger hash now"
assert default[:2] < (128 * 1024, 4)
assert costs(after_costly) == default, "pwdlib keeps a stronger Argon2 hash now"

long_salt = PasswordHasher(salt_len=32).hash(PASSWORD)
after_long_salt = update(recommended, long_salt)
print("argon2 (KiB, passes, bytes of salt)", costs(long_salt), "->", costs(after_long_salt))
assert costs(long_salt) == (*default[:2], 32)
assert costs(after_long_salt) == default, "pwdlib keeps a longer salt now"

slow = BcryptHasher(rounds=14).hash(PASSWORD)
after_slow = update(PasswordHash((BcryptHasher(),)), slow)
print("bcrypt", slow[:7], "->", after_slow[:7])
assert (slow[:7], after_slow[:7]) == ("$2b$14$", "$2b$12$"), "pwdlib keeps a stronger bcrypt hash now"

services = (recommended, PasswordHash((Argon2Hasher(memory_cost=32 * 1024),)))
stored = recommended.hash(PASSWORD)
written = 0
for sign_in in range(1, 5):
    new_hash = update(services[sign_in % 2], stored)
    written += new_hash is not None
    stored = new_hash or stored
print(f"two services, 4 sign-ins in turn: {written} new hashes")
assert written == 4, "two settings no longer replace each other's hashes"
PYTHON
echo "as described"
