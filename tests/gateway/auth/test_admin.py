"""What whoever administers the project does to users."""

import base64
import hashlib
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from uuid import uuid4

import argon2
import bcrypt
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from tests.gateway.auth.api import ANON, PASSWORD, SERVICE, Api, rejection
from tests.gateway.auth.conftest import ServeAuth

ID = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
CALLS = [
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
    assert (await api.get(f"/admin/users/{id}", token=SERVICE)).json() == user


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
        ({"email": "a@b.c", "password": "x" * 2000}, 422, "weak_password"),
        ({"email": "a@b.c", "password_hash": "no hash"}, 400, "validation_failed"),
        (
            {"email": "a@b.c", "password_hash": HASHES["argon2id"].replace("m=64", "m=9999999")},
            400,
            "validation_failed",
        ),
        (
            {"email": "a@b.c", "password_hash": HASHES["firebase"].replace("n=14", "n=20")},
            400,
            "validation_failed",
        ),
        ({"email": "a@b.c", "id": "7"}, 400, "validation_failed"),
        ({"email": "a@b.c", "id": ID.replace("-", "x")}, 400, "validation_failed"),
        ({"email": "a@b.c", "ban_duration": "tomorrow"}, 400, "validation_failed"),
        ({"email": "a@b.c", "ban_duration": "9999999999h"}, 400, "validation_failed"),
        ({"email": "known@example.com"}, 422, "email_exists"),
    ],
)
async def test_a_user_that_cannot_be_is_rejected(
    api: Api, body: dict[str, Any], status: int, code: str
) -> None:
    await api.create("known@example.com")
    assert rejection(await api.post("/admin/users", body, token=SERVICE)) == (status, code)
    assert len(api.rows("SELECT 1 FROM auth.users")) == 1


async def test_users_are_listed_by_pages_newest_first(api: Api) -> None:
    for number in range(5):
        await api.create(f"user{number}@example.com", password=None, password_hash=HASHES["bcrypt"])
    response = await api.get("/admin/users?page=2&per_page=2", token=SERVICE)
    body = response.json()
    assert body["aud"] == "authenticated"
    assert [user["email"] for user in body["users"]] == ["user2@example.com", "user1@example.com"]
    assert response.headers["x-total-count"] == "5"
    assert response.headers["link"] == (
        '</admin/users?page=3&per_page=2>; rel="next", </admin/users?page=3&per_page=2>; rel="last"'
    )
    last = await api.get("/admin/users?page=3&per_page=2", token=SERVICE)
    assert 'rel="next"' not in last.headers["link"]
    assert len(last.json()["users"]) == 1


@pytest.mark.parametrize(
    ("text", "emails"),
    [
        ("ann@", ["joann@example.com", "ann@example.com"]),
        ("ANN LEE", ["bob@example.com"]),
        ("a%n@", ["joann@example.com", "ann@example.com"]),
        ("nobody", []),
        ("", ["bob@example.com", "joann@example.com", "ann@example.com"]),
    ],
)
async def test_users_are_found_by_a_part_of_their_address_or_name(
    api: Api, text: str, emails: list[str]
) -> None:
    for email, name in (("ann@x", None), ("joann@x", None), ("bob@x", "Ann Lee")):
        metadata = {"full_name": name} if name else {}
        await api.create(email.replace("@x", "@example.com"), user_metadata=metadata)
    response = await api.get(f"/admin/users?{urlencode({'filter': text})}", token=SERVICE)
    assert [user["email"] for user in response.json()["users"]] == emails
    assert response.headers["x-total-count"] == str(len(emails))


@pytest.mark.parametrize("query", ["page=0", "page=x", "per_page=-1", "page=99999999999999999999"])
async def test_a_page_that_is_none_is_rejected(api: Api, query: str) -> None:
    response = await api.get(f"/admin/users?{query}", token=SERVICE)
    assert rejection(response) == (400, "validation_failed")


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
    assert changed["identities"][0]["identity_data"]["email"] == "new@example.com"
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
    assert user["is_anonymous"] is False
    assert user["identities"][0]["identity_data"]["email_verified"] is True
    user = (await api.put(path, {"email": "third@example.com"}, token=SERVICE)).json()
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


@pytest.mark.parametrize(
    ("kind", "more", "known", "verification"),
    [
        ("signup", {"password": PASSWORD}, False, "signup"),
        ("invite", {}, False, "invite"),
        ("magiclink", {}, True, "magiclink"),
        ("magiclink", {}, False, "signup"),
        ("recovery", {}, True, "recovery"),
    ],
)
async def test_a_generated_link_signs_in_and_no_email_is_sent(
    api: Api, kind: str, more: dict[str, str], known: bool, verification: str
) -> None:
    if known:
        await api.create()
    body = {"type": kind, "email": "ann@example.com", **more}
    response = await api.post("/admin/generate_link", body, token=SERVICE)
    link = response.json()
    assert response.status_code == 200, response.text
    assert link["email"] == "ann@example.com"
    assert link["verification_type"] == verification
    assert link["redirect_to"] == "http://127.0.0.1:3000"
    assert parse_qs(urlsplit(link["action_link"]).query) == {
        "token": [link["hashed_token"]],
        "type": [verification],
        "redirect_to": ["http://127.0.0.1:3000"],
    }
    assert len(link["email_otp"]) == 6
    assert not api.inbox.emails()
    by_hash = {"type": verification, "token_hash": link["hashed_token"]}
    session = (await api.post("/verify", by_hash)).json()
    assert session["user"]["id"] == link["id"]


async def test_generated_links_change_an_address_together(api: Api) -> None:
    await api.create()
    body = {"email": "ann@example.com", "new_email": "new@example.com"}
    links = [
        (
            await api.post(
                "/admin/generate_link", {**body, "type": f"email_change_{which}"}, token=SERVICE
            )
        ).json()["action_link"]
        for which in ("current", "new")
    ]
    assert all("type=email_change&" in link for link in links)
    for link in links:
        await api.client.get(link)
    assert (await api.sign_in("new@example.com")).status_code == 200


async def test_a_link_for_another_change_of_address_makes_the_one_before_void(api: Api) -> None:
    await api.create()

    async def link(which: str, new: str) -> str:
        body = {"type": f"email_change_{which}", "email": "ann@example.com", "new_email": new}
        response = await api.post("/admin/generate_link", body, token=SERVICE)
        value: str = response.json()["action_link"]
        return value

    agreed_to_the_first = await link("current", "first@example.com")
    second = await link("new", "second@example.com")
    for followed in (second, agreed_to_the_first):
        await api.client.get(followed)
    assert (await api.sign_in("ann@example.com")).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"type": "signup", "email": "new@example.com"}, 400, "validation_failed"),
        ({"type": "nonsense", "email": "new@example.com"}, 400, "validation_failed"),
        ({"type": "recovery", "email": "new@example.com"}, 404, "user_not_found"),
        ({"type": "invite", "email": "ann@example.com"}, 422, "email_exists"),
        (
            {"type": "signup", "email": "ann@example.com", "password": PASSWORD},
            422,
            "email_exists",
        ),
        ({"type": "email_change_new", "email": "ann@example.com"}, 400, "validation_failed"),
    ],
)
async def test_a_link_that_cannot_be_is_rejected(
    api: Api, body: dict[str, str], status: int, code: str
) -> None:
    await api.create()
    assert rejection(await api.post("/admin/generate_link", body, token=SERVICE)) == (status, code)


async def test_a_role_of_ones_own_administers_where_it_is_named(serve: ServeAuth) -> None:
    api = await serve(jwt_admin_roles=("editor",))
    token = api.tokens.issue({"role": "editor", "exp": 4_000_000_000})
    assert (await api.get("/admin/users", token=token)).status_code == 200
    assert rejection(await api.get("/admin/users", token=SERVICE)) == (403, "not_admin")


async def test_an_id_that_someone_has_cannot_be_given_again(api: Api) -> None:
    user = await api.create()
    body = {"email": "new@example.com", "id": user["id"]}
    assert rejection(await api.post("/admin/users", body, token=SERVICE)) == (422, "conflict")


async def test_what_the_projects_own_triggers_reject_is_reported_as_its_fault(api: Api) -> None:
    """The profile that a trigger makes may be refused; the user must not be left without it."""
    api.rows("CREATE TABLE public.profiles (id uuid PRIMARY KEY REFERENCES auth.users, n int)")
    api.rows(
        "CREATE FUNCTION public.make_profile() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO public.profiles VALUES (NEW.id, (NEW.raw_user_meta_data ->> 'n')::int); "
        "RETURN NEW; END $$ SECURITY DEFINER"
    )
    api.rows(
        "CREATE TRIGGER make_profile AFTER INSERT ON auth.users "
        "FOR EACH ROW EXECUTE FUNCTION public.make_profile()"
    )
    try:
        body = {"email": "ann@example.com", "password": PASSWORD}
        rejected = await api.post("/signup", {**body, "data": {"n": "no number"}})
        assert rejected.status_code == 500
        assert rejected.json() == {
            "code": "unexpected_failure",
            "message": "Database error saving new user",
        }
        assert not api.rows("SELECT 1 FROM auth.users")
        user = (await api.sign_up(data={"n": 1}))["user"]
        assert api.rows("SELECT n FROM public.profiles") == [(1,)]
        response = await api.delete(f"/admin/users/{user['id']}", token=SERVICE)
        assert response.status_code == 500
        assert response.json()["code"] == "23503"
        assert "violates foreign key constraint" in response.json()["message"]
        assert "is still referenced" in response.json()["detail"]
    finally:
        api.rows("DROP TABLE public.profiles")
        api.rows("DROP FUNCTION public.make_profile CASCADE")


RAISING = """
    CREATE FUNCTION public.raising() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {} END $$;
    CREATE TRIGGER raising BEFORE INSERT ON auth.users
    FOR EACH ROW EXECUTE FUNCTION public.raising()
"""
RAISED = {
    "RAISE EXCEPTION 'no such name';": (500, {"code": "P0001", "message": "no such name"}),
    "RAISE SQLSTATE 'PT403' USING MESSAGE = 'not from here', DETAIL = 'more', HINT = 'move';": (
        403,
        {"code": "PT403", "message": "not from here", "hint": "move", "detail": "more"},
    ),
    "PERFORM 1 FROM profiles;": (
        500,
        {"code": "unexpected_failure", "message": "Database error saving new user"},
    ),
}


@pytest.fixture
def raising(api: Api) -> Iterator[Callable[[str], None]]:
    """Make a trigger for new users that runs a statement."""

    def make(statement: str) -> None:
        api.rows(RAISING.format(statement))

    yield make
    api.rows("DROP FUNCTION public.raising CASCADE")


@pytest.mark.parametrize(("statement", "response"), RAISED.items())
async def test_a_triggers_message_and_status_reach_the_client(
    serve: ServeAuth,
    raising: Callable[[str], None],
    statement: str,
    response: tuple[int, dict[str, str]],
) -> None:
    api = await serve(external_anonymous_users_enabled=True)
    raising(statement)
    body = {"email": "ann@example.com", "password": PASSWORD}
    for rejected in (
        await api.post("/signup", body),
        await api.post("/admin/users", body, token=SERVICE),
    ):
        assert (rejected.status_code, rejected.json()) == response
    anonymous = await api.post("/signup", {})
    assert anonymous.status_code == 500
    assert anonymous.json()["message"] == "Database error creating anonymous user"
    assert api.rows("SELECT 1 FROM auth.users") == []


async def test_a_trigger_that_lacks_a_right_is_named_in_the_log(
    api: Api, raising: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    raising("INSERT INTO profiles VALUES (NEW.id); RETURN NEW;")
    body = {"email": "ann@example.com", "password": PASSWORD}
    assert (await api.post("/signup", body)).status_code == 500
    (line,) = (line for line in caplog.messages if line.startswith("The function public.raising()"))
    assert "supabase_auth_admin with search_path auth" in line
    assert "SECURITY DEFINER" in line
