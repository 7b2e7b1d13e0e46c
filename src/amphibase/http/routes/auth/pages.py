"""The pages that links in emails lead to.

They act on a click only: mail scanners open links, and a token works once.
"""

import secrets
from html import escape
from string import Template

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from amphibase.http.dependencies import Mounted

router = APIRouter(include_in_schema=False)

PAGE = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style nonce="$nonce">
  body { font: 1rem/1.5 system-ui, sans-serif; max-width: 22rem; margin: 20vh auto; padding: 1rem }
  input, button { font: inherit; width: 100%; box-sizing: border-box; padding: .6rem }
  input, button { margin: .4rem 0 }
</style>
<h1>$title</h1>
<form>$fields<button>$button</button></form>
<template>$password<button>Save</button></template>
<p role="status"></p>
<script nonce="$nonce">
  const form = document.querySelector("form");
  const status = document.querySelector("[role=status]");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = Object.fromEntries(new FormData(form));
    body.token = new URLSearchParams(location.search).get("token") ?? "";
    const choosing = form.dataset.token !== undefined;
    const headers = {"Content-Type": "application/json"};
    if (choosing) headers.Authorization = "Bearer " + form.dataset.token;
    const response = await fetch(choosing ? "../password/change" : location.pathname, {
      method: "POST",
      headers,
      body: JSON.stringify(choosing ? {new_password: body.password} : body),
    });
    const content = response.status === 204 ? {} : await response.json();
    if (!response.ok) {
      status.textContent = content.detail;
    } else if (content.password_required) {
      form.dataset.token = content.access_token;
      form.innerHTML = document.querySelector("template").innerHTML;
      status.textContent = "Your address is confirmed. Choose a password.";
    } else {
      form.remove();
      status.textContent = content.changed === false
        ? "Now open the link in the email to your other address." : "$done";
    }
  });
</script>
</html>
""")

PASSWORD_FIELD = (
    '<label>New password<input type="password" name="password" '
    'autocomplete="new-password" required></label>'
)

SIGN_UP_PASSWORD_FIELD = (
    '<label>The password you signed up with<input type="password" name="password" '
    'autocomplete="current-password" required></label>'
)


def _page(title: str, fields: str, button: str, done: str) -> HTMLResponse:
    nonce = secrets.token_urlsafe(16)
    content = PAGE.substitute(
        title=escape(title),
        fields=fields,
        button=escape(button),
        done=done,
        nonce=nonce,
        password=PASSWORD_FIELD,
    )
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return HTMLResponse(
        content, headers={"Content-Security-Policy": policy, "Cache-Control": "no-store"}
    )


@router.get("/email/verify")
async def verify_page(db: Mounted) -> HTMLResponse:
    """Return the page with the button that confirms an address."""
    needs_password = db.settings.confirmation_asks_password
    fields = SIGN_UP_PASSWORD_FIELD if needs_password else ""
    return _page("Confirm your email address", fields, "Confirm", "Your address is confirmed.")


@router.get("/email/change/confirm")
async def email_change_page() -> HTMLResponse:
    """Return the page with the button that confirms a change of address."""
    return _page("Change your email address", "", "Confirm", "Your address is changed.")


@router.get("/invitations/accept")
async def invitation_page() -> HTMLResponse:
    """Return the page with the password form of an invited user."""
    return _page("Accept your invitation", PASSWORD_FIELD, "Accept", "You can sign in now.")


@router.get("/password/reset")
async def reset_page() -> HTMLResponse:
    """Return the page with the form for a new password."""
    return _page(
        "Choose a new password",
        PASSWORD_FIELD,
        "Save",
        "Your new password is set. You can sign in.",
    )
