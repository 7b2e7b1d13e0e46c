"""Refresh tokens: each is good once, and what happens to those that come again."""

import asyncio

import httpx
import pytest
from tests.gateway.auth.api import PASSWORD, Api, rejection
from tests.gateway.auth.conftest import ServeAuth


@pytest.fixture
async def strict(serve: ServeAuth) -> Api:
    """No grace for used tokens: what counts is their place in the chain."""
    return await serve(security_refresh_token_reuse_interval=0)


async def refreshed(api: Api, token: str) -> str:
    response = await api.refresh(token)
    assert response.status_code == 200, response.text
    value: str = response.json()["refresh_token"]
    return value


async def test_a_refresh_continues_the_session(api: Api) -> None:
    first = await api.sign_up()
    second = (await api.refresh(first["refresh_token"])).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert second["user"]["id"] == first["user"]["id"]
    claims = [api.tokens.verify(each["access_token"]) for each in (first, second)]
    assert claims[0]["session_id"] == claims[1]["session_id"]
    assert claims[0]["amr"] == claims[1]["amr"]


async def test_the_headers_of_a_response_name_its_session(api: Api) -> None:
    def named(response: httpx.Response) -> list[str | None]:
        names = ("user-id", "session-id", "refresh-token-prefix", "refresh-token-reuse")
        return [response.headers.get(f"sb-auth-{name}") for name in names]

    def expected(response: httpx.Response) -> list[str | None]:
        session = response.json()
        claims = api.tokens.verify(session["access_token"])
        return [claims["sub"], claims["session_id"], session["refresh_token"][:5]]

    body = {"email": "ann@example.com", "password": PASSWORD}
    signed_up = await api.post("/signup", body)
    signed_in = await api.sign_in()
    for response in (signed_up, signed_in):
        assert named(response) == [*expected(response), None]
    token = signed_in.json()["refresh_token"]
    continued, again = [await api.refresh(token) for _ in range(2)]
    assert named(continued) == [*expected(continued), "false"]
    assert named(again) == [*expected(continued), None]
    token = signed_in.json()["access_token"]
    assert named(await api.get("/user", token=token)) == [None] * 4


async def test_a_session_is_used_from_where_it_was_refreshed_last(api: Api) -> None:
    token = (await api.sign_up())["refresh_token"]
    api.client.headers["user-agent"] = "a newer browser"
    await refreshed(api, token)
    assert api.rows("SELECT user_agent FROM auth.sessions") == [("a newer browser",)]


async def test_the_parent_of_the_active_token_gets_the_active_one(strict: Api) -> None:
    first = (await strict.sign_up())["refresh_token"]
    second = await refreshed(strict, first)
    assert await refreshed(strict, first) == second


async def test_many_refreshes_of_one_token_at_once_all_get_the_active_one(api: Api) -> None:
    first = (await api.sign_up())["refresh_token"]
    tokens = await asyncio.gather(*(refreshed(api, first) for _ in range(20)))
    assert len(set(tokens)) == 1
    active = api.rows("SELECT 1 FROM auth.refresh_tokens WHERE NOT revoked")
    assert len(active) == 1


async def test_no_refresh_at_the_moment_of_a_new_password_outlives_it(api: Api) -> None:
    here = await api.sign_up()
    elsewhere = (await api.sign_in()).json()["refresh_token"]
    body = {"password": "a new password"}
    changed, *refreshed = await asyncio.gather(
        api.put("/user", body, token=here["access_token"]),
        *(api.refresh(elsewhere) for _ in range(20)),
    )
    assert changed.status_code == 200
    tokens = {each.json()["refresh_token"] for each in refreshed if each.status_code == 200}
    for token in {elsewhere, *tokens}:
        assert rejection(await api.refresh(token)) == (400, "refresh_token_not_found")


async def test_inside_the_interval_an_older_token_gets_the_active_one_too(api: Api) -> None:
    first = (await api.sign_up())["refresh_token"]
    third = await refreshed(api, await refreshed(api, first))
    assert await refreshed(api, first) == third


async def test_a_token_that_was_used_long_before_revokes_the_whole_family(strict: Api) -> None:
    signed_in = await strict.sign_up()
    first = signed_in["refresh_token"]
    third = await refreshed(strict, await refreshed(strict, first))
    assert rejection(await strict.refresh(first)) == (400, "refresh_token_already_used")
    assert rejection(await strict.refresh(third)) == (400, "refresh_token_already_used")
    assert not strict.rows("SELECT 1 FROM auth.refresh_tokens WHERE NOT revoked")


async def test_the_users_other_sessions_outlive_a_stolen_token(strict: Api) -> None:
    first = (await strict.sign_up())["refresh_token"]
    elsewhere = (await strict.sign_in()).json()["refresh_token"]
    await refreshed(strict, await refreshed(strict, first))
    assert rejection(await strict.refresh(first)) == (400, "refresh_token_already_used")
    await refreshed(strict, elsewhere)


async def test_without_rotation_a_used_token_is_rejected_and_the_family_lives(
    serve: ServeAuth,
) -> None:
    api = await serve(
        security_refresh_token_reuse_interval=0, security_refresh_token_rotation_enabled=False
    )
    first = (await api.sign_up())["refresh_token"]
    third = await refreshed(api, await refreshed(api, first))
    assert rejection(await api.refresh(first)) == (400, "refresh_token_already_used")
    await refreshed(api, third)


@pytest.mark.parametrize(
    ("token", "code"),
    [
        ("unknown", "refresh_token_not_found"),
        ("\ufffe", "refresh_token_not_found"),
        ("", "validation_failed"),
    ],
)
async def test_a_token_that_is_none_is_rejected(api: Api, token: str, code: str) -> None:
    assert rejection(await api.refresh(token)) == (400, code)


async def test_a_session_that_was_left_for_too_long_is_over(serve: ServeAuth) -> None:
    api = await serve(sessions_inactivity_timeout="1h")
    token = (await api.sign_up())["refresh_token"]
    api.rows("UPDATE auth.refresh_tokens SET created_at = now() - interval '2 hours'")
    assert rejection(await api.refresh(token)) == (400, "session_expired")


async def test_sessions_that_came_from_supabase_are_continued(strict: Api) -> None:
    """There, tokens are short and stored as they are."""
    await strict.sign_up()
    strict.rows("UPDATE auth.refresh_tokens SET token = 'kx3mqzt7bw4p'")
    continued = await strict.refresh("kx3mqzt7bw4p")
    assert continued.status_code == 200, continued.text
    again = await strict.refresh("kx3mqzt7bw4p")
    assert again.json()["refresh_token"] == continued.json()["refresh_token"]
    assert (await strict.refresh(continued.json()["refresh_token"])).status_code == 200


async def test_what_the_database_holds_of_a_token_is_none(api: Api) -> None:
    await api.sign_up()
    ((stored,),) = api.rows("SELECT token FROM auth.refresh_tokens")
    assert rejection(await api.refresh(stored)) == (400, "refresh_token_not_found")


async def test_no_secret_is_stored_as_it_is(confirming: Api) -> None:
    await confirming.create()
    signed_in = (await confirming.sign_in()).json()
    second = await refreshed(confirming, signed_in["refresh_token"])
    await confirming.post("/recover", {"email": "ann@example.com"})
    message = confirming.message()
    stored = str(
        confirming.rows("SELECT * FROM auth.refresh_tokens, auth.one_time_tokens, auth.users")
    )
    for secret in (signed_in["refresh_token"], second, message.token, message.code):
        assert secret not in stored


async def test_a_session_ends_with_its_timebox_however_often_it_is_refreshed(
    serve: ServeAuth,
) -> None:
    api = await serve(sessions_timebox="1h")
    token = await refreshed(api, (await api.sign_up())["refresh_token"])
    api.rows("UPDATE auth.sessions SET created_at = now() - interval '59 minutes'")
    token = await refreshed(api, token)
    api.rows("UPDATE auth.sessions SET created_at = now() - interval '61 minutes'")
    response = await api.refresh(token)
    assert rejection(response) == (400, "session_expired")
    assert response.json()["message"] == "Invalid Refresh Token: Session Expired"


async def test_a_session_without_the_second_factor_of_its_user_lasts_so_long_and_no_longer(
    serve: ServeAuth,
) -> None:
    api = await serve(sessions_allow_low_aal="1h")
    signed_up = await api.sign_up()
    enrolled = {"factor_type": "totp", "friendly_name": ""}
    await api.post("/factors", enrolled, token=signed_up["access_token"])
    old = "UPDATE auth.sessions SET created_at = now() - interval '61 minutes'"
    api.rows(old)
    token = await refreshed(api, signed_up["refresh_token"])
    api.rows("UPDATE auth.mfa_factors SET status = 'verified'")
    response = await api.refresh(token)
    assert rejection(response) == (400, "session_expired")
    assert response.json()["message"] == (
        "Invalid Refresh Token: Session Expired (Low AAL: User Needs MFA Verification)"
    )
    api.rows("UPDATE auth.sessions SET aal = 'aal2'")
    token = await refreshed(api, token)
    api.rows("UPDATE auth.sessions SET aal = 'aal1', created_at = now() - interval '59 minutes'")
    await refreshed(api, token)


async def test_an_access_token_ends_with_a_session_that_lacks_the_second_factor(
    serve: ServeAuth,
) -> None:
    api = await serve(sessions_allow_low_aal="10m")
    signed_up = await api.sign_up()
    assert signed_up["expires_in"] == 3600
    enrolled = {"factor_type": "totp", "friendly_name": ""}
    await api.post("/factors", enrolled, token=signed_up["access_token"])
    api.rows("UPDATE auth.mfa_factors SET status = 'verified'")
    api.rows("UPDATE auth.sessions SET created_at = now() - interval '4 minutes'")
    continued = (await api.refresh(signed_up["refresh_token"])).json()
    signed_in = (await api.sign_in()).json()
    for session, lasts in ((continued, 360), (signed_in, 600)):
        assert lasts - 30 < session["expires_in"] <= lasts
        claims = api.tokens.verify(session["access_token"])
        assert abs(claims["exp"] - session["expires_at"]) <= 1


async def test_a_session_that_was_not_used_says_so(serve: ServeAuth) -> None:
    api = await serve(sessions_inactivity_timeout="1h")
    token = (await api.sign_up())["refresh_token"]
    api.rows("UPDATE auth.refresh_tokens SET created_at = now() - interval '61 minutes'")
    response = await api.refresh(token)
    assert rejection(response) == (400, "session_expired")
    assert response.json()["message"] == "Invalid Refresh Token: Session Expired (Inactivity)"


async def test_a_newer_session_of_the_user_ends_the_older_one(serve: ServeAuth) -> None:
    api = await serve(sessions_single_per_user=True)
    older = (await api.sign_up())["refresh_token"]
    other_user = (await api.sign_up("bob@example.com"))["refresh_token"]
    newer = (await api.sign_in()).json()["refresh_token"]
    response = await api.refresh(older)
    assert rejection(response) == (400, "session_expired")
    assert response.json()["message"] == (
        "Invalid Refresh Token: Session Expired (Revoked by Newer Login)"
    )
    for token in (newer, other_user):
        await refreshed(api, token)


async def test_a_session_has_no_time_of_a_refresh_before_the_first(api: Api) -> None:
    token = (await api.sign_up())["refresh_token"]
    assert api.rows("SELECT refreshed_at FROM auth.sessions") == [(None,)]
    await refreshed(api, token)
    ((refreshed_at,),) = api.rows("SELECT refreshed_at FROM auth.sessions")
    assert refreshed_at is not None
