"""Hooks of the project: functions in Postgres, and URLs that get signed requests."""

import base64
import hmac
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response
from tests.gateway.auth.api import PASSWORD, SERVICE, Api, rejection
from tests.gateway.auth.conftest import ServeAuth
from tests.gateway.auth.hooks import FUNCTION, KEY, Receiver, calling
from tests.gateway.auth.test_factors import code_of, enrolled, verified
from tests.third_parties import APP, ThirdParty, browse, registered

from amphibase.errors import ConfigurationError
from amphibase.gateway.auth.hooks.settings import HookTarget
from amphibase.gateway.auth.settings import load_auth_settings

ADDS_TEAM = "RETURN jsonb_set(event, '{claims,team}', to_jsonb(event->>'authentication_method'));"


async def test_a_function_makes_the_claims_of_every_access_token(
    serve: ServeAuth, function: Callable[[str], None]
) -> None:
    function(ADDS_TEAM)
    api = await serve(**calling("custom_access_token"), external_anonymous_users_enabled=True)

    def team(session: dict[str, Any]) -> str:
        claims = api.tokens.verify(session["access_token"])
        assert claims["sub"] == session["user"]["id"]
        return str(claims["team"])

    signed_up = await api.sign_up()
    assert team(signed_up) == "password"
    assert team((await api.sign_in()).json()) == "password"
    assert team((await api.refresh(signed_up["refresh_token"])).json()) == "token_refresh"
    assert team((await api.post("/signup", {})).json()) == "anonymous"
    await api.post("/otp", {"email": "ann@example.com"})
    body = {"type": "email", "email": "ann@example.com", "token": api.message().code}
    session = (await api.post("/verify", body)).json()
    assert team(session) == "otp"
    factor = await enrolled(api, session["access_token"])
    assert team((await verified(api, session["access_token"], factor)).json()) == "totp"


@pytest.mark.parametrize(
    ("body", "status", "code", "message"),
    [
        (
            """RETURN '{"error": {"http_code": 403, "message": "not on a Sunday"}}';""",
            403,
            "unknown",
            "not on a Sunday",
        ),
        (
            """RETURN '{"error": {"message": "out of order"}}';""",
            500,
            "unexpected_failure",
            "out of order",
        ),
        (
            "RETURN event #- '{claims,aal}';",
            500,
            "unexpected_failure",
            "output claims do not conform to the expected schema: \n- (root): aal is required\n",
        ),
        (
            "RETURN jsonb_set(event, '{claims,exp}', '\"soon\"');",
            500,
            "unexpected_failure",
            "output claims do not conform to the expected schema: \n- exp: Invalid type\n",
        ),
        ("RETURN 1 / 0;", 500, "unexpected_failure", f"Error running hook URI: {FUNCTION}"),
        (
            "PERFORM pg_sleep(5); RETURN event;",
            500,
            "unexpected_failure",
            f"Error running hook URI: {FUNCTION}",
        ),
    ],
)
async def test_without_the_claims_of_the_hook_nobody_signs_in(
    serve: ServeAuth,
    function: Callable[[str], None],
    body: str,
    status: int,
    code: str,
    message: str,
) -> None:
    function(body)
    api = await serve(**calling("custom_access_token"))
    response = await api.post("/signup", {"email": "ann@example.com", "password": PASSWORD})
    assert rejection(response) == (status, code)
    assert response.json()["message"] == message
    assert api.rows("SELECT 1 FROM auth.sessions") == []


async def test_what_a_trigger_rejects_before_a_hook_runs_is_no_failure_of_the_hook(
    serve: ServeAuth, function: Callable[[str], None]
) -> None:
    function(ADDS_TEAM)
    api = await serve(**calling("custom_access_token"))
    api.rows(
        "CREATE FUNCTION public.raising() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE EXCEPTION 'no sessions today'; END $$;"
        "CREATE TRIGGER raising BEFORE INSERT ON auth.sessions"
        " FOR EACH ROW EXECUTE FUNCTION public.raising()"
    )
    try:
        await api.create()
        credentials = {"email": "ann@example.com", "password": PASSWORD}
        rejected = await api.post(
            "/token?grant_type=password", credentials, headers={"x-supabase-api-version": ""}
        )
    finally:
        api.rows("DROP FUNCTION public.raising CASCADE")
    assert rejected.status_code == 500
    assert rejected.json() == {"code": "P0001", "message": "no sessions today"}


async def test_a_url_gets_a_signed_request(serve: ServeAuth, receiver: Receiver) -> None:
    receiver.respond = lambda event: JSONResponse({"claims": {**event["claims"], "team": 5}})
    api = await serve(**calling("custom_access_token", receiver))
    session = await api.sign_up()
    assert api.tokens.verify(session["access_token"])["team"] == 5
    ((request, content),) = receiver.requests
    assert json.loads(content)["user_id"] == session["user"]["id"]
    message_id, timestamp = request.headers["webhook-id"], request.headers["webhook-timestamp"]
    signed = f"{message_id}.{timestamp}.".encode() + content
    expected = base64.b64encode(hmac.digest(KEY, signed, "sha256")).decode()
    assert request.headers["webhook-signature"] == f"v1,{expected}"


@pytest.mark.parametrize(
    ("response", "status", "code"),
    [
        (Response("no", 400), 500, "unexpected_failure"),
        (Response("no", 503), 500, "unexpected_failure"),
        (Response("no", 503, {"retry-after": "true"}), 500, "unexpected_failure"),
        (Response("[]", media_type="application/json"), 500, "unexpected_failure"),
        (Response("{", media_type="application/json"), 500, "unexpected_failure"),
        (Response("yes", media_type="text/plain"), 400, "hook_payload_invalid_content_type"),
        (JSONResponse({"claims": "x" * 300_000}), 422, "hook_payload_over_size_limit"),
        (JSONResponse({"error": {"http_code": 418, "message": "tea"}}), 418, "unknown"),
    ],
)
async def test_a_url_that_does_not_agree_rejects(
    serve: ServeAuth, receiver: Receiver, response: Response, status: int, code: str
) -> None:
    receiver.respond = lambda event: response
    api = await serve(**calling("custom_access_token", receiver))
    body = {"email": "ann@example.com", "password": PASSWORD}
    assert rejection(await api.post("/signup", body)) == (status, code)
    assert api.rows("SELECT 1 FROM auth.sessions") == []


SignUp = Callable[[Api], Awaitable[Any]]
SIGN_UPS: dict[str, SignUp] = {
    "password": lambda api: api.post(
        "/signup", {"email": "ann@example.com", "password": PASSWORD, "data": {"a": 1}}
    ),
    "code": lambda api: api.post("/otp", {"email": "ann@example.com", "data": {"a": 1}}),
    "number": lambda api: api.post(
        "/signup", {"phone": "49123", "password": PASSWORD, "data": {"a": 1}}
    ),
    "anonymous": lambda api: api.post("/signup", {"data": {"a": 1}}),
    "invitation": lambda api: api.post(
        "/invite", {"email": "ann@example.com", "data": {"a": 1}}, token=SERVICE
    ),
}


@pytest.mark.parametrize("kind", SIGN_UPS)
@pytest.mark.parametrize("confirms", [True, False])
async def test_a_hook_rejects_users_before_they_are_added(
    serve: ServeAuth, receiver: Receiver, kind: str, confirms: bool
) -> None:
    api = await serve(
        **calling("before_user_created", receiver),
        mailer_autoconfirm=not confirms,
        external_anonymous_users_enabled=True,
        external_phone_enabled=True,
        sms_test_otp="49123:123456",
    )
    rejected = {"error": {"http_code": 403, "message": "invited only"}}
    receiver.respond = lambda event: JSONResponse(rejected)
    response = await SIGN_UPS[kind](api)
    assert rejection(response) == (403, "unknown")
    assert response.json()["message"] == "invited only"
    assert api.rows("SELECT 1 FROM auth.users") == []
    receiver.respond = lambda event: Response(status_code=204)
    assert (await SIGN_UPS[kind](api)).status_code == 200
    event = receiver.events[-1]
    assert event["metadata"]["name"] == "before-user-created"
    assert event["metadata"]["ip_address"] == "127.0.0.1"
    assert event["user"]["user_metadata"] == {"a": 1}
    assert event["user"]["is_anonymous"] is (kind == "anonymous")
    ((id,),) = api.rows("SELECT id FROM auth.users")
    assert event["user"]["id"] == str(id)


@pytest.mark.parametrize("kind", SIGN_UPS)
async def test_a_hook_gets_to_know_of_each_user_who_was_added(
    serve: ServeAuth, receiver: Receiver, kind: str
) -> None:
    api = await serve(
        **calling("after_user_created", receiver),
        mailer_autoconfirm=False,
        external_anonymous_users_enabled=True,
        external_phone_enabled=True,
        sms_test_otp="49123:123456",
    )
    stored: list[tuple[Any, ...]] = []

    def respond(event: dict[str, Any]) -> Response:
        stored.extend(api.rows("SELECT id::text FROM auth.users"))
        return Response(status_code=204)

    receiver.respond = respond
    assert (await SIGN_UPS[kind](api)).status_code == 200
    (event,) = receiver.events
    assert event["metadata"]["name"] == "after-user-created"
    assert event["metadata"]["ip_address"] == "127.0.0.1"
    assert stored == [(event["user"]["id"],)]
    assert event["user"]["user_metadata"]["a"] == 1
    if kind != "anonymous":
        await SIGN_UPS[kind](api)
        assert len(receiver.events) == 1


async def test_a_user_stays_when_the_hook_that_gets_to_know_of_it_fails(
    serve: ServeAuth, function: Callable[[str], None]
) -> None:
    function("RAISE 'broken';")
    api = await serve(**calling("after_user_created"))
    body = {"email": "ann@example.com", "password": PASSWORD}
    assert rejection(await api.post("/signup", body)) == (500, "unexpected_failure")
    assert api.rows("SELECT email FROM auth.users") == [("ann@example.com",)]
    assert (await api.sign_in()).status_code == 200


async def test_a_browser_is_sent_back_when_the_hook_that_gets_to_know_of_its_user_fails(
    serve: ServeAuth, receiver: Receiver, third_party: ThirdParty
) -> None:
    api = await serve(**registered(third_party), **calling("after_user_created", receiver))
    receiver.respond = lambda event: Response(status_code=400)
    for outcome in ("error=server_error", "access_token="):
        begun = await api.get(f"/authorize?provider=keycloak&redirect_to={APP}")
        back = await api.client.get(await browse(begun.headers["location"]))
        assert back.status_code == 302
        assert back.headers["location"].startswith(APP)
        assert outcome in back.headers["location"]
    assert len(receiver.events) == 1


async def test_a_hook_is_not_asked_about_a_user_who_exists(
    serve: ServeAuth, receiver: Receiver
) -> None:
    api = await serve(**calling("before_user_created", receiver), mailer_autoconfirm=False)
    await api.create()
    await api.sign_up()
    await api.post("/otp", {"email": "ann@example.com"})
    assert receiver.events == []


async def test_a_hook_rejects_passwords_that_were_checked(
    serve: ServeAuth, receiver: Receiver
) -> None:
    api = await serve(**calling("password_verification_attempt", receiver))
    session = await api.sign_up()
    receiver.respond = lambda event: JSONResponse({"decision": "continue"})
    assert (await api.sign_in()).status_code == 200
    assert rejection(await api.sign_in(password="wrong")) == (400, "invalid_credentials")
    assert rejection(await api.sign_in("bob@example.com")) == (400, "invalid_credentials")
    user_id = session["user"]["id"]
    assert receiver.events == [
        {"user_id": user_id, "valid": True},
        {"user_id": user_id, "valid": False},
    ]
    receiver.respond = lambda event: JSONResponse({"decision": "reject"})
    rejected = await api.sign_in()
    assert rejection(rejected) == (400, "invalid_credentials")
    assert "Further password verification attempts" in rejected.json()["message"]
    own = {"decision": "reject", "message": "Come back later"}
    receiver.respond = lambda event: JSONResponse(own)
    assert (await api.sign_in()).json()["message"] == "Come back later"
    assert (await api.get("/user", token=session["access_token"])).status_code == 200
    ends = {"decision": "reject", "should_logout_user": True}
    receiver.respond = lambda event: JSONResponse(ends)
    assert rejection(await api.sign_in()) == (400, "invalid_credentials")
    ended = await api.get("/user", token=session["access_token"])
    assert rejection(ended) == (403, "session_not_found")


async def test_what_a_function_writes_about_a_wrong_password_stays(
    serve: ServeAuth, function: Callable[[str], None]
) -> None:
    function(
        "UPDATE auth.users SET raw_app_meta_data = raw_app_meta_data || '{\"attempts\": 1}'"
        " WHERE id = (event->>'user_id')::uuid; RETURN '{\"decision\": \"reject\"}';"
    )
    api = await serve(**calling("password_verification_attempt"))
    await api.create()
    await api.sign_in(password="wrong")
    assert api.rows("SELECT raw_app_meta_data->>'attempts' FROM auth.users") == [("1",)]


async def test_a_hook_rejects_codes_of_second_factors_and_ends_the_sessions(
    serve: ServeAuth, receiver: Receiver
) -> None:
    api = await serve(**calling("mfa_verification_attempt", receiver))
    receiver.respond = lambda event: JSONResponse({"decision": "continue"})
    session = await api.sign_up()
    factor = await enrolled(api, session["access_token"])
    strong = await verified(api, session["access_token"], factor)
    assert strong.status_code == 200
    token = strong.json()["access_token"]
    wrong = await verified(api, token, factor, "no code")
    assert rejection(wrong) == (422, "mfa_verification_failed")
    event = {
        "user_id": session["user"]["id"],
        "factor_id": factor["id"],
        "factor_type": "totp",
    }
    assert receiver.events == [{**event, "valid": True}, {**event, "valid": False}]
    receiver.respond = lambda event: JSONResponse({"decision": "reject"})
    response = await verified(api, token, factor, code_of(factor))
    assert rejection(response) == (403, "mfa_verification_rejected")
    assert response.json()["message"] == "Further MFA verification attempts will be rejected."
    assert rejection(await api.get("/user", token=token)) == (403, "session_not_found")


def test_a_log_does_not_hold_the_query_of_a_hook() -> None:
    target = HookTarget("https://ann:secret@example.com/hook?key=secret")
    assert target.name == "https://example.com/hook"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"uri": None}, "GOTRUE_HOOK_SEND_SMS_URI: is missing, and the hook is enabled"),
        ({"uri": "https://example.com"}, "GOTRUE_HOOK_SEND_SMS_SECRETS: is missing"),
        ({"uri": "http://example.com"}, "GOTRUE_HOOK_SEND_SMS_URI: must start with https://"),
        ({"uri": "ftp://example.com"}, "GOTRUE_HOOK_SEND_SMS_URI: must be a URL"),
        ({"uri": 'pg-functions://p/public/a"b'}, "GOTRUE_HOOK_SEND_SMS_URI: must name a schema"),
        ({"secrets": "whsec_abc"}, "GOTRUE_HOOK_SEND_SMS_SECRETS: must be v1,whsec_"),
    ],
)
def test_a_hook_that_cannot_be_called_stops_the_start(
    settings: dict[str, Any], message: str
) -> None:
    overrides = {f"hook_send_sms_{name}": value for name, value in settings.items()}
    with pytest.raises(ConfigurationError) as caught:
        load_auth_settings(hook_send_sms_enabled=True, **overrides)
    assert caught.value.detail.startswith(message)
