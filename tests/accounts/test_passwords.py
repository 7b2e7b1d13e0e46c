"""Password hashes."""

from argon2 import PasswordHasher


def test_new_hashes_cost_what_owasp_recommends(real_hasher: PasswordHasher) -> None:
    hashed = real_hasher.hash("correct horse battery")
    assert hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
