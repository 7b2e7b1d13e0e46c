"""What signed-in users see and change of themselves, and how they sign out."""

import pytest
from tests.gateway.auth.api import ANON, PASSWORD, SERVICE, Api, rejection
from tests.gateway.auth.conftest import ServeAuth

from amphibase.accounts.jwt.key import Key
from amphibase.accounts.jwt.key_ring import KeyRing


async def test_a_user_sees_themselves(api: Api) -> None:
    await api.sign_up()
    signed_in = (await api.sign_in()).json()
    response = await api.get("/user", token=signed_in["access_token"])
    assert response.json() == signed_in["user"]


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "no_authorization"),
        ({"authorization": "Basic abc"}, 401, "no_authorization"),
        ({"authorization": "Bearer nonsense"}, 403, "bad_jwt"),
        ({"authorization": f"Bearer {ANON}"}, 403, "bad_jwt"),
        ({"authorization": f"Bearer {SERVICE}"}, 403, "bad_jwt"),
    ],
)
async def test_an_api_key_is_no_user(
    api: Api, headers: dict[str, str], status: int, code: str
) -> None:
    assert rejection(await api.get("/user", headers=headers)) == (status, code)


async def test_a_token_that_another_key_signed_is_rejected(api: Api) -> None:
    signed_in = await api.sign_up()
    claims = dict(api.tokens.verify(signed_in["access_token"]))
    forged = KeyRing([Key.generate()]).issue(claims)
    assert rejection(await api.get("/user", token=forged)) == (403, "bad_jwt")
    expired = api.tokens.issue({**claims, "exp": claims["iat"] - 3600})
    assert rejection(await api.get("/user", token=expired)) == (403, "bad_jwt")
    stranger = api.tokens.issue({**claims, "sub": claims["session_id"]})
    assert rejection(await api.get("/user", token=stranger)) == (403, "user_not_found")


async def test_metadata_is_merged_key_by_key_and_null_removes_one(api: Api) -> None:
    token = (await api.sign_up(data={"name": "Ann", "theme": "dark"}))["access_token"]
    body = {"data": {"theme": None, "tags": ["a", {"deep": None}]}}
    user = (await api.put("/user", body, token=token)).json()
    assert user["user_metadata"]["name"] == "Ann"
    assert user["user_metadata"]["tags"] == ["a", {"deep": None}]
    assert "theme" not in user["user_metadata"]


async def test_a_lot_of_metadata_locks_nobody_out(api: Api) -> None:
    token = (await api.sign_up(data={"essay": "x" * 20_000}))["access_token"]
    assert (await api.get("/user", token=token)).status_code == 200


async def test_a_user_cannot_give_themselves_rights(api: Api) -> None:
    token = (await api.sign_up())["access_token"]
    body = {"app_metadata": {"role": "admin"}}
    assert rejection(await api.put("/user", body, token=token)) == (403, "not_admin")
    signed_up = await api.sign_up("bob@example.com", data={"role": "service_role"}, role="x")
    assert signed_up["user"]["role"] == "authenticated"


async def test_a_new_password_ends_the_other_sessions(api: Api) -> None:
    here = await api.sign_up()
    elsewhere = (await api.sign_in()).json()
    token = here["access_token"]
    changed = await api.put("/user", {"password": "a new password"}, token=token)
    assert changed.status_code == 200
    assert (await api.refresh(here["refresh_token"])).status_code == 200
    assert rejection(await api.refresh(elsewhere["refresh_token"])) == (
        400,
        "refresh_token_not_found",
    )
    assert rejection(await api.get("/user", token=elsewhere["access_token"])) == (
        403,
        "session_not_found",
    )


async def test_a_new_password_has_to_be_another_and_good_enough(api: Api) -> None:
    token = (await api.sign_up())["access_token"]
    same = await api.put("/user", {"password": PASSWORD}, token=token)
    assert rejection(same) == (422, "same_password")
    for password in ("weak", ""):
        weak = await api.put("/user", {"password": password}, token=token)
        assert weak.json()["code"] == "weak_password"
        assert weak.json()["weak_password"] == {"reasons": ["length"]}
    assert (await api.sign_in()).status_code == 200


async def test_what_is_wrong_with_a_change_is_found_in_the_order_of_supabase_auth(
    serve: ServeAuth,
) -> None:
    api = await serve(
        security_update_password_require_reauthentication=True,
        security_update_password_require_current_password=True,
    )
    token = (await api.sign_up())["access_token"]
    await api.create("bob@example.com", phone="4915550199")
    api.rows("UPDATE auth.sessions SET created_at = now() - interval '25 hours'")
    assert (await api.get("/reauthenticate", token=token)).status_code == 200
    body: dict[str, object] = {
        "email": "no address",
        "phone": "no number",
        "password": PASSWORD,
        "app_metadata": {"plan": "pro"},
    }
    fixes = (
        ("validation_failed", {"email": "bob@example.com"}),
        ("validation_failed", {"phone": "4915550199"}),
        ("not_admin", {"app_metadata": None}),
        ("email_exists", {"email": "new@example.com"}),
        ("phone_exists", {"phone": ""}),
        ("reauthentication_needed", {"nonce": "a wrong one"}),
        ("reauthentication_not_valid", {"nonce": api.message().code}),
        ("current_password_required", {"current_password": PASSWORD}),
    )
    for code, fix in fixes:
        assert (await api.put("/user", body, token=token)).json()["code"] == code
        body |= fix


async def test_a_session_that_is_not_fresh_needs_a_code_for_a_new_password(
    serve: ServeAuth,
) -> None:
    api = await serve(security_update_password_require_reauthentication=True)
    token = (await api.sign_up())["access_token"]
    api.rows("UPDATE auth.sessions SET created_at = now() - interval '25 hours'")
    body = {"password": "a new password"}
    assert rejection(await api.put("/user", body, token=token)) == (400, "reauthentication_needed")
    assert (await api.get("/reauthenticate", token=token)).json() == {}
    code = api.message().code
    wrong = {**body, "nonce": "000000" if code != "000000" else "111111"}
    assert rejection(await api.put("/user", wrong, token=token)) == (
        422,
        "reauthentication_not_valid",
    )
    right = {**body, "nonce": code}
    assert (await api.put("/user", right, token=token)).status_code == 200
    assert (await api.sign_in(password="a new password")).status_code == 200


async def test_a_new_address_is_confirmed_by_both_emails(confirming: Api) -> None:
    api = confirming
    await api.create(user_metadata={"email": "ann@example.com"})
    token = (await api.sign_in()).json()["access_token"]
    user = (await api.put("/user", {"email": "new@example.com"}, token=token)).json()
    assert user["email"] == "ann@example.com"
    assert user["new_email"] == "new@example.com"
    first = await api.client.get(api.message("ann@example.com").link)
    assert "message=Confirmation+link+accepted" in first.headers["location"]
    assert (await api.get("/user", token=token)).json()["email"] == "ann@example.com"
    second = await api.client.get(api.message("new@example.com").link)
    assert "type=email_change" in second.headers["location"]
    user = (await api.get("/user", token=token)).json()
    assert user["email"] == "new@example.com"
    assert "new_email" not in user
    assert user["user_metadata"]["email"] == "new@example.com"
    assert user["identities"][0]["email"] == "new@example.com"
    assert (await api.sign_in("new@example.com")).status_code == 200
    assert rejection(await api.sign_in()) == (400, "invalid_credentials")


async def test_a_new_address_is_confirmed_by_both_codes(confirming: Api) -> None:
    api = confirming
    await api.create(user_metadata={"email": "ann@example.com"})
    token = (await api.sign_in()).json()["access_token"]
    await api.put("/user", {"email": "new@example.com"}, token=token)
    body = {"type": "email_change", "email": "new@example.com"}
    first = await api.post("/verify", {**body, "token": api.message("new@example.com").code})
    assert first.json()["code"] == "200"
    again = await api.post("/verify", {**body, "token": api.message("new@example.com").code})
    assert rejection(again) == (403, "otp_expired")
    body = {"type": "email_change", "email": "ann@example.com", "token": api.message().code}
    assert (await api.post("/verify", body)).json()["user"]["email"] == "new@example.com"


async def test_one_of_the_two_emails_is_enough_where_addresses_need_no_proof(api: Api) -> None:
    token = (await api.sign_up())["access_token"]
    await api.put("/user", {"email": "new@example.com"}, token=token)
    followed = await api.client.get(api.message("new@example.com").link)
    assert "type=email_change" in followed.headers["location"]
    assert (await api.get("/user", token=token)).json()["email"] == "new@example.com"


async def test_a_resend_does_not_reveal_whether_a_change_is_pending(serve: ServeAuth) -> None:
    api = await serve(smtp_max_frequency="1m")
    token = (await api.sign_up())["access_token"]
    await api.sign_up("bob@example.com")
    await api.put("/user", {"email": "new@example.com"}, token=token)
    sent = len(api.inbox.emails())
    pending, other = [
        await api.post("/resend", {"type": "email_change", "email": email})
        for email in ("ann@example.com", "bob@example.com")
    ]
    assert (pending.status_code, pending.content) == (other.status_code, other.content)
    assert pending.status_code == 200
    assert len(api.inbox.emails()) == sent


async def test_signing_in_by_email_leaves_the_emails_of_a_new_address_good(api: Api) -> None:
    token = (await api.sign_up())["access_token"]
    await api.put("/user", {"email": "new@example.com"}, token=token)
    links = [api.message(to).link for to in ("ann@example.com", "new@example.com")]
    await api.post("/otp", {"email": "ann@example.com"})
    body = {"type": "email", "email": "ann@example.com", "token": api.message().code}
    assert (await api.post("/verify", body)).status_code == 200
    for link in links:
        await api.client.get(link)
    assert (await api.get("/user", token=token)).json()["email"] == "new@example.com"


async def test_a_new_address_is_confirmed_by_its_own_email_where_one_is_enough(
    serve: ServeAuth,
) -> None:
    api = await serve(mailer_secure_email_change_enabled=False)
    token = (await api.sign_up())["access_token"]
    await api.put("/user", {"email": "new@example.com"}, token=token)
    assert [each["to"] for each in api.inbox.emails()] == [["new@example.com"]]
    await api.client.get(api.message("new@example.com").link)
    assert (await api.get("/user", token=token)).json()["email"] == "new@example.com"


async def test_an_address_that_someone_has_cannot_be_taken(api: Api) -> None:
    token = (await api.sign_up())["access_token"]
    body = {"email": "new@example.com"}
    await api.put("/user", body, token=token)
    links = [api.message(to).link for to in ("ann@example.com", "new@example.com")]
    await api.sign_up("new@example.com")
    assert rejection(await api.put("/user", body, token=token)) == (422, "email_exists")
    responses = [await api.client.get(link) for link in links]
    assert "error_description=Error+confirm+email" in responses[-1].headers["location"]


async def test_signing_out_ends_all_sessions_or_those_that_are_meant(api: Api) -> None:
    await api.sign_up()
    a, b, c, d = [(await api.sign_in()).json() for _ in range(4)]

    async def lives(session: dict[str, str]) -> bool:
        return (await api.get("/user", token=session["access_token"])).status_code == 200

    out = await api.post("/logout?scope=local", token=a["access_token"])
    assert (out.status_code, out.content) == (204, b"")
    assert [await lives(each) for each in (a, b, c, d)] == [False, True, True, True]
    await api.post("/logout?scope=others", token=b["access_token"])
    assert [await lives(each) for each in (b, c, d)] == [True, False, False]
    assert (await api.refresh(b["refresh_token"])).status_code == 200
    await api.post("/logout?scope=", token=b["access_token"])
    assert not await lives(b)
    again = await api.post("/logout", token=b["access_token"])
    assert rejection(again) == (403, "session_not_found")


async def test_an_unknown_scope_of_signing_out_is_rejected(api: Api) -> None:
    token = (await api.sign_up())["access_token"]
    response = await api.post("/logout?scope=everything", token=token)
    assert rejection(response) == (400, "validation_failed")
    nobody = await api.post("/logout?scope=everything")
    assert rejection(nobody) == (401, "no_authorization")


async def test_the_last_identity_cannot_be_taken(serve: ServeAuth, api: Api) -> None:
    signed_in = await api.sign_up()
    token = signed_in["access_token"]
    path = f"/user/identities/{signed_in['user']['identities'][0]['identity_id']}"
    assert rejection(await api.delete(path, token=token)) == (404, "manual_linking_disabled")
    linking = await serve(security_manual_linking_enabled=True)
    token = (await linking.sign_in()).json()["access_token"]
    assert rejection(await linking.delete(path, token=token)) == (
        422,
        "single_identity_not_deletable",
    )
    linking.rows(
        "INSERT INTO auth.identities (provider_id, user_id, identity_data, provider, created_at)"
        " VALUES ('1', %s, '{\"sub\": \"1\"}', 'github', now())",
        signed_in["user"]["id"],
    )
    assert (await linking.delete(path, token=token)).json() == {}
    user = (await linking.get("/user", token=token)).json()
    assert [each["provider"] for each in user["identities"]] == ["github"]
    assert user["app_metadata"]["providers"] == ["github"]
    assert user["email"] == ""
    assert rejection(await linking.sign_in()) == (400, "invalid_credentials")


async def test_a_number_or_an_address_goes_with_its_identity(serve: ServeAuth) -> None:
    api = await serve(
        security_manual_linking_enabled=True, external_phone_enabled=True, sms_autoconfirm=True
    )
    made = await api.create(phone="49123456", phone_confirm=True)
    by_phone = {"phone": "49123456", "password": PASSWORD}
    signed_in = await api.post("/token?grant_type=password", by_phone)
    token = signed_in.json()["access_token"]
    ids = {each["provider"]: each["identity_id"] for each in made["identities"]}
    assert (await api.delete(f"/user/identities/{ids['phone']}", token=token)).json() == {}
    user = (await api.get("/user", token=token)).json()
    assert (user["phone"], user["email"]) == ("", "ann@example.com")
    assert "phone_confirmed_at" not in user
    rejected = await api.post("/token?grant_type=password", by_phone)
    assert rejection(rejected) == (400, "invalid_credentials")


@pytest.mark.parametrize(
    ("verified", "autoconfirm", "confirmed"),
    [(True, False, True), (False, False, False), (False, True, True)],
)
async def test_the_address_of_another_identity_takes_the_place_of_the_one_that_goes(
    serve: ServeAuth, verified: bool, autoconfirm: bool, confirmed: bool
) -> None:
    api = await serve(security_manual_linking_enabled=True, mailer_autoconfirm=autoconfirm)
    user = await api.create()
    token = (await api.sign_in()).json()["access_token"]
    add_identity(api, user["id"], "gitlab", "taken@example.com", verified=True)
    add_identity(api, user["id"], "github", "git@example.com", verified=verified)
    await api.create("taken@example.com")
    path = f"/user/identities/{user['identities'][0]['identity_id']}"
    assert (await api.delete(path, token=token)).json() == {}
    changed = (await api.get("/user", token=token)).json()
    assert changed["email"] == "git@example.com"
    assert ("email_confirmed_at" in changed) is confirmed
    assert changed["user_metadata"]["email_verified"] is confirmed


async def test_an_identity_stays_where_others_have_every_other_address(serve: ServeAuth) -> None:
    api = await serve(security_manual_linking_enabled=True)
    user = await api.create()
    token = (await api.sign_in()).json()["access_token"]
    add_identity(api, user["id"], "gitlab", "taken@example.com", verified=True)
    await api.create("taken@example.com")
    path = f"/user/identities/{user['identities'][0]['identity_id']}"
    conflict = await api.delete(path, token=token)
    assert rejection(conflict) == (422, "email_conflict_identity_not_deletable")
    assert len((await api.get("/user", token=token)).json()["identities"]) == 2
    other_audience = await api.delete(path, token=token, headers={"x-jwt-aud": "another"})
    assert rejection(other_audience) == (403, "unexpected_audience")


def add_identity(api: Api, user_id: str, provider: str, email: str, *, verified: bool) -> None:
    api.rows(
        "INSERT INTO auth.identities (provider_id, user_id, identity_data, provider, created_at)"
        " VALUES ('1', %s, jsonb_build_object('sub', '1', 'email', %s::text, 'email_verified',"
        " %s::bool), %s, now())",
        user_id,
        email,
        verified,
        provider,
    )


async def test_a_new_password_takes_the_current_one_where_it_is_required(
    serve: ServeAuth,
) -> None:
    api = await serve(security_update_password_require_current_password=True)
    token = (await api.sign_up())["access_token"]
    for current, code in (
        ({}, "current_password_required"),
        ({"current_password": "wrong"}, "current_password_invalid"),
    ):
        response = await api.put("/user", {"password": "a new password", **current}, token=token)
        assert rejection(response) == (400, code)
        message = "Current password required when setting new password."
        assert response.json()["message"] == message
    body = {"password": "a new password", "current_password": PASSWORD}
    assert (await api.put("/user", body, token=token)).status_code == 200
    assert (await api.sign_in(password="a new password")).status_code == 200


async def test_whoever_recovers_an_account_needs_no_current_password(serve: ServeAuth) -> None:
    api = await serve(security_update_password_require_current_password=True)
    await api.create()
    await api.post("/recover", {"email": "ann@example.com"})
    body = {"type": "recovery", "email": "ann@example.com", "token": api.message().code}
    token = (await api.post("/verify", body)).json()["access_token"]
    changed = await api.put("/user", {"password": "a new password"}, token=token)
    assert changed.status_code == 200
