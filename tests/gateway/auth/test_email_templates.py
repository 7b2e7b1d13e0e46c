"""The subjects and HTML of a project's own, and how emails are written."""

from html import escape

import pytest
from tests.gateway.auth.api import PASSWORD, SERVICE, Api, rejection
from tests.gateway.auth.conftest import ServeAuth


async def test_an_email_without_a_subject_of_the_project_has_that_of_supabase_auth(
    confirming: Api,
) -> None:
    api = confirming
    await api.sign_up("new@example.com")
    await api.post("/invite", {"email": "guest@example.com"}, token=SERVICE)
    for name in ("ann", "bob", "carl", "dora"):
        await api.create(f"{name}@example.com")
    await api.post("/recover", {"email": "ann@example.com"})
    await api.post("/otp", {"email": "bob@example.com"})
    carl, dora = [
        (await api.sign_in(f"{name}@example.com")).json()["access_token"]
        for name in ("carl", "dora")
    ]
    await api.put("/user", {"email": "karl@example.com"}, token=carl)
    await api.get("/reauthenticate", token=dora)
    assert {each["to"][0].partition("@")[0]: each["subject"] for each in api.inbox.emails()} == {
        "new": "Confirm your email address",
        "guest": "You've been invited",
        "ann": "Reset your password",
        "bob": "Your sign-in link",
        "carl": "Confirm your new email address",
        "karl": "Confirm your new email address",
        "dora": f"{api.message('dora@example.com').code} is your verification code",
    }


async def test_an_email_has_the_projects_own_subject_and_html(serve: ServeAuth) -> None:
    api = await serve(
        mailer_autoconfirm=False,
        mailer_subjects_confirmation="{{ .Data.name }}, welcome",
        mailer_template_confirmation="<a href='{{ .ConfirmationURL }}'>{{ .Data.name }}</a>",
    )
    await api.sign_up(data={"name": "<b>\nBcc: eve@example.com"})
    summary = (await api.mailpit("messages")).json()["messages"][0]
    assert summary["Subject"] == "<b> Bcc: eve@example.com, welcome"
    assert (summary["Bcc"], len(summary["To"])) == ([], 1)
    shown = (await api.mailpit(f"message/{summary['ID']}")).json()
    link = api.message().link
    assert shown["HTML"].strip() == (
        f"<a href='{escape(link)}'>&lt;b&gt;\nBcc: eve@example.com</a>"
    )
    assert link in shown["Text"]


async def test_a_template_that_cannot_be_written_is_an_error_and_stores_nobody(
    serve: ServeAuth, caplog: pytest.LogCaptureFixture
) -> None:
    api = await serve(
        mailer_autoconfirm=False, mailer_subjects_confirmation='{{ if eq .Data.n "1" }}{{ end }}'
    )
    ann = {"email": "ann@example.com", "password": PASSWORD}
    failed = await api.post("/signup", {**ann, "data": {"n": 1}})
    assert rejection(failed) == (500, "unexpected_failure")
    assert failed.json()["message"] == "Error sending confirmation email"
    assert "a number and text cannot be compared" in caplog.text
    await api.sign_up(data={"n": "1"})
    assert len((await api.mailpit("messages")).json()["messages"]) == 1


async def test_no_line_of_an_email_is_longer_than_mail_servers_take(serve: ServeAuth) -> None:
    page = "<p>Grüße, {{ .Data.name }}</p>" * 100
    api = await serve(
        mailer_autoconfirm=False,
        mailer_subjects_confirmation="To {{ .Data.name }}",
        mailer_template_confirmation=page,
    )
    await api.sign_up(data={"name": "Ann\x1b[31m"})
    summary = (await api.mailpit("messages")).json()["messages"][0]
    assert summary["Subject"] == "To Ann[31m"
    raw = (await api.mailpit(f"message/{summary['ID']}/raw")).content
    assert max(map(len, raw.splitlines())) <= 998
    shown = (await api.mailpit(f"message/{summary['ID']}")).json()
    assert shown["HTML"].strip() == page.replace("{{ .Data.name }}", "Ann\x1b[31m")
