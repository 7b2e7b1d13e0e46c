"""Numbers and their codes, where `GOTRUE_SMS_TEST_OTP` names the codes of some."""

from typing import Any
from uuid import UUID

import pytest
from tests.gateway.auth.api import PASSWORD, SERVICE, Api, rejection
from tests.gateway.auth.conftest import ServeAuth

PHONE, CODE = "4915550100", "123456"
NEW_PHONE, NEW_CODE = "4915550101", "654321"
TEST_CODES = f"{PHONE}:{CODE},{NEW_PHONE}:{NEW_CODE}"


@pytest.fixture
async def phones(serve: ServeAuth) -> Api:
    return await serve(external_phone_enabled=True, sms_test_otp=TEST_CODES)


async def sign_up(api: Api, password: str = PASSWORD) -> dict[str, Any]:
    response = await api.post("/signup", {"phone": f"+{PHONE}", "password": password})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


async def verify(api: Api, code: str = CODE, kind: str = "sms", phone: str = PHONE) -> Any:
    return await api.post("/verify", {"type": kind, "phone": phone, "token": code})


async def sign_in(api: Api, password: str = PASSWORD, phone: str = PHONE) -> Any:
    body = {"phone": phone, "password": password}
    return await api.post("/token?grant_type=password", body)


async def test_a_sign_up_by_number_awaits_its_code(phones: Api) -> None:
    user = await sign_up(phones)
    assert (user["phone"], "phone_confirmed_at" in user) == (PHONE, False)
    assert rejection(await sign_in(phones)) == (400, "phone_not_confirmed")
    assert rejection(await verify(phones, "000000")) == (403, "otp_expired")
    session = (await verify(phones)).json()
    assert session["user"]["id"] == user["id"]
    assert session["user"]["phone_confirmed_at"]
    assert (await sign_in(phones)).status_code == 200
    again = await phones.post("/signup", {"phone": PHONE, "password": PASSWORD})
    assert rejection(again) == (422, "user_already_exists")


def shape(value: Any) -> Any:
    """The members of a response: of ids the version, of times nothing."""
    match value:
        case dict():
            return {name: shape(item) for name, item in value.items()}
        case list():
            return [shape(item) for item in value]
        case str() if len(value) == 36:
            return UUID(value).version
        case str() if "-" in value:
            return "time"
    return value


async def test_a_number_has_to_be_confirmed_before_a_code_goes_to_it(phones: Api) -> None:
    id = (await sign_up(phones))["id"]
    token = phones.tokens.issue({"sub": id, "aud": "authenticated", "role": "authenticated"})
    response = await phones.get("/reauthenticate", token=token)
    assert rejection(response) == (422, "phone_not_confirmed")
    assert response.json()["message"] == "Please verify your phone first."


async def test_whether_a_number_has_an_account_is_not_told(serve: ServeAuth) -> None:
    api = await serve(
        external_phone_enabled=True, sms_test_otp=TEST_CODES, mailer_autoconfirm=False
    )
    body = {"phone": PHONE, "password": PASSWORD, "data": {"name": "Ann"}}
    free = await api.post("/signup", body)
    assert (await verify(api)).status_code == 200
    taken = await api.post("/signup", body)
    assert taken.status_code == 200
    for name in shape(free.json()).keys() | shape(taken.json()).keys():
        assert (name, shape(taken.json()).get(name)) == (name, shape(free.json()).get(name))
    assert list(taken.json()) == list(free.json())
    assert taken.json()["id"] != free.json()["id"]
    assert taken.json()["id"] == (await api.post("/signup", body)).json()["id"]
    assert (
        api.rows(
            "SELECT payload->'traits' FROM auth.audit_log_entries"
            " WHERE payload->>'action' = 'user_repeated_signup'"
        )
        == [({"provider": "phone"},)] * 2
    )


async def test_a_code_signs_in_and_makes_the_account_if_need_be(phones: Api) -> None:
    body = {"phone": PHONE, "data": {"name": "Ann"}}
    no_account = await phones.post("/otp", {**body, "create_user": False})
    assert rejection(no_account) == (422, "otp_disabled")
    assert (await phones.post("/otp", body)).json() == {"message_id": "test-otp"}
    first = (await verify(phones)).json()["user"]
    assert first["user_metadata"]["name"] == "Ann"
    assert (await phones.post("/otp", {"phone": PHONE})).status_code == 200
    assert (await verify(phones)).json()["user"]["id"] == first["id"]


@pytest.mark.parametrize("by", ["password", "code"])
async def test_the_password_of_a_stranger_who_signed_up_first_does_not_count(
    phones: Api, by: str
) -> None:
    await sign_up(phones, "the password of a stranger")
    if by == "password":
        await sign_up(phones)
    else:
        await phones.post("/otp", {"phone": PHONE})
    assert (await verify(phones)).status_code == 200
    stranger = await sign_in(phones, "the password of a stranger")
    assert rejection(stranger) == (400, "invalid_credentials")


@pytest.mark.parametrize("autoconfirm", [False, True])
async def test_a_stranger_who_types_the_number_of_an_account_changes_nothing_of_it(
    serve: ServeAuth, autoconfirm: bool
) -> None:
    api = await serve(
        external_phone_enabled=True, sms_test_otp=TEST_CODES, sms_autoconfirm=autoconfirm
    )
    ann = {"email": "ann@example.com", "password": PASSWORD, "email_confirm": True, "phone": PHONE}
    assert (await api.post("/admin/users", ann, token=SERVICE)).status_code == 200
    again = await api.post("/signup", {"phone": PHONE, "password": "the stranger's own password"})
    assert rejection(again) == (422, "user_already_exists")
    await api.post("/otp", {"phone": PHONE})
    signed_in = await api.post(
        "/token?grant_type=password", {"email": "ann@example.com", "password": PASSWORD}
    )
    assert signed_in.status_code == 200


async def test_a_code_that_was_sent_to_an_address_proves_no_number(phones: Api) -> None:
    ann, other = {"email": "ann@example.com"}, "4915550199"
    await phones.post("/admin/users", {**ann, "phone": other}, token=SERVICE)
    assert (await phones.post("/invite", ann, token=SERVICE)).status_code == 200
    code = phones.message().code
    assert rejection(await verify(phones, code, phone=other)) == (403, "otp_expired")
    proof = {"type": "invite", "email": "ann@example.com", "token": code}
    assert (await phones.post("/verify", proof)).status_code == 200


async def test_a_new_number_is_confirmed_by_its_code(phones: Api) -> None:
    await sign_up(phones)
    token = (await verify(phones)).json()["access_token"]
    user = (await phones.put("/user", {"phone": NEW_PHONE}, token=token)).json()
    assert (user["phone"], user["new_phone"]) == (PHONE, NEW_PHONE)
    resent = await phones.post("/resend", {"type": "phone_change", "phone": PHONE})
    assert resent.json() == {"message_id": "test-otp"}
    wrong = await verify(phones, CODE, "phone_change", NEW_PHONE)
    assert rejection(wrong) == (403, "otp_expired")
    changed = (await verify(phones, NEW_CODE, "phone_change", NEW_PHONE)).json()["user"]
    assert (changed["phone"], "new_phone" in changed) == (NEW_PHONE, False)
    assert changed["identities"][0]["identity_data"]["phone"] == NEW_PHONE


async def test_a_first_number_becomes_a_provider_by_its_code(phones: Api) -> None:
    token = (await phones.sign_up())["access_token"]
    assert (await phones.put("/user", {"phone": NEW_PHONE}, token=token)).status_code == 200
    changed = (await verify(phones, NEW_CODE, "phone_change", NEW_PHONE)).json()["user"]
    assert changed["app_metadata"] == {"provider": "email", "providers": ["email", "phone"]}


async def test_a_number_of_another_user_is_rejected(phones: Api) -> None:
    await phones.create(email=None, phone=NEW_PHONE)
    await sign_up(phones)
    token = (await verify(phones)).json()["access_token"]
    taken = await phones.put("/user", {"phone": NEW_PHONE}, token=token)
    assert rejection(taken) == (422, "phone_exists")
    assert taken.json()["message"] == "A user with this phone number has already been registered"


async def test_no_code_goes_to_a_number_without_one_for_tests(phones: Api) -> None:
    response = await phones.post("/signup", {"phone": "4999", "password": PASSWORD})
    assert rejection(response) == (500, "unexpected_failure")
    assert response.json()["message"] == "Unable to get SMS provider"
    assert phones.rows("SELECT 1 FROM auth.users") == []


async def test_codes_for_tests_are_not_to_be_had_at_any_pace(serve: ServeAuth) -> None:
    api = await serve(external_phone_enabled=True, sms_test_otp=TEST_CODES, sms_max_frequency="60s")
    await sign_up(api)
    for path, body in (("/otp", {}), ("/resend", {"type": "sms"})):
        soon = await api.post(path, {"phone": PHONE, **body})
        assert rejection(soon) == (429, "over_sms_send_rate_limit")
        assert "you can only request this after 59 seconds" in soon.json()["message"]
    token = (await verify(api)).json()["access_token"]
    changes = [await api.put("/user", {"phone": NEW_PHONE}, token=token) for _ in range(2)]
    assert [change.status_code for change in changes] == [200, 429]


async def test_a_new_password_takes_the_code_of_a_number_while_it_is_valid(
    serve: ServeAuth,
) -> None:
    api = await serve(
        external_phone_enabled=True,
        sms_test_otp=TEST_CODES,
        sms_otp_exp=60,
        security_update_password_require_reauthentication=True,
    )
    await sign_up(api)
    token = (await verify(api)).json()["access_token"]
    api.rows("UPDATE auth.sessions SET created_at = now() - interval '25 hours'")
    body = {"password": "a new password", "nonce": CODE}
    for seconds, status in ((61, 422), (59, 200)):
        sent = await api.get("/reauthenticate", token=token)
        assert sent.json() == {"message_id": "test-otp"}
        api.rows(
            "UPDATE auth.one_time_tokens SET created_at = now() - make_interval(secs => %s)",
            seconds,
        )
        assert (await api.put("/user", body, token=token)).status_code == status


async def test_codes_for_tests_end_with_their_time(serve: ServeAuth) -> None:
    api = await serve(
        external_phone_enabled=True,
        sms_test_otp=TEST_CODES,
        sms_test_otp_valid_until="2020-01-01T00:00:00Z",
    )
    await api.create(email=None, phone=PHONE)
    assert rejection(await verify(api)) == (403, "otp_expired")


async def test_codes_of_a_number_cannot_be_tried_one_by_one(phones: Api) -> None:
    await sign_up(phones)
    responses = [rejection(await verify(phones, "000000")) for _ in range(20)]
    assert set(responses) == {(403, "otp_expired")}
    assert rejection(await verify(phones)) == (429, "over_request_rate_limit")


@pytest.mark.parametrize("enabled", [True, False])
async def test_a_code_of_an_unknown_number_has_expired(serve: ServeAuth, enabled: bool) -> None:
    api = await serve(external_phone_enabled=enabled)
    unknown = await verify(api)
    assert rejection(unknown) == (403, "otp_expired")
    assert unknown.json()["message"] == "Token has expired or is invalid"
    nonsense = await verify(api, phone="banana")
    assert rejection(nonsense) == (400, "validation_failed")
    assert nonsense.json()["message"] == "Invalid phone number format (E.164 required)"


@pytest.mark.parametrize("kind", ["sms", "phone_change"])
async def test_a_code_is_not_sent_again_to_an_unknown_number(phones: Api, kind: str) -> None:
    response = await phones.post("/resend", {"type": kind, "phone": "+4999"})
    assert (response.status_code, response.json()) == (200, {})


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/signup", 400, "Phone signups are disabled"),
        ("/token?grant_type=password", 422, "Phone logins are disabled"),
        ("/otp", 400, "Unsupported phone provider"),
    ],
)
async def test_numbers_are_rejected_where_they_are_disabled(
    api: Api, path: str, status: int, message: str
) -> None:
    response = await api.post(path, {"phone": PHONE, "password": PASSWORD})
    assert rejection(response) == (status, "phone_provider_disabled")
    assert response.json()["message"] == message
