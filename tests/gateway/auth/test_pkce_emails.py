"""Emails of flows with PKCE: their links give a code, which only who asked can exchange."""

import pytest
from tests.gateway.auth.api import SERVICE, Api, rejection
from tests.gateway.auth.links import PKCE, VERIFIER, follow, sent_to, verify


@pytest.mark.parametrize("body", [{}, PKCE])
async def test_a_link_is_good_once_and_its_error_is_in_the_query_only_with_pkce(
    confirming: Api, body: dict[str, str]
) -> None:
    await confirming.sign_up(**body)
    link = confirming.message().link
    await follow(confirming, link)
    _, query, fragment = sent_to(await follow(confirming, link))
    error = {
        "error": "access_denied",
        "error_code": "otp_expired",
        "error_description": "Email link is invalid or has expired",
    }
    assert query == (error if body else {})
    assert fragment == {**error, "sb": ""}


async def test_with_pkce_a_link_gives_a_code_that_only_who_asked_can_exchange(api: Api) -> None:
    await api.create()
    await api.post("/otp", {"email": "ann@example.com", **PKCE})
    message = api.message()
    assert message.token.startswith("pkce_")
    _, query, fragment = sent_to(await follow(api, message.link))
    assert set(query) == {"code"}
    assert fragment == {}
    exchange = "/token?grant_type=pkce"
    wrong = {"auth_code": query["code"], "code_verifier": VERIFIER[::-1]}
    assert rejection(await api.post(exchange, wrong)) == (400, "bad_code_verifier")
    right = {"auth_code": query["code"], "code_verifier": VERIFIER}
    session = (await api.post(exchange, right)).json()
    assert session["user"]["email"] == "ann@example.com"
    assert rejection(await api.post(exchange, right)) == (404, "flow_state_not_found")


async def test_with_pkce_the_first_of_two_emails_says_so_in_query_and_fragment(
    confirming: Api,
) -> None:
    api = confirming
    await api.create()
    token = (await api.sign_in()).json()["access_token"]
    await api.put("/user", {"email": "new@example.com", **PKCE}, token=token)
    _, query, fragment = sent_to(await follow(api, api.message().link))
    assert fragment == {**query, "sb": ""}
    assert query["message"].startswith("Confirmation link accepted")
    _, query, fragment = sent_to(await follow(api, api.message("new@example.com").link))
    assert (set(query), fragment) == ({"code"}, {})


async def test_a_code_of_a_flow_is_good_for_a_few_minutes(confirming: Api) -> None:
    await confirming.sign_up(**PKCE)
    code = sent_to(await follow(confirming, confirming.message().link))[1]["code"]
    confirming.rows("UPDATE auth.flow_state SET auth_code_issued_at = now() - interval '6 minutes'")
    body = {"auth_code": code, "code_verifier": VERIFIER}
    response = await confirming.post("/token?grant_type=pkce", body)
    assert rejection(response) == (422, "flow_state_expired")
    nothing = await confirming.post("/token?grant_type=pkce", {"auth_code": code})
    assert rejection(nothing) == (400, "validation_failed")


async def test_the_code_of_a_flow_is_void_when_its_user_is_deleted_softly(api: Api) -> None:
    user = await api.create()
    await api.post("/otp", {"email": "ann@example.com", **PKCE})
    code = sent_to(await follow(api, api.message().link))[1]["code"]
    body = {"should_soft_delete": True}
    await api.delete(f"/admin/users/{user['id']}", body, token=SERVICE)
    exchange = {"auth_code": code, "code_verifier": VERIFIER}
    response = await api.post("/token?grant_type=pkce", exchange)
    assert rejection(response) == (404, "flow_state_not_found")


async def test_the_code_of_a_pkce_email_can_be_typed_too(confirming: Api) -> None:
    await confirming.sign_up(**PKCE)
    assert (await verify(confirming, "signup", confirming.message().code)).status_code == 200
