"""Second factors by clock."""

import asyncio
from collections import Counter
from typing import Any
from uuid import UUID
from xml.etree import ElementTree

import httpx
import pyotp
import pytest
from tests.gateway.auth.api import SERVICE, Api, rejection
from tests.gateway.auth.conftest import ServeAuth


async def enrolled(api: Api, token: str, name: str = "") -> dict[str, Any]:
    body = {"factor_type": "totp", "friendly_name": name, "issuer": "example.com"}
    response = await api.post("/factors", body, token=token)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def code_of(factor: dict[str, Any]) -> str:
    return pyotp.TOTP(factor["totp"]["secret"]).now()


async def verified(
    api: Api, token: str, factor: dict[str, Any], code: str | None = None
) -> httpx.Response:
    """Challenge the factor and answer, by default rightly."""
    challenge = await api.post(f"/factors/{factor['id']}/challenge", token=token)
    assert challenge.status_code == 200, challenge.text
    body = {"challenge_id": challenge.json()["id"], "code": code or code_of(factor)}
    return await api.post(f"/factors/{factor['id']}/verify", body, token=token)


async def test_a_factor_is_enrolled_with_secret_uri_and_qr_code(api: Api) -> None:
    token = (await api.sign_up())["access_token"]
    factor = await enrolled(api, token, "phone")
    assert set(factor) == {"id", "type", "friendly_name", "totp"}
    totp = factor["totp"]
    # Clients show it as `data:image/svg+xml;utf-8,…`: a picture of its own, without a fragment.
    assert ElementTree.fromstring(totp["qr_code"]).tag == "{http://www.w3.org/2000/svg}svg"
    assert "#" not in totp["qr_code"]
    parsed = pyotp.parse_uri(totp["uri"])
    assert (parsed.secret, parsed.name, parsed.issuer) == (
        totp["secret"],
        "ann@example.com",
        "example.com",
    )
    user = (await api.get("/user", token=token)).json()
    (listed,) = user["factors"]
    assert (listed["id"], listed["status"]) == (factor["id"], "unverified")
    assert totp["secret"] not in str(user)


async def test_a_token_without_a_session_enrols_no_factor_whatever_it_sends(api: Api) -> None:
    id = (await api.sign_up())["user"]["id"]
    token = api.tokens.issue({"sub": id, "aud": "authenticated", "role": "authenticated"})
    bodies: list[Any] = [{"factor_type": "totp"}, []]
    for body in bodies:
        rejected = await api.post("/factors", body, token=token)
        assert rejection(rejected) == (500, "unexpected_failure")
        assert rejected.json()["message"] == (
            "A valid session and a registered user are required to enroll a factor"
        )


async def test_the_name_of_another_factor_is_written_as_go_writes_it(api: Api) -> None:
    token = (await api.sign_up())["access_token"]
    await enrolled(api, token, 'my "phone"\n')
    body = {"factor_type": "totp", "friendly_name": 'my "phone"\n'}
    message = (await api.post("/factors", body, token=token)).json()["message"]
    assert message == (
        r'A factor with the friendly name "my \"phone\"\n" for this user already exists'
    )


async def test_a_code_makes_the_session_stronger_and_ends_the_weaker_ones(api: Api) -> None:
    elsewhere = await api.sign_up()
    here = (await api.sign_in()).json()
    factor = await enrolled(api, here["access_token"])
    response = (await verified(api, here["access_token"], factor)).json()
    claims = api.tokens.verify(response["access_token"])
    assert claims["aal"] == "aal2"
    assert [each["method"] for each in claims["amr"]] == ["totp", "password"]
    assert response["user"]["factors"][0]["status"] == "verified"
    assert rejection(await api.refresh(elsewhere["refresh_token"])) == (
        400,
        "refresh_token_not_found",
    )
    refreshed = (await api.refresh(response["refresh_token"])).json()
    assert api.tokens.verify(refreshed["access_token"])["aal"] == "aal2"


async def test_the_refresh_token_before_the_code_still_leads_to_the_active_one(api: Api) -> None:
    """A client that refreshed at that very moment is not taken for a thief."""
    here = await api.sign_up()
    factor = await enrolled(api, here["access_token"])
    response = (await verified(api, here["access_token"], factor)).json()
    again = (await api.refresh(here["refresh_token"])).json()
    assert again["refresh_token"] == response["refresh_token"]


async def test_a_challenge_is_good_once_and_for_a_while(api: Api) -> None:
    token = (await api.sign_up())["access_token"]
    factor = await enrolled(api, token)
    path = f"/factors/{factor['id']}"
    # A body matters to numbers alone.
    headers = {"authorization": f"Bearer {token}"}
    response = await api.client.post(f"{path}/challenge", content=b"{", headers=headers)
    challenge = response.json()
    assert challenge["type"] == "totp"
    body = {"challenge_id": challenge["id"], "code": code_of(factor)}
    responses = await asyncio.gather(
        *(api.post(f"{path}/verify", body, token=token) for _ in range(5))
    )
    assert Counter(each.status_code for each in responses) == {200: 1, 422: 4}
    challenge = (await api.post(f"{path}/challenge", token=token)).json()
    api.rows("UPDATE auth.mfa_challenges SET created_at = now() - interval '6 minutes'")
    body["challenge_id"] = challenge["id"]
    late = await api.post(f"{path}/verify", body, token=token)
    assert rejection(late) == (422, "mfa_challenge_expired")


async def test_a_challenge_that_was_met_or_is_no_id_is_rejected(api: Api) -> None:
    token = (await api.sign_up())["access_token"]
    factor = await enrolled(api, token)
    path = f"/factors/{factor['id']}"
    challenge = (await api.post(f"{path}/challenge", token=token)).json()
    body = {"challenge_id": challenge["id"], "code": code_of(factor)}
    strong = (await api.post(f"{path}/verify", body, token=token)).json()["access_token"]
    again = await api.post(f"{path}/verify", body, token=strong)
    assert rejection(again) == (422, "mfa_ip_address_mismatch")
    assert api.rows("SELECT verified_at IS NULL FROM auth.mfa_challenges") == [(False,)]
    no_id = await api.post(f"{path}/verify", {**body, "challenge_id": "7"}, token=strong)
    assert rejection(no_id) == (400, "bad_json")


async def test_codes_of_a_factor_cannot_be_tried_one_by_one(api: Api) -> None:
    token = (await api.sign_up())["access_token"]
    factor = await enrolled(api, token)
    responses = [rejection(await verified(api, token, factor, "no code")) for _ in range(20)]
    assert set(responses) == {(422, "mfa_verification_failed")}
    assert rejection(await verified(api, token, factor)) == (429, "over_request_rate_limit")


async def test_who_has_a_factor_has_to_show_it_for_what_matters(api: Api) -> None:
    token = (await api.sign_up())["access_token"]
    factor = await enrolled(api, token)
    strong = (await verified(api, token, factor)).json()["access_token"]
    weak = (await api.sign_in()).json()["access_token"]
    assert api.tokens.verify(weak)["aal"] == "aal1"
    password = {"password": "a new password"}
    assert rejection(await api.put("/user", password, token=weak)) == (401, "insufficient_aal")
    another = await api.post(
        "/factors", {"factor_type": "totp", "friendly_name": "another"}, token=weak
    )
    assert rejection(another) == (403, "insufficient_aal")
    removal = f"/factors/{factor['id']}"
    assert rejection(await api.delete(removal, token=weak)) == (422, "insufficient_aal")
    assert (await api.put("/user", password, token=strong)).status_code == 200
    assert (await api.delete(removal, token=strong)).json() == {"id": factor["id"]}
    user = (await api.get("/user", token=strong)).json()
    assert "factors" not in user


@pytest.mark.parametrize("name", ["mine", ""])
async def test_a_factors_name_is_taken_once_and_their_number_is_bounded(
    serve: ServeAuth, name: str
) -> None:
    api = await serve(mfa_max_enrolled_factors=2)
    token = (await api.sign_up())["access_token"]
    await enrolled(api, token, name)
    body = {"factor_type": "totp", "friendly_name": name}
    assert rejection(await api.post("/factors", body, token=token)) == (
        422,
        "mfa_factor_name_conflict",
    )
    await enrolled(api, token, "other")
    api.rows("UPDATE auth.mfa_factors SET status = 'verified'")  # and the session is aal1
    body = {"factor_type": "totp", "friendly_name": "third"}
    assert rejection(await api.post("/factors", body, token=token)) == (
        422,
        "too_many_enrolled_mfa_factors",
    )


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("phone", 422, "mfa_phone_enroll_not_enabled"),
        ("webauthn", 422, "mfa_webauthn_enroll_not_enabled"),
        ("carrier pigeon", 400, "validation_failed"),
    ],
)
async def test_other_kinds_of_factors_are_rejected(
    api: Api, kind: str, status: int, code: str
) -> None:
    token = (await api.sign_up())["access_token"]
    response = await api.post("/factors", {"factor_type": kind}, token=token)
    assert rejection(response) == (status, code)


async def test_a_factor_of_someone_else_is_not_there(api: Api) -> None:
    factor = await enrolled(api, (await api.sign_up())["access_token"])
    other = (await api.sign_up("bob@example.com"))["access_token"]
    path = f"/factors/{factor['id']}"
    assert rejection(await api.post(f"{path}/challenge", token=other)) == (
        404,
        "mfa_factor_not_found",
    )
    assert rejection(await api.delete(path, token=other)) == (404, "mfa_factor_not_found")


async def test_an_administrator_lists_renames_and_removes_factors(api: Api) -> None:
    signed_in = await api.sign_up()
    factor = await enrolled(api, signed_in["access_token"], "phone")
    path = f"/admin/users/{signed_in['user']['id']}/factors"
    (listed,) = (await api.get(path, token=SERVICE)).json()
    assert listed["friendly_name"] == "phone"
    assert "secret" not in listed
    one = f"{path}/{factor['id']}"
    renamed = (await api.put(one, {"friendly_name": "watch"}, token=SERVICE)).json()
    assert renamed["friendly_name"] == "watch"
    assert (await api.delete(one, token=SERVICE)).json()["id"] == factor["id"]
    assert (await api.get(path, token=SERVICE)).json() == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/factors"),
        ("POST", f"/factors/{UUID(int=1)}/challenge"),
        ("POST", f"/factors/{UUID(int=1)}/verify"),
        ("DELETE", f"/factors/{UUID(int=1)}"),
    ],
)
async def test_an_anonymous_user_has_no_factors(serve: ServeAuth, method: str, path: str) -> None:
    """A factor would stay with the account that they become."""
    api = await serve(external_anonymous_users_enabled=True)
    token = (await api.post("/signup", {})).json()["access_token"]
    response = await api.call(method, path, {"factor_type": "totp"}, token=token)
    assert rejection(response) == (403, "no_authorization")


@pytest.mark.parametrize("by_admin", [False, True])
async def test_a_session_without_its_factor_does_not_claim_it(api: Api, by_admin: bool) -> None:
    signed_up = await api.sign_up()
    factor = await enrolled(api, signed_up["access_token"])
    strong = (await verified(api, signed_up["access_token"], factor)).json()
    path, token = f"/factors/{factor['id']}", strong["access_token"]
    if by_admin:
        path, token = f"/admin/users/{signed_up['user']['id']}{path}", SERVICE
    assert (await api.delete(path, token=token)).status_code == 200
    refreshed = (await api.refresh(strong["refresh_token"])).json()
    claims = api.tokens.verify(refreshed["access_token"])
    assert claims["aal"] == "aal1"
    assert [each["method"] for each in claims["amr"]] == ["password"]


async def test_the_uri_of_a_factor_names_the_site_with_its_port_as_supabase_does(
    serve: ServeAuth,
) -> None:
    api = await serve(site_url="http://localhost:3000/app")
    token = (await api.sign_up("ann+a@example.com"))["access_token"]
    totp = (await api.post("/factors", {"factor_type": "totp"}, token=token)).json()["totp"]
    assert totp["uri"] == (
        "otpauth://totp/localhost:3000:ann+a@example.com?algorithm=SHA1&digits=6"
        f"&issuer=localhost:3000&period=30&secret={totp['secret']}"
    )


async def test_a_factor_is_verified_by_a_code_of_its_own_challenge(api: Api) -> None:
    token = (await api.sign_up())["access_token"]
    mine, other = await enrolled(api, token, "mine"), await enrolled(api, token, "other")
    challenge = (await api.post(f"/factors/{other['id']}/challenge", token=token)).json()
    path = f"/factors/{mine['id']}/verify"
    no_code = await api.post(path, {"challenge_id": challenge["id"]}, token=token)
    assert rejection(no_code) == (400, "validation_failed")
    assert no_code.json()["message"] == "Code needs to be non-empty"
    for body in ({"challenge_id": challenge["id"]}, {}):
        wrong = await api.post(path, {**body, "code": code_of(mine)}, token=token)
        assert rejection(wrong) == (422, "mfa_factor_not_found")
    unknown = await api.post(f"/factors/{UUID(int=1)}/challenge", token=token)
    assert rejection(unknown) == (404, "mfa_factor_not_found")
    assert unknown.json()["message"] == "Factor not found"


async def test_a_factor_shows_what_it_does_not_have(api: Api) -> None:
    signed_up = await api.sign_up()
    await enrolled(api, signed_up["access_token"], "mine")
    (factor,) = (await api.get("/user", token=signed_up["access_token"])).json()["factors"]
    assert (factor["phone"], factor["last_challenged_at"]) == ("", None)


async def test_a_new_number_needs_the_second_factor(serve: ServeAuth) -> None:
    api = await serve(external_phone_enabled=True, sms_autoconfirm=True)
    session = await api.sign_up()
    factor = await enrolled(api, session["access_token"])
    await verified(api, session["access_token"], factor)
    weaker = (await api.sign_in()).json()["access_token"]
    response = await api.put("/user", {"phone": "4915550102"}, token=weaker)
    assert rejection(response) == (401, "insufficient_aal")
