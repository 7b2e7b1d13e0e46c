"""Emails that tell users what has changed of their account."""

import time
from typing import Any

import pyotp
import pytest
from tests.gateway.auth.api import PASSWORD, Api
from tests.gateway.auth.conftest import ServeAuth
from tests.gateway.auth.hooks import Receiver, calling

from amphibase.gateway.auth.email_names import NOTIFICATIONS

ON = {f"mailer_notifications_{name}_enabled": True for name in NOTIFICATIONS}
ANN, NEW = "ann@example.com", "new@example.com"
PHONES = {
    "external_phone_enabled": True,
    "sms_test_otp": "4915550100:123456,4915550101:654321",
}


def subjects(api: Api, to: str = ANN) -> list[str]:
    """The subjects of the emails to an address, oldest first."""
    return [each["subject"] for each in reversed(api.inbox.emails()) if each["to"] == [to]]


async def change_phone(api: Api, token: str, phone: str, code: str) -> None:
    assert (await api.put("/user", {"phone": phone}, token=token)).status_code == 200
    body = {"type": "phone_change", "phone": phone, "token": code}
    assert (await api.post("/verify", body)).status_code == 200


async def add_factor(api: Api, token: str) -> tuple[str, str]:
    """Add a second factor; return its id, and a token of the stronger session."""
    body = {"factor_type": "totp", "friendly_name": ""}
    factor = (await api.post("/factors", body, token=token)).json()
    path = f"/factors/{factor['id']}"
    challenge = (await api.post(f"{path}/challenge", token=token)).json()
    code = pyotp.TOTP(factor["totp"]["secret"]).now()
    body = {"challenge_id": challenge["id"], "code": code}
    session = (await api.post(f"{path}/verify", body, token=token)).json()
    return factor["id"], session["access_token"]


async def show_factor(api: Api, id: str, token: str) -> None:
    """Show a factor once more, by a code that was not used yet."""
    [(secret,)] = api.rows(f"SELECT secret FROM auth.mfa_factors WHERE id = '{id}'")
    challenge = (await api.post(f"/factors/{id}/challenge", token=token)).json()
    code = pyotp.TOTP(secret).at(time.time() + 30)
    body = {"challenge_id": challenge["id"], "code": code}
    assert (await api.post(f"/factors/{id}/verify", body, token=token)).status_code == 200


async def test_users_are_told_of_each_change(serve: ServeAuth) -> None:
    api = await serve(**ON, **PHONES, security_manual_linking_enabled=True)
    token = (await api.sign_up())["access_token"]
    await api.put("/user", {"password": "a new password"}, token=token)
    await change_phone(api, token, "4915550100", "123456")
    await change_phone(api, token, "4915550101", "654321")
    id, token = await add_factor(api, token)
    await show_factor(api, id, token)  # which changes nothing
    assert (await api.delete(f"/factors/{id}", token=token)).status_code == 200
    user = (await api.get("/user", token=token)).json()
    identity = next(each for each in user["identities"] if each["provider"] == "phone")
    path = f"/user/identities/{identity['identity_id']}"
    assert (await api.delete(path, token=token)).status_code == 200
    assert subjects(api) == [
        "Your password was changed",
        "A new way to sign in to your account",
        "Your phone number was changed",
        "A second factor was added to your account",
        "A second factor was removed from your account",
        "A way to sign in to your account was removed",
    ]
    texts = [each["text"] for each in api.inbox.emails()]
    assert "from 4915550100 to 4915550101" in texts[3]
    assert f"{ANN} can no longer be signed in to by phone" in texts[0]


async def test_the_address_that_was_an_accounts_is_told_of_the_new_one(serve: ServeAuth) -> None:
    api = await serve(**ON, mailer_secure_email_change_enabled=False)
    token = (await api.sign_up())["access_token"]
    await api.put("/user", {"email": NEW}, token=token)
    assert subjects(api) == []
    await api.client.get(api.message(NEW).link)
    assert subjects(api) == ["Your email address was changed"]
    assert f"from {ANN} to {NEW}" in api.inbox.emails()[0]["text"]


async def test_nobody_is_told_where_a_project_does_not_want_it(api: Api) -> None:
    token = (await api.sign_up())["access_token"]
    await api.put("/user", {"password": "a new password"}, token=token)
    await add_factor(api, token)
    assert api.inbox.emails() == []


async def test_a_projects_own_text_of_a_notification_is_sent(serve: ServeAuth) -> None:
    api = await serve(
        **ON,
        mailer_subjects_mfa_factor_enrolled_notification="{{ .FactorType }} for {{ .Email }}",
        mailer_template_mfa_factor_enrolled_notification="<b>{{ .Data.name }}: {{ .SiteURL }}</b>",
        site_url="https://example.com",
    )
    await add_factor(api, (await api.sign_up(data={"name": "Ann"}))["access_token"])
    (email,) = api.inbox.emails()
    assert email["subject"] == f"totp for {ANN}"
    id = (await api.mailpit("messages")).json()["messages"][0]["ID"]
    html = (await api.mailpit(f"message/{id}")).json()["HTML"]
    assert html.strip() == "<b>Ann: https://example.com</b>"


async def test_a_notification_that_cannot_be_sent_fails_no_change(
    serve: ServeAuth, caplog: pytest.LogCaptureFixture
) -> None:
    api = await serve(**ON, rate_limit_email_sent="0")
    token = (await api.sign_up())["access_token"]
    changed = await api.put("/user", {"password": "a new password"}, token=token)
    assert changed.status_code == 200
    assert api.inbox.emails() == []
    assert "email rate limit exceeded: no email tells of password_changed" in caplog.messages


async def test_a_hook_gets_what_a_notification_is_about(
    serve: ServeAuth, receiver: Receiver
) -> None:
    api = await serve(
        **calling("send_email", receiver), **ON, mailer_secure_email_change_enabled=False
    )
    token = (await api.sign_up())["access_token"]
    await add_factor(api, token)
    event: dict[str, Any] = await receiver.queue.get()
    assert event["user"]["email"] == ANN
    assert event["email_data"] == {
        "email_action_type": "mfa_factor_enrolled_notification",
        "factor_type": "totp",
        "site_url": "http://127.0.0.1:3000",
        "redirect_to": "http://127.0.0.1:3000",
        **dict.fromkeys(("old_email", "old_phone", "provider"), ""),
        **dict.fromkeys(("token", "token_hash", "token_new", "token_hash_new"), ""),
    }


async def test_an_email_has_its_link_in_html_too(serve: ServeAuth) -> None:
    api = await serve(mailer_autoconfirm=False, site_url="https://example.com/?a=1&b=2")
    await api.post("/signup", {"email": ANN, "password": PASSWORD})
    id = (await api.mailpit("messages")).json()["messages"][0]["ID"]
    message = (await api.mailpit(f"message/{id}")).json()
    link = api.message().link
    assert "&" in link
    escaped = link.replace("&", "&amp;")
    assert f'<a href="{escaped}">{escaped}</a>' in message["HTML"]
    assert f"Or enter the code: {api.message().code}" in message["HTML"]
    assert link in message["Text"]
