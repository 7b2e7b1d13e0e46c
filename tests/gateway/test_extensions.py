"""The functions of extensions that a server lacks, beside those of the extensions themselves."""

import json
import re
import uuid
from collections.abc import Iterator
from typing import Any

import bcrypt
import jwt
import psycopg
import pytest

from amphibase.gateway.project import SUBSTITUTES
from amphibase.postgres import Server

Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture(scope="module")
def database(postgres: Server) -> Iterator[Connection]:
    """A database with the scripts in `extensions`, and the schema `real` for the extension."""
    name = "substitutes_of_extensions"
    with psycopg.connect(postgres.create_database(name), autocommit=True) as connection:
        connection.execute("CREATE SCHEMA extensions; CREATE SCHEMA real")
        for script in SUBSTITUTES.values():
            connection.execute(script.read_bytes())
        yield connection
    postgres.drop_database(name)


def value(database: Connection, expression: str, *arguments: object) -> Any:
    row = database.execute(f"SELECT {expression}".encode(), arguments or None).fetchone()
    assert row is not None
    return row[0]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        # FIPS 180-4's examples, and RFC 1321's.
        ("digest('abc', 'sha1')", "a9993e364706816aba3e25717850c26c9cd0d89d"),
        (
            "digest('abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq', 'SHA1')",
            "84983e441c3bd26ebaae4aa1f95129e5e54670f1",
        ),
        ("digest(repeat('a', 1000), 'sha1')", "291e9a6c66994949b57ba5e650361e98fc36b1ba"),
        ("digest('abc', 'md5')", "900150983cd24fb0d6963f7d28e17f72"),
        (
            "digest('abc'::bytea, 'sha256')",
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ),
        # RFC 2202 and RFC 4231, case 2, and case 6 with a key that is longer than a block.
        (
            "hmac('what do ya want for nothing?', 'Jefe', 'sha1')",
            "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
        ),
        (
            "hmac('what do ya want for nothing?', 'Jefe', 'sha256')",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (
            "hmac('Test Using Larger Than Block-Size Key - Hash Key First'::bytea,"
            " decode(repeat('aa', 131), 'hex'), 'sha512')",
            "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f352"
            "6b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598",
        ),
    ],
)
def test_hashes_are_those_of_their_standards(
    database: Connection, expression: str, expected: str
) -> None:
    assert value(database, f"encode(extensions.{expression}, 'hex')") == expected


@pytest.mark.parametrize("password", ["", "password", "pässwörd €", "x" * 71, "x" * 100])
def test_bcrypt_hashes_are_those_of_every_other_implementation(
    database: Connection, password: str
) -> None:
    salt = bcrypt.gensalt(4, b"2a").decode()
    expected = bcrypt.hashpw(password.encode()[:72], salt.encode()).decode()
    assert value(database, "extensions.crypt(%s, %s)", password, salt) == expected
    assert value(database, "extensions.crypt(%s, %s)", password, expected) == expected


def test_md5_crypt_hashes_are_those_of_crypt(database: Connection) -> None:
    # `openssl passwd -1 -salt saltsalt password`, and without one.
    for password, expected in (
        ("password", "$1$saltsalt$qjXMvbEw8oaL.CzflDtaK/"),
        ("", "$1$saltsalt$5Jhcit4zN9UlGiA0txPkO0"),
    ):
        assert value(database, "extensions.crypt(%s, '$1$saltsaltmore')", password) == expected


@pytest.mark.parametrize(
    ("call", "pattern"),
    [
        ("gen_salt('bf')", r"\$2a\$06\$[./A-Za-z0-9]{22}"),
        ("gen_salt('BF', 11)", r"\$2a\$11\$[./A-Za-z0-9]{22}"),
        ("gen_salt('md5')", r"\$1\$[./A-Za-z0-9]{8}"),
        ("gen_random_bytes(50)::text", r"\\x[0-9a-f]{100}"),
        ("gen_random_uuid()::text", r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-.{17}"),
        ("uuid_generate_v4()::text", r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-.{17}"),
        ("uuid_generate_v1()::text", r"[0-9a-f]{8}-[0-9a-f]{4}-1[0-9a-f]{3}-[89ab].{16}"),
    ],
)
def test_what_is_random_has_its_form_and_differs_each_time(
    database: Connection, call: str, pattern: str
) -> None:
    values = {value(database, f"extensions.{call}") for _ in range(5)}
    assert len(values) == 5
    assert all(re.fullmatch(pattern, each) for each in values)


def test_uuids_of_time_and_of_names_are_those_of_the_rfc(database: Connection) -> None:
    now = value(database, "(extract(epoch FROM clock_timestamp()) * 10000000)::bigint")
    made = value(database, "extensions.uuid_generate_v1()")
    assert 0 <= made.time - 0x01B21DD213814000 - now < 600_000_000
    assert made.version == 1
    for version, expected in ((3, uuid.uuid3), (5, uuid.uuid5)):
        call = f"extensions.uuid_generate_v{version}(extensions.uuid_ns_dns(), 'example.com')"
        assert value(database, call) == expected(uuid.NAMESPACE_DNS, "example.com")


@pytest.mark.parametrize(
    ("call", "sqlstate"),
    [
        ("digest('a', 'crc')", "22023"),
        ("gen_salt('bf', 3)", "22023"),
        ("gen_salt('rot13')", "22023"),
        ("gen_random_bytes(1025)", "39000"),
        ("crypt('a', '$2a$06$short')", "22023"),
        ("crypt('a', '$2b$06$' || repeat('a', 22))", "22023"),
        ("crypt('a', 'ab')", "0A000"),
        ("gen_salt('des')", "0A000"),
        ("pgp_sym_encrypt('a', 'key')", "0A000"),
    ],
)
def test_what_is_wrong_or_not_here_is_an_error(
    database: Connection, call: str, sqlstate: str
) -> None:
    with pytest.raises(psycopg.Error) as error:
        value(database, f"extensions.{call}")
    assert error.value.sqlstate == sqlstate


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_tokens_are_signed_and_verified_as_by_others(database: Connection, algorithm: str) -> None:
    secret = "a secret that is as long as HS512 wants it to be, or a little longer than that"
    claims = {"sub": "Ann Ö>?", "role": "baker"}
    call = "extensions.sign(%s::json, %s, %s)"
    token = value(database, call, json.dumps(claims), secret, algorithm)
    assert jwt.decode(token, secret, algorithms=[algorithm]) == claims

    def verified(secret: str, **times: int) -> Any:
        token = jwt.encode(claims | times, secret, algorithm)
        valid = "(SELECT valid FROM extensions.verify(%s, %s, %s))"
        return value(database, valid, token, "the key".ljust(64), algorithm)

    assert verified("the key".ljust(64))
    assert verified("the key".ljust(64), nbf=1, exp=99_999_999_999)
    assert not verified("another key".ljust(64))
    assert not verified("the key".ljust(64), exp=1)
    assert not verified("the key".ljust(64), nbf=99_999_999_999)


def test_a_token_that_names_no_hash_of_hmac_is_not_signed(database: Connection) -> None:
    with pytest.raises(psycopg.Error):
        value(database, "extensions.sign('{}', 'secret', 'none')")


@pytest.mark.parametrize(
    "call",
    [
        "digest(repeat('ab', 77), 'sha1')",
        "digest('', 'sha224')",
        "hmac(repeat('ab', 77), repeat('key', 50), 'sha384')",
        "hmac('', '', 'md5')",
        "crypt('password', '$1$abc$')",
        "crypt('a long password with ümlauts', '$1$abcdefgh$')",
        "crypt('password', '$2a$04$abcdefghijklmnopqrstuv')",
        "crypt('password', '$2a$06$abcdefghijklmnopqrstuu')",
    ],
)
def test_the_extension_has_the_same_values(database: Connection, call: str) -> None:
    available = "EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pgcrypto')"
    if not value(database, available):
        pytest.skip("the server of the tests has no pgcrypto")
    database.execute("CREATE EXTENSION IF NOT EXISTS pgcrypto WITH SCHEMA real")
    assert value(database, f"extensions.{call} = real.{call}"), value(database, f"real.{call}")
