"""What administrators of the project do to users."""

import base64
import hashlib
from typing import Any
from uuid import UUID, uuid4

import argon2
import bcrypt
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from tests.gateway.auth.api import ANON, PASSWORD, SERVICE, Api, rejection
from tests.gateway.auth.conftest import ServeAuth

ID = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
CALLS = [
    ("GET", "/admin/audit"),
    ("GET", "/admin/users"),
    ("POST", "/admin/users"),
    ("GET", f"/admin/users/{ID}"),
    ("PUT", f"/admin/users/{ID}"),
    ("DELETE", f"/admin/users/{ID}"),
    ("GET", f"/admin/users/{ID}/factors"),
    ("PUT", f"/admin/users/{ID}/factors/{ID}"),
    ("DELETE", f"/admin/users/{ID}/factors/{ID}"),
    ("POST", "/admin/generate_link"),
    ("POST", "/invite"),
]


def firebase_hash(password: str) -> str:
    salt, separator, signer_key = b"salt of a user", b"\x07", bytes(range(64))
    key = hashlib.scrypt(password.encode(), salt=salt + separator, n=1 << 14, r=8, p=1, dklen=32)
    hashed = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(signer_key)
    parts = [base64.b64encode(part).decode() for part in (separator, signer_key, salt, hashed)]
    return "$fbscrypt$v=1,n=14,r=8,p=1,ss={},sk={}${}${}".format(*parts)


HASHES = {
    "bcrypt": bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode(),
    "argon2id": argon2.PasswordHasher(1, 64, 1).hash(PASSWORD),
    "argon2i": argon2.PasswordHasher(1, 64, 1, type=argon2.Type.I).hash(PASSWORD),
    "firebase": firebase_hash(PASSWORD),
}


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_only_the_service_administers(api: Api, method: str, path: str) -> None:
    user = (await api.sign_up())["access_token"]
    assert rejection(await api.call(method, path, {})) == (401, "no_authorization")
    for token in (user, ANON):
        assert rejection(await api.call(method, path, {}, token=token)) == (403, "not_admin")


async def test_a_user_is_created_with_every_attribute(api: Api) -> None:
    id = str(uuid4())
    body = {
        "id": id,
        "email": "Ann@Example.com",
        "phone": "+49 123 456",
        "password": PASSWORD,
        "email_confirm": True,
        "phone_confirm": True,
        "role": "editor",
        "user_metadata": {"name": "Ann"},
        "app_metadata": {"role": "admin", "nothing": None},
        "ban_duration": "1h30m",
    }
    user = (await api.post("/admin/users", body, token=SERVICE)).json()
    assert user["id"] == id
    assert (user["email"], user["phone"], user["role"]) == (
        "ann@example.com",
        "49123456",
        "editor",
    )
    assert user["email_confirmed_at"]
    assert user["phone_confirmed_at"]
    assert user["banned_until"]
    assert user["user_metadata"] == {"name": "Ann", "email_verified": True}
    assert user["app_metadata"] == {
        "provider": "email",
        "providers": ["email", "phone"],
        "role": "admin",
    }
    assert [each["provider"] for each in user["identities"]] == ["email", "phone"]
    read = (await api.get(f"/admin/users/{id}", token=SERVICE)).json()
    # The service does not read again what the database derives.
    assert read.pop("confirmed_at")
    assert read == user


async def test_an_id_says_nothing_of_when_a_user_was_created(api: Api) -> None:
    body = {"email": "ann@example.com", "password": PASSWORD}
    user = (await api.post("/admin/users", body, token=SERVICE)).json()
    assert UUID(user["id"]).version == 4


@pytest.mark.parametrize("kind", HASHES)
async def test_a_password_hash_from_elsewhere_signs_in_and_is_replaced_where_it_is_weaker(
    api: Api, kind: str
) -> None:
    await api.create(password=None, password_hash=HASHES[kind])
    assert rejection(await api.sign_in(password="wrong password")) == (400, "invalid_credentials")
    assert (await api.sign_in()).status_code == 200
    ((stored,),) = api.rows("SELECT encrypted_password FROM auth.users")
    if kind == "argon2id":  # of a higher cost than the tests' own
        assert stored == HASHES[kind]
    else:
        assert stored.startswith("$argon2id$v=19$m=8,")
    assert (await api.sign_in()).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "validation_failed"),
        ({"email": "none"}, 400, "validation_failed"),
        ({"phone": "none"}, 400, "validation_failed"),
        ({"email": "a@b.c", "password": PASSWORD, "password_hash": "x"}, 400, "validation_failed"),
        ({"email": "a@b.c", "password": "x" * 73}, 400, "validation_failed"),
        ({"email": "a@b.c", "password_hash": "no hash"}, 500, "unexpected_failure"),
        (
            {"email": "a@b.c", "password_hash": HASHES["argon2id"].replace("m=64", "m=9999999")},
            500,
            "unexpected_failure",
        ),
        (
            {"email": "a@b.c", "password_hash": HASHES["firebase"].replace("n=14", "n=20")},
            500,
            "unexpected_failure",
        ),
        ({"email": "a@b.c", "id": "7"}, 400, "validation_failed"),
        ({"email": "a@b.c", "id": ID.replace("-", "x")}, 400, "validation_failed"),
        ({"email": "a@b.c", "ban_duration": "tomorrow"}, 400, "validation_failed"),
        ({"email": "a@b.c", "ban_duration": "9999999999h"}, 400, "validation_failed"),
        ({"email": "known@example.com", "phone": "none"}, 422, "email_exists"),
        ({"phone": "15550001", "password": "x", "password_hash": "y"}, 422, "phone_exists"),
    ],
)
async def test_a_user_that_cannot_be_is_rejected(
    api: Api, body: dict[str, Any], status: int, code: str
) -> None:
    await api.create("known@example.com", phone="15550001")
    assert rejection(await api.post("/admin/users", body, token=SERVICE)) == (status, code)
    assert len(api.rows("SELECT 1 FROM auth.users")) == 1


async def test_a_new_user_is_checked_in_the_order_of_supabase_auth(api: Api) -> None:
    body = {"email": "a@b.c", "password": "x" * 73, "id": "none", "ban_duration": "x"}
    wrong = {
        "password": "bcrypt: password length exceeds 72 bytes",
        "id": "ID must conform to the uuid v4 format",
        "ban_duration": 'invalid format for ban duration: time: invalid duration "x"',
    }
    for member, message in wrong.items():
        response = await api.post("/admin/users", body, token=SERVICE)
        assert (response.status_code, response.json()["message"]) == (400, message)
        del body[member]
    assert (await api.post("/admin/users", body, token=SERVICE)).status_code == 200


@pytest.mark.parametrize("is_first_version", [False, True])
async def test_what_the_database_rejects_of_an_administrator_is_a_fault_that_is_logged(
    api: Api, caplog: pytest.LogCaptureFixture, is_first_version: bool
) -> None:
    known = await api.create(phone="15550001")
    other = await api.create("bob@example.com")
    path = f"/admin/users/{other['id']}"
    headers = {"x-supabase-api-version": ""} if is_first_version else None
    for method, to, body, message in (
        ("PUT", path, {"phone": "15550001"}, "Error updating user"),
        ("PUT", path, {"email": "ann@example.com"}, "Error updating user"),
        (
            "POST",
            "/admin/users",
            {"email": "new@example.com", "id": known["id"]},
            "Database error creating new user",
        ),
    ):
        caplog.clear()
        response = await api.call(method, to, body, token=SERVICE, headers=headers)
        assert response.status_code == 500
        assert any(line.startswith(f"{message}: ") for line in caplog.messages)
        if not is_first_version:
            assert response.json() == {"code": "unexpected_failure", "message": message}
        elif body != {"email": "ann@example.com"}:
            assert response.json()["code"] == "23505"
    assert len(api.rows("SELECT 1 FROM auth.users")) == 2


@pytest.mark.parametrize(
    ("duration", "reason"),
    [
        ("tomorrow", 'invalid duration "tomorrow"'),
        ("5", 'missing unit in duration "5"'),
        ("1h7d", 'unknown unit "d" in duration "1h7d"'),
        ("5\u00e9", r'unknown unit "\xc3\xa9" in duration "5\xc3\xa9"'),
    ],
)
async def test_the_time_of_a_ban_is_rejected_in_the_words_of_go(
    api: Api, duration: str, reason: str
) -> None:
    user = await api.create()
    body = {"ban_duration": duration}
    response = await api.put(f"/admin/users/{user['id']}", body, token=SERVICE)
    assert rejection(response) == (400, "validation_failed")
    assert response.json()["message"] == f"invalid format for ban duration: time: {reason}"


async def test_an_address_that_is_sent_again_is_verified_as_the_call_says(api: Api) -> None:
    user = await api.create()
    for confirms in (False, True):
        body = {"email": "ann@example.com", "email_confirm": confirms}
        await api.put(f"/admin/users/{user['id']}", body, token=SERVICE)
        changed = await api.get(f"/admin/users/{user['id']}", token=SERVICE)
        (identity,) = changed.json()["identities"]
        assert identity["identity_data"]["email_verified"] is confirms
    await api.put(f"/admin/users/{user['id']}", {"user_metadata": {"a": 1}}, token=SERVICE)
    changed = await api.get(f"/admin/users/{user['id']}", token=SERVICE)
    assert changed.json()["identities"][0]["identity_data"]["email_verified"] is True


async def test_an_update_changes_what_is_given_and_passes_over_a_hash(api: Api) -> None:
    user = await api.create(user_metadata={"name": "Ann", "age": 7}, app_metadata={"role": "x"})
    path = f"/admin/users/{user['id']}"
    body = {
        "email": "new@example.com",
        "user_metadata": {"age": None, "tall": True},
        "app_metadata": {"plan": "free"},
        "password_hash": HASHES["bcrypt"],
        "role": "editor",
    }
    changed = (await api.put(path, body, token=SERVICE)).json()
    assert changed["email"] == "new@example.com"
    # The service responds with the identities that it had read.
    assert changed["identities"] == user["identities"]
    (identity,) = (await api.get(path, token=SERVICE)).json()["identities"]
    assert identity["identity_data"]["email"] == "new@example.com"
    assert changed["user_metadata"] == {"name": "Ann", "email_verified": True, "tall": True}
    assert changed["app_metadata"]["role"] == "x"
    assert changed["app_metadata"]["plan"] == "free"
    assert changed["role"] == "editor"
    assert (await api.sign_in("new@example.com")).status_code == 200
    ((stored,),) = api.rows("SELECT encrypted_password FROM auth.users")
    assert stored != HASHES["bcrypt"]


async def test_a_new_address_is_known_to_be_the_users_only_where_it_is_confirmed(
    serve: ServeAuth,
) -> None:
    api = await serve(external_anonymous_users_enabled=True)
    id = (await api.post("/signup", {})).json()["user"]["id"]
    path = f"/admin/users/{id}"
    body: dict[str, Any] = {"email": "ann@example.com"}
    user = (await api.put(path, body, token=SERVICE)).json()
    assert user["is_anonymous"] is True
    assert user["identities"][0]["identity_data"]["email_verified"] is False
    body = {"email": "new@example.com", "email_confirm": True}
    user = (await api.put(path, body, token=SERVICE)).json()
    assert (user["is_anonymous"], "confirmed_at" in user) == (False, False)
    user = (await api.get(path, token=SERVICE)).json()
    assert user["identities"][0]["identity_data"]["email_verified"] is True
    await api.put(path, {"email": "third@example.com"}, token=SERVICE)
    user = (await api.get(path, token=SERVICE)).json()
    assert user["identities"][0]["identity_data"]["email_verified"] is False


async def test_a_password_that_is_set_ends_all_sessions(api: Api) -> None:
    signed_in = await api.sign_up()
    path = f"/admin/users/{signed_in['user']['id']}"
    assert rejection(await api.put(path, {"password": "weak"}, token=SERVICE)) == (
        422,
        "weak_password",
    )
    await api.put(path, {"password": "a new password"}, token=SERVICE)
    assert (await api.get("/user", token=signed_in["access_token"])).status_code == 403
    assert (await api.sign_in(password="a new password")).status_code == 200


async def test_a_ban_is_lifted_by_none(api: Api) -> None:
    user = await api.create()
    await api.ban(user["id"], "876000h")
    assert rejection(await api.sign_in()) == (400, "user_banned")
    await api.ban(user["id"], "none")
    assert (await api.sign_in()).status_code == 200


async def test_a_deleted_user_is_gone(api: Api) -> None:
    signed_in = await api.sign_up()
    path = f"/admin/users/{signed_in['user']['id']}"
    assert (await api.delete(path, token=SERVICE)).json() == {}
    assert rejection(await api.get(path, token=SERVICE)) == (404, "user_not_found")
    assert rejection(await api.delete(path, token=SERVICE)) == (404, "user_not_found")
    assert rejection(await api.get("/user", token=signed_in["access_token"])) == (
        403,
        "user_not_found",
    )
    assert not api.rows("SELECT 1 FROM auth.identities")
    await api.sign_up()


async def test_of_a_softly_deleted_user_the_id_stays_and_nothing_else(api: Api) -> None:
    signed_in = await api.sign_up(data={"name": "Ann"})
    id = signed_in["user"]["id"]
    body = {"should_soft_delete": True}
    assert (await api.delete(f"/admin/users/{id}", body, token=SERVICE)).json() == {}
    buried = (await api.get(f"/admin/users/{id}", token=SERVICE)).json()
    assert buried["deleted_at"]
    assert "ann" not in str(buried).lower().replace("annel", "")
    assert rejection(await api.sign_in()) == (400, "invalid_credentials")
    assert rejection(await api.refresh(signed_in["refresh_token"])) == (
        400,
        "refresh_token_not_found",
    )
    again = await api.sign_up()
    assert again["user"]["id"] != id


@pytest.mark.parametrize("path", ["/admin/users/7", "/admin/users/ä"])
async def test_an_id_that_is_none_is_not_found(api: Api, path: str) -> None:
    assert rejection(await api.get(path, token=SERVICE)) == (404, "validation_failed")


async def test_a_role_of_ones_own_administers_where_it_is_named(serve: ServeAuth) -> None:
    api = await serve(jwt_admin_roles=("editor",))
    token = api.tokens.issue({"role": "editor", "exp": 4_000_000_000})
    assert (await api.get("/admin/users", token=token)).status_code == 200
    assert rejection(await api.get("/admin/users", token=SERVICE)) == (403, "not_admin")


async def test_a_user_administers_for_as_long_as_their_session(serve: ServeAuth) -> None:
    api = await serve(sessions_timebox="1h")
    user = await api.create(role="service_role")
    tokens = [(await api.sign_in()).json()["access_token"] for _ in range(2)]
    assert (await api.get("/admin/users", token=tokens[0])).status_code == 200
    await api.post("/logout?scope=local", token=tokens[0])
    ended = await api.get("/admin/users", token=tokens[0])
    assert rejection(ended) == (403, "session_not_found")
    api.rows("UPDATE auth.sessions SET created_at = now() - interval '2 hours'")
    too_old = await api.get("/admin/users", token=tokens[1])
    assert rejection(too_old) == (403, "session_expired")
    await api.ban(user["id"])
    assert rejection(await api.get("/admin/users", token=tokens[1])) == (403, "user_banned")
