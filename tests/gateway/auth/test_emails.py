"""Letters: links that are followed, codes that are typed, and who gets one."""

import asyncio
from collections import Counter

import psycopg
import pytest
from tests.gateway.auth.api import PASSWORD, SERVICE, Api, rejection
from tests.gateway.auth.conftest import ServeAuth
from tests.gateway.auth.links import PKCE, SITE, follow, sent_to, verify


async def test_the_link_of_a_sign_up_confirms_the_address_and_signs_in(confirming: Api) -> None:
    await confirming.sign_up()
    place, query, session = sent_to(await follow(confirming, confirming.message().link))
    assert (place, query) == (SITE, {})
    assert session["type"] == "signup"
    assert session["token_type"] == "bearer"
    assert session["expires_in"] == "3600"
    user = (await confirming.get("/user", token=session["access_token"])).json()
    assert user["email_confirmed_at"]
    assert user["user_metadata"]["email_verified"] is True
    assert user["identities"][0]["identity_data"]["email_verified"] is True
    assert (await confirming.refresh(session["refresh_token"])).status_code == 200
    assert (await confirming.sign_in()).status_code == 200


async def test_the_fragment_of_a_session_is_marked_as_one_of_auth(confirming: Api) -> None:
    await confirming.sign_up()
    _, query, fragment = sent_to(await follow(confirming, confirming.message().link))
    assert query == {}
    assert fragment["sb"] == ""
    assert fragment["access_token"]


@pytest.mark.parametrize("query", ["", "type=signup", "token=x"])
async def test_a_link_without_type_or_token_is_rejected_in_json(api: Api, query: str) -> None:
    response = await api.get(f"/verify?{query}")
    assert rejection(response) == (400, "validation_failed")


async def test_a_link_of_an_unknown_type_is_named(api: Api) -> None:
    response = await api.client.get("/verify?type=nonsense&token=x")
    _, _, fragment = sent_to(response)
    assert fragment["error"] == "invalid_request"
    assert fragment["error_description"] == "Invalid email verification type"


async def test_a_new_address_that_another_user_took_meanwhile_is_reported(
    serve: ServeAuth,
) -> None:
    api = await serve(mailer_secure_email_change_enabled=False)
    token = (await api.sign_up())["access_token"]
    await api.put("/user", {"email": "new@example.com"}, token=token)
    link = api.message("new@example.com").link
    api.rows("UPDATE auth.users SET email_change = 'other@example.com'")
    await api.create("new@example.com")
    api.rows("UPDATE auth.users SET email_change = 'new@example.com' WHERE email_change <> ''")
    _, _, fragment = sent_to(await follow(api, link))
    assert fragment == {
        "error": "server_error",
        "error_code": "unexpected_failure",
        "error_description": "Error confirm email",
        "sb": "",
    }


async def test_looking_at_a_link_does_not_use_it_up(confirming: Api) -> None:
    """Mail scanners do that before the reader can."""
    await confirming.sign_up()
    link = confirming.message().link
    assert (await confirming.client.head(link)).status_code == 405
    assert "access_token" in sent_to(await follow(confirming, link))[2]


async def test_of_many_who_follow_a_link_at_once_one_gets_in(confirming: Api) -> None:
    await confirming.sign_up()
    link = confirming.message().link
    responses = await asyncio.gather(*(follow(confirming, link) for _ in range(10)))
    assert Counter("access_token" in sent_to(each)[2] for each in responses) == {True: 1, False: 9}


async def test_a_link_and_the_next_email_do_not_wait_for_one_another(api: Api) -> None:
    """Issuing the token of an email locks the user's row, and then revokes the token before."""
    await api.create()
    await api.post("/otp", {"email": "ann@example.com"})
    waiting = (
        "SELECT 1 FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    with psycopg.connect(api.database) as writer:
        writer.execute("SELECT 1 FROM auth.users FOR UPDATE")
        following = asyncio.create_task(follow(api, api.message().link))
        while not await asyncio.to_thread(api.rows, waiting):
            pass
        writer.execute("DELETE FROM auth.one_time_tokens")
    assert sent_to(await following)[2]["error_code"] == "otp_expired"


@pytest.mark.parametrize("kind", ["signup", "email"])
async def test_the_code_of_a_sign_up_does_what_its_link_does(confirming: Api, kind: str) -> None:
    await confirming.sign_up()
    message = confirming.message()
    response = await verify(confirming, kind, message.code)
    assert response.status_code == 200, response.text
    assert response.json()["user"]["email_confirmed_at"]
    methods = confirming.tokens.verify(response.json()["access_token"])["amr"]
    assert [each["method"] for each in methods] == ["otp"]
    assert rejection(await verify(confirming, kind, message.code)) == (403, "otp_expired")
    by_hash = await confirming.post("/verify", {"type": "signup", "token_hash": message.token})
    assert rejection(by_hash) == (403, "otp_expired")


async def test_the_token_of_a_link_can_be_posted(confirming: Api) -> None:
    await confirming.sign_up()
    body = {"type": "signup", "token_hash": confirming.message().token}
    response = await confirming.post("/verify", body)
    assert response.json()["user"]["email"] == "ann@example.com"


async def test_an_email_that_is_too_old_is_void(serve: ServeAuth) -> None:
    api = await serve(mailer_autoconfirm=False, mailer_otp_exp=60)
    await api.sign_up()
    message = api.message()
    api.rows("UPDATE auth.pending_sign_ups SET created_at = now() - interval '61 seconds'")
    assert rejection(await verify(api, "signup", message.code)) == (403, "otp_expired")
    assert "error" in sent_to(await follow(api, message.link))[2]


async def test_a_new_email_makes_the_one_before_void(confirming: Api) -> None:
    await confirming.sign_up()
    first = confirming.message()
    body = {"type": "signup", "email": "ann@example.com"}
    assert (await confirming.post("/resend", body)).json() == {}
    assert rejection(await verify(confirming, "signup", first.code)) == (403, "otp_expired")
    assert (await verify(confirming, "signup", confirming.message().code)).status_code == 200


async def test_the_identity_is_verified_by_the_email_of_a_sign_up_alone(api: Api) -> None:
    user = await api.create()
    await api.post("/otp", {"email": "ann@example.com"})
    body = {"type": "magiclink", "token_hash": api.message().token}
    assert (await api.post("/verify", body)).status_code == 200
    read = (await api.get(f"/admin/users/{user['id']}", token=SERVICE)).json()
    assert read["identities"][0]["identity_data"]["email_verified"] is False


async def test_emails_that_follow_one_another_too_soon_are_rejected(serve: ServeAuth) -> None:
    api = await serve(mailer_autoconfirm=False, smtp_max_frequency="60s")
    await api.sign_up()
    again = await api.post("/resend", {"type": "signup", "email": "ann@example.com"})
    assert rejection(again) == (429, "over_email_send_rate_limit")
    assert again.json()["message"].startswith("For security purposes")
    assert len(api.inbox.emails()) == 1


async def test_codes_cannot_be_tried_one_by_one(confirming: Api) -> None:
    await confirming.sign_up()
    code = confirming.message().code
    wrong = "000000" if code != "000000" else "111111"
    responses = [rejection(await verify(confirming, "signup", wrong)) for _ in range(20)]
    assert set(responses) == {(403, "otp_expired")}
    assert rejection(await verify(confirming, "signup", code)) == (429, "over_request_rate_limit")


async def test_codes_cannot_be_tried_all_at_once(confirming: Api) -> None:
    await confirming.sign_up()
    code = confirming.message().code
    wrong = "000000" if code != "000000" else "111111"
    responses = await asyncio.gather(*(verify(confirming, "signup", wrong) for _ in range(60)))
    assert Counter(map(rejection, responses)) == {
        (403, "otp_expired"): 20,
        (429, "over_request_rate_limit"): 40,
    }


async def test_right_codes_do_not_count_as_guesses(api: Api) -> None:
    await api.create()
    for _ in range(21):
        await api.post("/otp", {"email": "ann@example.com"})
        assert (await verify(api, "email", api.message().code)).status_code == 200


async def test_of_many_who_ask_for_an_email_at_once_none_is_rejected_for_a_new_account(
    api: Api,
) -> None:
    body = {"email": "ann@example.com"}
    responses = await asyncio.gather(*(api.post("/otp", body) for _ in range(20)))
    assert {(each.status_code, each.text) for each in responses} == {(200, "{}")}
    link = {"type": "magiclink", "email": "bob@example.com"}
    responses = await asyncio.gather(
        *(api.post("/admin/generate_link", link, token=SERVICE) for _ in range(5)),
        *(api.post("/invite", {"email": "eve@example.com"}, token=SERVICE) for _ in range(5)),
    )
    assert {each.status_code for each in responses} == {200}
    assert len(api.rows("SELECT 1 FROM auth.users")) == 3


async def test_a_magic_link_signs_in_and_makes_the_account_where_there_is_none(api: Api) -> None:
    body = {"email": "ann@example.com", "data": {"name": "Ann"}}
    assert (await api.post("/otp", body)).json() == {}
    session = (await verify(api, "email", api.message().code)).json()
    assert session["user"]["email_confirmed_at"]
    assert session["user"]["user_metadata"]["name"] == "Ann"
    await api.post("/magiclink", {"email": "ann@example.com"})
    _, _, fragment = sent_to(await follow(api, api.message().link))
    assert fragment["type"] == "magiclink"


async def test_an_unknown_address_gets_no_account_where_none_is_to_be_created(api: Api) -> None:
    body = {"email": "ann@example.com", "create_user": False}
    assert rejection(await api.post("/otp", body)) == (422, "otp_disabled")
    assert not api.rows("SELECT 1 FROM auth.users")


async def test_recovery_signs_in_so_that_a_new_password_can_be_chosen(api: Api) -> None:
    await api.sign_up()
    assert (await api.post("/recover", {"email": "ann@example.com"})).json() == {}
    _, _, session = sent_to(await follow(api, api.message().link))
    assert session["type"] == "recovery"
    body = {"password": "a new password"}
    assert (await api.put("/user", body, token=session["access_token"])).status_code == 200
    assert (await api.sign_in(password="a new password")).status_code == 200
    assert rejection(await api.sign_in()) == (400, "invalid_credentials")


async def test_nothing_tells_that_an_address_is_unknown(api: Api) -> None:
    for path, body in (
        ("/recover", {"email": "nobody@example.com"}),
        ("/resend", {"email": "nobody@example.com", "type": "signup"}),
    ):
        response = await api.post(path, body)
        assert (response.status_code, response.json()) == (200, {})
    assert not api.inbox.emails()


async def test_a_link_for_a_banned_user_lets_nobody_in(confirming: Api) -> None:
    """The ban voids the emails that are under way, and one that is sent later opens nothing."""
    user = await confirming.sign_up()
    earlier = confirming.message()
    await confirming.ban(user["id"])
    assert rejection(await verify(confirming, "signup", earlier.code)) == (403, "otp_expired")
    await confirming.post("/recover", {"email": "ann@example.com"})
    later = confirming.message()
    assert rejection(await verify(confirming, "recovery", later.code)) == (403, "user_banned")


@pytest.mark.parametrize("by", ["an administrator", "the application"])
async def test_an_email_to_an_address_that_is_not_the_users_any_more_is_void(
    api: Api, by: str
) -> None:
    user = await api.create()
    await api.post("/recover", {"email": "ann@example.com"})
    if by == "the application":
        api.rows("UPDATE auth.users SET email = 'new@example.com'")
    else:
        body = {"email": "new@example.com"}
        await api.put(f"/admin/users/{user['id']}", body, token=SERVICE)
    response = await api.post("/verify", {"type": "recovery", "token_hash": api.message().token})
    assert rejection(response) == (403, "otp_expired")


@pytest.mark.parametrize("more", [{}, PKCE])
async def test_a_recovery_executes_as_many_statements_for_an_address_without_an_account(
    serve: ServeAuth, trips: list[int], more: dict[str, str]
) -> None:
    api = await serve(smtp_max_frequency="0s")
    await api.create()
    counts = set()
    for email in ("ann@example.com", "ann@example.com", "bob@example.com", "bob@example.com"):
        trips.clear()
        assert (await api.post("/recover", {"email": email, **more})).json() == {}
        counts.add((len(trips), sum(trips)))
    assert len(counts) == 1
    assert counts.pop() >= (4, 9)
    for table in ("pending_sign_ups", "flow_state", "one_time_tokens"):
        rows = api.rows(f"SELECT count(*) FROM auth.{table}")
        assert rows == [(2 if table == "flow_state" and more else table == "one_time_tokens",)]


@pytest.mark.parametrize("more", [{}, PKCE])
@pytest.mark.parametrize("kind", ["signup", "email_change"])
async def test_what_is_not_sent_again_executes_as_many_statements_without_an_account(
    serve: ServeAuth, trips: list[int], kind: str, more: dict[str, str]
) -> None:
    api = await serve(mailer_autoconfirm=False, smtp_max_frequency="0s")
    await api.create()
    counts = set()
    for email in ("ann@example.com", "bob@example.com"):
        trips.clear()
        assert (await api.post("/resend", {"type": kind, "email": email, **more})).json() == {}
        counts.add((len(trips), sum(trips)))
    assert len(counts) == 1
    assert counts.pop() >= (4, 9)


@pytest.mark.parametrize("more", [{}, PKCE])
@pytest.mark.parametrize("both", [True, False])
async def test_a_change_that_is_sent_again_takes_as_many_round_trips_as_what_is_not(
    serve: ServeAuth, trips: list[int], both: bool, more: dict[str, str]
) -> None:
    api = await serve(mailer_secure_email_change_enabled=both)
    token = (await api.sign_up())["access_token"]
    await api.put("/user", {"email": "new@example.com"}, token=token)
    counts = set()
    for email in ("ann@example.com", "bob@example.com"):
        sent = len(api.inbox.emails())
        trips.clear()
        body = {"type": "email_change", "email": email, **more}
        assert (await api.post("/resend", body)).json() == {}
        counts.add(len(trips))
        is_pending = email.startswith("ann")
        assert len(api.inbox.emails()) - sent == is_pending * (2 if both else 1)
    assert len(counts) == 1


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("http://127.0.0.1:3000/welcome?tab=1", "http://127.0.0.1:3000/welcome"),
        ("https://app.example.com/in", "https://app.example.com/in"),
        ("https://a.b.example.com/in", SITE),
        ("https://app.example.com.evil.org/in", SITE),
        ("https://evil.org/https://app.example.com/in", SITE),
        ("http://evil.org\\@127.0.0.1:3000/", SITE),
        ("https://evil\\x.example.com/in", SITE),
        ("http://127.0.0.1:3000@evil.org/", SITE),
        ("//evil.org", SITE),
        ("javascript:alert(1)", SITE),
        ("myapp://callback", "myapp://callback"),
        ("myapp://", "myapp://"),
    ],
)
async def test_people_are_sent_only_where_it_is_allowed(
    serve: ServeAuth, asked: str, expected: str
) -> None:
    allowed = ("https://*.example.com/**", "myapp://callback", "myapp://")
    api = await serve(uri_allow_list=allowed)
    await api.create()
    response = await api.client.post(
        "/otp", params={"redirect_to": asked}, json={"email": "ann@example.com"}
    )
    assert response.status_code == 200
    place, query, fragment = sent_to(await follow(api, api.message().link))
    assert place == expected
    assert "access_token" in fragment
    assert query == ({"tab": "1"} if "tab" in asked else {})


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"type": "signup"},
        {"type": "nonsense", "token_hash": "x"},
        {"type": "signup", "token": "123456"},
        {"type": "signup", "token": "123456", "token_hash": "x", "email": "ann@example.com"},
        {"type": "signup", "token_hash": "x", "email": "ann@example.com"},
    ],
)
async def test_a_verification_that_cannot_be_is_rejected(api: Api, body: dict[str, str]) -> None:
    assert rejection(await api.post("/verify", body)) == (400, "validation_failed")


async def test_an_invitation_is_accepted_by_its_link(api: Api) -> None:
    body = {"email": "ann@example.com", "data": {"team": "blue"}}
    invited = (await api.post("/invite", body, token=SERVICE)).json()
    assert invited["invited_at"]
    assert "email_confirmed_at" not in invited
    _, _, session = sent_to(await follow(api, api.message().link))
    assert session["type"] == "invite"
    token = session["access_token"]
    user = (await api.put("/user", {"password": PASSWORD}, token=token)).json()
    assert user["user_metadata"]["team"] == "blue"
    assert (await api.sign_in()).status_code == 200
    again = await api.post("/invite", body, token=SERVICE)
    assert rejection(again) == (422, "email_exists")
