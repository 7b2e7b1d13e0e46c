"""Which input is taken, and which is rejected with which words."""

from typing import Any

import pytest
from tests.gateway.auth.api import ANON, PASSWORD, SECRET, SERVICE, Api, rejection
from tests.gateway.auth.conftest import ServeAuth

from amphibase.gateway.app import Gateway, Mount
from amphibase.gateway.auth.service import AuthApp
from amphibase.gateway.keys import ApiKeys

EMAIL = "ann@example.com"
LONG = "x" * 73


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "message"),
    [
        (
            "/signup",
            {"email": EMAIL, "password": LONG},
            400,
            "validation_failed",
            "Password cannot be longer than 72 characters",
        ),
        (
            "/signup",
            {"email": f" {EMAIL} ", "password": PASSWORD},
            400,
            "validation_failed",
            "Unable to validate email address: invalid format",
        ),
        (
            "/otp",
            {"email": EMAIL, "channel": "whatsapp"},
            400,
            "validation_failed",
            "Channel should only be specified with Phone OTP",
        ),
        ("/magiclink", {}, 422, "validation_failed", "Password recovery requires an email"),
        (
            "/otp",
            {"code_challenge": "x" * 43},
            400,
            "validation_failed",
            "PKCE flow requires code_challenge_method and code_challenge",
        ),
        (
            "/recover",
            {"email": "ann", "code_challenge": "x"},
            400,
            "validation_failed",
            "Unable to validate email address: invalid format",
        ),
        (
            "/resend",
            {"type": "sms", "email": EMAIL},
            400,
            "validation_failed",
            "Type provided requires a phone number",
        ),
        (
            "/resend",
            {"type": "signup", "email": EMAIL, "phone": "49"},
            400,
            "validation_failed",
            "Only an email address or phone number should be provided.",
        ),
        (
            "/resend",
            {"type": "phone_change"},
            400,
            "validation_failed",
            "Missing email address or phone number",
        ),
        (
            "/resend",
            {"type": "phone_change", "phone": "4915550100"},
            400,
            "phone_provider_disabled",
            "Phone logins are disabled",
        ),
        (
            "/verify",
            {"type": "signup", "email": "ann", "token": "123456"},
            422,
            "validation_failed",
            "Invalid email format",
        ),
        (
            "/verify",
            {"type": "signup", "token_hash": "x", "redirect_to": "http://127.0.0.1:3000"},
            400,
            "validation_failed",
            "Only the token_hash and type should be provided",
        ),
        (
            "/verify",
            {"type": "nonsense", "email": EMAIL, "token": "123456"},
            403,
            "otp_expired",
            "Token has expired or is invalid",
        ),
        (
            "/verify",
            {"type": "sms", "token_hash": "x"},
            400,
            "validation_failed",
            "Invalid email verification type",
        ),
        (
            "/token?grant_type=refresh_token",
            {},
            400,
            "validation_failed",
            "Refresh token is not valid",
        ),
        (
            "/token?grant_type=id_token",
            {"provider": "google", "id_token": "x"},
            400,
            "provider_disabled",
            'Provider (issuer "https://accounts.google.com") is not enabled',
        ),
        (
            "/token?grant_type=id_token",
            {"provider": "nobody", "id_token": "x"},
            400,
            "validation_failed",
            'Custom OIDC provider "nobody" not allowed',
        ),
    ],
)
async def test_input_is_rejected_with_the_words_of_supabase(
    api: Api, path: str, body: dict[str, Any], status: int, code: str, message: str
) -> None:
    response = await api.post(path, body)
    assert response.json() == {"code": code, "message": message}
    assert response.status_code == status


@pytest.mark.parametrize("by_admin", [True, False])
async def test_a_new_password_may_have_72_bytes(api: Api, by_admin: bool) -> None:
    token = (await api.sign_up(password="x" * 72))["access_token"]
    user = (await api.get("/user", token=token)).json()
    path, bearer = (f"/admin/users/{user['id']}", SERVICE) if by_admin else ("/user", token)
    response = await api.put(path, {"password": LONG}, token=bearer)
    assert rejection(response) == (400, "validation_failed")
    created = await api.post("/admin/users", {"email": "b@c.d", "password": LONG}, token=SERVICE)
    assert rejection(created) == (400, "validation_failed")


@pytest.mark.parametrize("body", [{}, {"provider": "google"}, {"id_token": "x"}])
async def test_an_id_token_grant_without_its_parts_is_rejected_as_by_oauth(
    api: Api, body: dict[str, str]
) -> None:
    response = await api.post("/token?grant_type=id_token", body)
    missing = "provider or client_id and issuer" if "id_token" in body else "id_token"
    assert response.status_code == 400
    assert response.json() == {
        "error": "invalid request",
        "error_description": f"{missing} required",
    }


@pytest.mark.parametrize("path", ["/signup", "/otp", "/recover", "/resend", "/verify"])
async def test_a_body_that_is_empty_is_rejected(serve: ServeAuth, path: str) -> None:
    api = await serve(external_anonymous_users_enabled=True)
    response = await api.client.post(path, content=b"")
    assert (response.status_code, response.json()["error_code"]) == (400, "bad_json")
    assert api.rows("SELECT 1 FROM auth.users") == []


@pytest.mark.parametrize(
    ("path", "content", "reason"),
    [
        ("/signup", "", "unexpected end of JSON input"),
        ("/signup", '{"email"', "unexpected end of JSON input"),
        (
            "/signup",
            "{email: 1}",
            "invalid character 'e' looking for beginning of object key string",
        ),
        (
            "/signup",
            '{"email": "a",}',
            "invalid character '}' looking for beginning of object key string",
        ),
        ("/signup", '{"email" "a"}', "invalid character '\"' after object key"),
        ("/signup", '{"a": 1 "b": 2}', "invalid character '\"' after object key:value pair"),
        ("/signup", "[1 2]", "invalid character '2' after array element"),
        ("/signup", "{} {}", "invalid character '{' after top-level value"),
        ("/signup", "email=ann", "invalid character 'e' looking for beginning of value"),
        ("/signup", '{"a": NaN}', "invalid character 'N' looking for beginning of value"),
        ("/signup", "nul", "invalid character ' ' in literal null (expecting 'l')"),
        ("/signup", '{"a": trux}', "invalid character 'x' in literal true (expecting 'e')"),
        ("/signup", "[-x]", "invalid character 'x' in numeric literal"),
        ("/signup", "[1.x]", "invalid character 'x' after decimal point in numeric literal"),
        ("/signup", "[1e+]", "invalid character ']' in exponent of numeric literal"),
        ("/signup", '"a\nb"', "invalid character '\\n' in string literal"),
        ("/signup", r'"\x"', "invalid character 'x' in string escape code"),
        ("/signup", r'"\u12x4"', r"invalid character 'x' in \u hexadecimal character escape"),
        ("/signup", "[]", "json: cannot unmarshal array into Go value of type api.SignupParams"),
        ("/otp", "true", "json: cannot unmarshal bool into Go value of type api.OtpParams"),
        (
            "/signup",
            '{"email": 1}',
            "json: cannot unmarshal number into Go struct field SignupParams.email of type string",
        ),
        (
            "/signup",
            '{"Data": [], "email": 1}',
            "json: cannot unmarshal array into Go struct field SignupParams.data of type "
            "map[string]interface {}",
        ),
        (
            "/otp",
            '{"create_user": "yes"}',
            "json: cannot unmarshal string into Go struct field OtpParams.create_user of type bool",
        ),
        (
            "/token?grant_type=refresh_token",
            '{"refresh_token": {}}',
            "json: cannot unmarshal object into Go struct field "
            "RefreshTokenGrantParams.refresh_token of type string",
        ),
    ],
)
async def test_a_body_that_cannot_be_read_is_rejected_with_the_reason(
    serve: ServeAuth, path: str, content: str, reason: str
) -> None:
    api = await serve(external_anonymous_users_enabled=True)
    response = await api.client.post(path, content=content.encode())
    assert (response.status_code, response.json()["error_code"]) == (400, "bad_json")
    assert response.json()["msg"] == f"Could not parse request body as JSON: {reason}"


async def test_the_body_of_a_magic_link_is_rejected_in_words_of_its_own(api: Api) -> None:
    for content, reason in ((b"", "EOF"), (b"{", "unexpected EOF")):
        response = await api.client.post("/magiclink", content=content)
        assert response.json()["msg"] == f"Could not read verification params: {reason}"
    response = await api.client.post("/magiclink", content=b'{"email": 5}')
    assert response.json()["msg"] == (
        "Could not read verification params: json: cannot unmarshal number into Go struct field "
        "MagicLinkParams.email of type string"
    )


@pytest.mark.parametrize("content", [b"null", b'{"data": {"a": "\xff", "b": "\\ud800"}}'])
async def test_a_body_is_read_as_go_reads_it(serve: ServeAuth, content: bytes) -> None:
    api = await serve(external_anonymous_users_enabled=True)
    response = await api.client.post("/signup", content=content)
    assert response.status_code == 200
    data = {"a": "\ufffd", "b": "\ufffd"} if content != b"null" else {}
    assert response.json()["user"]["user_metadata"] == data


@pytest.mark.parametrize("email", ["\u212a@example.com", "ann@example.com\u0130"])
async def test_an_address_is_of_ascii_before_its_letters_are_made_small(
    api: Api, email: str
) -> None:
    response = await api.post("/signup", {"email": email, "password": PASSWORD})
    assert rejection(response) == (400, "validation_failed")


async def test_the_least_length_of_a_password_counts_bytes(api: Api) -> None:
    short, long = "\u00fc\u00fca", "\u00fc\u00fc\u00fc"
    response = await api.post("/signup", {"email": EMAIL, "password": short})
    assert rejection(response) == (422, "weak_password")
    response = await api.post("/signup", {"email": EMAIL, "password": long})
    assert response.status_code == 200


@pytest.mark.parametrize("contact", [{"email": "ann"}, {"phone": "abc"}])
async def test_a_code_for_what_is_no_address_is_rejected_as_for_one_without_an_account(
    serve: ServeAuth, contact: dict[str, str]
) -> None:
    api = await serve(external_phone_enabled=True)
    response = await api.post("/otp", {**contact, "create_user": False})
    assert rejection(response) == (422, "otp_disabled")
    assert rejection(await api.post("/otp", contact)) == (400, "validation_failed")


async def test_a_number_that_is_none_has_no_valid_password(serve: ServeAuth) -> None:
    api = await serve(external_phone_enabled=True)
    body = {"phone": "abc", "password": PASSWORD}
    response = await api.post("/token?grant_type=password", body)
    assert rejection(response) == (400, "invalid_credentials")


@pytest.mark.parametrize("path", ["/otp", "/magiclink"])
async def test_magic_links_can_be_switched_off(serve: ServeAuth, path: str) -> None:
    api = await serve(external_email_magic_link_enabled=False)
    response = await api.post(path, {"email": EMAIL})
    assert rejection(response) == (422, "email_provider_disabled")
    assert response.json()["message"] == "Login with magic link is disabled"


async def test_a_field_may_be_written_in_any_case(serve: ServeAuth) -> None:
    api = await serve(external_anonymous_users_enabled=True)
    body = {"Email": EMAIL, "PASSWORD": PASSWORD, "data": {"Name": "Ann"}}
    user = (await api.post("/signup", body)).json()["user"]
    assert (user["email"], user["is_anonymous"]) == (EMAIL, False)
    assert user["user_metadata"]["Name"] == "Ann"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_scheme_of_a_token_may_be_written_in_any_case(api: Api, scheme: str) -> None:
    token = (await api.sign_up())["access_token"]
    response = await api.get("/user", headers={"authorization": f"{scheme} {token}"})
    assert response.status_code == 200


async def test_a_token_may_come_from_a_clock_that_is_ahead(api: Api) -> None:
    claims = dict(api.tokens.verify((await api.sign_up())["access_token"]))
    ahead = api.tokens.issue({**claims, "iat": claims["iat"] + 600})
    assert (await api.get("/user", token=ahead)).status_code == 200


async def test_the_audience_of_a_token_is_that_of_the_request(api: Api) -> None:
    partner = {"x-jwt-aud": "partners"}
    body = {"email": EMAIL, "password": PASSWORD}
    session = (await api.post("/signup", body, headers=partner)).json()
    token = session["access_token"]
    claims = dict(api.tokens.verify(token))
    assert session["user"]["aud"] == claims["aud"] == "partners"
    assert (await api.get("/user", token=token)).status_code == 200
    del claims["aud"]
    for response in (
        await api.get("/user", token=token, headers={"x-jwt-aud": "others"}),
        await api.get("/user", token=api.tokens.issue(claims)),
    ):
        assert rejection(response) == (400, "validation_failed")
        assert response.json()["message"] == "Token audience doesn't match request audience"


@pytest.mark.parametrize(("duration", "is_set"), [("-1h", True), ("0", False), ("0s", False)])
async def test_a_ban_that_is_over_or_of_no_length_bans_nobody(
    api: Api, duration: str, is_set: bool
) -> None:
    user = await api.create()
    path = f"/admin/users/{user['id']}"
    banned = (await api.put(path, {"ban_duration": duration}, token=SERVICE)).json()
    assert ("banned_until" in banned) is is_set
    assert (await api.sign_in()).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/user"),
        ("PUT", "/user"),
        ("POST", "/logout"),
        ("GET", "/reauthenticate"),
        ("POST", "/factors"),
        ("GET", "/admin/users"),
    ],
)
async def test_an_api_key_alone_is_no_bearer_of_a_token(
    serve: ServeAuth, method: str, path: str
) -> None:
    keys = ApiKeys(SECRET, ANON, SERVICE, "sb_publishable_x", "sb_secret_x")

    def behind(service: AuthApp) -> Gateway:
        return Gateway({"/auth/v1": Mount(lambda: service, takes_api_key=False)}, keys)

    api = await serve(behind)
    response = await api.call(method, path, headers={"apikey": SERVICE})
    assert rejection(response) == (401, "no_authorization")
    assert response.json()["message"] == "This endpoint requires a valid Bearer token"
    opaque = await api.get("/admin/users", headers={"apikey": "sb_secret_x"})
    assert opaque.status_code == 200


@pytest.mark.parametrize("path", ["/recover", "/resend"])
async def test_no_email_is_sent_where_sign_in_by_email_is_off(serve: ServeAuth, path: str) -> None:
    api = await serve(external_email_enabled=False)
    await api.create()
    response = await api.post(path, {"email": EMAIL, "type": "signup"})
    assert rejection(response) == (400, "email_provider_disabled")
    assert api.inbox.emails() == []


async def test_a_channel_is_sms_where_no_hook_sends_the_messages(serve: ServeAuth) -> None:
    api = await serve(external_phone_enabled=True, sms_test_otp="4915550100:123456")
    body = {"phone": "4915550100", "password": PASSWORD}
    for path in ("/otp", "/signup"):
        rejected = await api.post(path, {**body, "channel": "whatsapp"})
        assert rejected.json()["message"].startswith("Invalid channel, supported values are")
    assert (await api.post("/otp", {**body, "channel": "sms"})).status_code == 200


async def test_single_sign_on_alone_changes_the_address_of_its_user(api: Api) -> None:
    user = await api.create()
    token = (await api.sign_in()).json()["access_token"]
    api.rows("UPDATE auth.users SET is_sso_user = true WHERE id = %s", user["id"])
    for body in ({"email": "new@example.com"}, {"password": "another password"}):
        assert rejection(await api.put("/user", body, token=token)) == (422, "user_sso_managed")
    assert (await api.put("/user", {"data": {"a": 1}}, token=token)).status_code == 200


async def test_app_metadata_are_not_the_users_to_change_not_even_to_nothing(api: Api) -> None:
    token = (await api.sign_up())["access_token"]
    assert rejection(await api.put("/user", {"app_metadata": {}}, token=token)) == (
        403,
        "not_admin",
    )


async def test_who_has_no_session_signs_out_everywhere(api: Api) -> None:
    session = await api.sign_up()
    claims = api.tokens.verify(session["access_token"])
    token = api.tokens.issue({key: claims[key] for key in claims.keys() - {"session_id"}})
    assert (await api.post("/logout?scope=local", token=token)).status_code == 204
    assert rejection(await api.get("/user", token=session["access_token"])) == (
        403,
        "session_not_found",
    )
