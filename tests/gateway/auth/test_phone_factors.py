"""Second factors by text message."""

from typing import Any

import httpx
import jwt
import psycopg
import pytest
from tests.gateway.auth.api import Api, rejection
from tests.gateway.auth.conftest import ServeAuth

PHONE, CODE = "4915550100", "123456"
ON = {"mfa_phone_enroll_enabled": True, "mfa_phone_verify_enabled": True}
TESTED: dict[str, Any] = {**ON, "sms_test_otp": f"{PHONE}:{CODE}", "mfa_phone_max_frequency": "0s"}


async def enroll(api: Api, token: str, phone: str = f"+{PHONE}", name: str = "") -> httpx.Response:
    body = {"factor_type": "phone", "friendly_name": name, "phone": phone}
    return await api.post("/factors", body, token=token)


async def challenge(api: Api, token: str, id: str, **body: str) -> httpx.Response:
    return await api.post(f"/factors/{id}/challenge", body, token=token)


async def verify(api: Api, token: str, id: str, code: str = CODE) -> httpx.Response:
    challenged = await challenge(api, token, id)
    assert challenged.json()["type"] == "phone"
    body = {"challenge_id": challenged.json()["id"], "code": code}
    return await api.post(f"/factors/{id}/verify", body, token=token)


def claims_of(session: dict[str, Any]) -> dict[str, Any]:
    return jwt.decode(session["access_token"], options={"verify_signature": False})


async def test_the_code_of_a_message_makes_the_session_stronger(serve: ServeAuth) -> None:
    api = await serve(**TESTED)
    token = (await api.sign_up())["access_token"]
    enrolled = await enroll(api, token, name="mine")
    factor = enrolled.json()
    assert factor == {
        "id": factor["id"],
        "type": "phone",
        "friendly_name": "mine",
        "phone": f"+{PHONE}",
    }
    wrong = await verify(api, token, factor["id"], "000000")
    assert rejection(wrong) == (422, "mfa_verification_failed")
    assert wrong.json()["message"] == "Invalid MFA Phone code entered"
    session = (await verify(api, token, factor["id"])).json()
    claims = claims_of(session)
    assert (claims["aal"], [each["method"] for each in claims["amr"]]) == (
        "aal2",
        ["mfa/phone", "password"],
    )
    (shown,) = session["user"]["factors"]
    assert (shown["factor_type"], shown["status"], shown["phone"]) == ("phone", "verified", PHONE)
    again = await enroll(api, session["access_token"], name="another")
    assert rejection(again) == (422, "mfa_verified_factor_exists")
    own = f"/factors/{factor['id']}"
    assert (await api.delete(own, token=session["access_token"])).status_code == 200
    claims = claims_of((await api.refresh(session["refresh_token"])).json())
    assert (claims["aal"], [each["method"] for each in claims["amr"]]) == ("aal1", ["password"])


async def test_a_number_that_is_not_verified_is_enrolled_anew(serve: ServeAuth) -> None:
    api = await serve(**TESTED)
    token = (await api.sign_up())["access_token"]
    first = (await enroll(api, token)).json()["id"]
    assert (await enroll(api, token)).json()["id"] != first
    assert len((await api.get("/user", token=token)).json()["factors"]) == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"phone": ""}, "Phone number required to enroll Phone factor"),
        ({"phone": "nonsense"}, "Invalid phone number format (E.164 required)"),
    ],
)
async def test_a_number_is_needed(serve: ServeAuth, body: dict[str, str], message: str) -> None:
    api = await serve(**TESTED)
    token = (await api.sign_up())["access_token"]
    rejected = await enroll(api, token, **body)
    assert rejection(rejected) == (400, "validation_failed")
    assert rejected.json()["message"] == message


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({}, "mfa_phone_enroll_not_enabled"),
        ({"mfa_phone_enroll_enabled": True}, "mfa_phone_verify_not_enabled"),
        (ON, "unexpected_failure"),
    ],
)
async def test_what_is_switched_off_or_cannot_be_sent_is_rejected(
    serve: ServeAuth, settings: dict[str, bool], code: str
) -> None:
    api = await serve(**settings)
    token = (await api.sign_up())["access_token"]
    response = await enroll(api, token)
    if response.status_code == 200:
        response = await challenge(api, token, response.json()["id"])
    assert response.json()["code"] == code


async def test_a_hook_sends_the_code_of_each_challenge(serve: ServeAuth, database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            """
            CREATE TABLE public.messages (content jsonb);
            GRANT ALL ON public.messages TO supabase_auth_admin;
            CREATE FUNCTION public.send(event jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
            BEGIN INSERT INTO public.messages VALUES (event); RETURN '{}'; END $$;
            """
        )
    try:
        api = await serve(
            **ON,
            hook_send_sms_enabled=True,
            hook_send_sms_uri="pg-functions://postgres/public/send",
        )
        token = (await api.sign_up())["access_token"]
        id = (await enroll(api, token)).json()["id"]
        challenged = (await challenge(api, token, id, channel="pigeon")).json()["id"]
        too_soon = await challenge(api, token, id)
        assert rejection(too_soon) == (429, "over_sms_send_rate_limit")
        ((sms,),) = api.rows("SELECT content->'sms' FROM public.messages")
        assert (sms["phone"], sms["sms_type"]) == (PHONE, "mfa")
        assert sms["otp"] not in str(api.rows("SELECT * FROM auth.mfa_challenges"))
        wrong = {"challenge_id": challenged, "code": "another"}
        rejected = await api.post(f"/factors/{id}/verify", wrong, token=token)
        assert rejection(rejected) == (422, "mfa_verification_failed")
        body = {"challenge_id": challenged, "code": sms["otp"]}
        verified = await api.post(f"/factors/{id}/verify", body, token=token)
        assert claims_of(verified.json())["aal"] == "aal2"
        used = await api.post(f"/factors/{id}/verify", body, token=verified.json()["access_token"])
        assert rejection(used) == (422, "mfa_ip_address_mismatch")
    finally:
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("DROP FUNCTION public.send; DROP TABLE public.messages")
