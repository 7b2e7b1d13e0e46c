"""Hooks that send emails and text messages."""

from typing import Any

from tests.gateway.auth.api import rejection
from tests.gateway.auth.conftest import ServeAuth
from tests.gateway.auth.hooks import Receiver, calling


async def test_a_hook_sends_the_codes_of_numbers(serve: ServeAuth, receiver: Receiver) -> None:
    api = await serve(
        **calling("send_sms", receiver),
        external_phone_enabled=True,
        sms_max_frequency="5s",
        sms_otp_length=8,
    )
    assert (await api.post("/otp", {"phone": "49123"})).status_code == 200
    (event,) = receiver.events
    assert (event["user"]["phone"], event["sms"]["phone"]) == ("49123", "49123")
    assert len(event["sms"]["otp"]) == 8
    too_soon = await api.post("/otp", {"phone": "49123"})
    assert rejection(too_soon) == (429, "over_sms_send_rate_limit")
    body = {"type": "sms", "phone": "49123", "token": event["sms"]["otp"]}
    assert (await api.post("/verify", body)).json()["user"]["phone_confirmed_at"]
    assert rejection(await api.post("/verify", body)) == (403, "otp_expired")


async def test_a_project_sends_so_many_text_messages_in_an_hour(
    serve: ServeAuth, receiver: Receiver
) -> None:
    api = await serve(
        **calling("send_sms", receiver),
        external_phone_enabled=True,
        sms_test_otp="4915550100:123456",
        rate_limit_sms_sent="1",
    )
    assert (await api.post("/otp", {"phone": "4915550101"})).status_code == 200
    over = await api.post("/otp", {"phone": "4915550102"})
    assert rejection(over) == (429, "over_sms_send_rate_limit")
    assert len(receiver.events) == 1
    assert (await api.post("/otp", {"phone": "4915550100"})).status_code == 200


async def sent(receiver: Receiver) -> dict[str, Any]:
    """What the hook gets of the next email, which goes out after the response."""
    data: dict[str, Any] = (await receiver.queue.get())["email_data"]
    return data


async def test_a_hook_sends_the_emails(serve: ServeAuth, receiver: Receiver) -> None:
    site = "https://example.com"
    api = await serve(**calling("send_email", receiver), mailer_autoconfirm=False, site_url=site)
    await api.sign_up()
    data = await sent(receiver)
    assert receiver.events[0]["user"]["email"] == "ann@example.com"
    assert (data["email_action_type"], data["site_url"], data["redirect_to"]) == (
        "signup",
        site,
        site,
    )
    body = {"type": "signup", "token_hash": data["token_hash"]}
    token = (await api.post("/verify", body)).json()["access_token"]
    await api.post("/recover", {"email": "ann@example.com"})
    data = await sent(receiver)
    body = {"type": "recovery", "email": "ann@example.com", "token": data["token"]}
    assert (data["email_action_type"], data["token_new"]) == ("recovery", "")
    assert (await api.post("/verify", body)).status_code == 200
    await api.post("/recover", {"email": "nobody@example.com"})
    await api.sign_up()
    await api.put("/user", {"email": "new@example.com"}, token=token)
    data = await sent(receiver)
    assert data["email_action_type"] == "email_change"
    for email, code in (("ann@example.com", "token"), ("new@example.com", "token_new")):
        body = {"type": "email_change", "email": email, "token": data[code]}
        assert (await api.post("/verify", body)).status_code == 200
    assert (await api.get("/user", token=token)).json()["email"] == "new@example.com"
    assert api.inbox.emails() == []


async def test_the_hashes_of_a_new_address_are_named_the_other_way_round(
    serve: ServeAuth, receiver: Receiver
) -> None:
    api = await serve(**calling("send_email", receiver), mailer_autoconfirm=False)
    await api.create()
    token = (await api.sign_in()).json()["access_token"]
    await api.put("/user", {"email": "new@example.com"}, token=token)
    data = await sent(receiver)
    body = {"type": "email_change", "email": "ann@example.com", "token": data["token"]}
    assert (await api.post("/verify", body)).status_code == 200
    current = {"type": "email_change", "token_hash": data["token_hash_new"]}
    assert rejection(await api.post("/verify", current)) == (403, "otp_expired")
    new = {"type": "email_change", "token_hash": data["token_hash"]}
    assert (await api.post("/verify", new)).json()["user"]["email"] == "new@example.com"
