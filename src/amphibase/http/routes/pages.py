"""The two pages that links in letters lead to. They act on a click only: mail scanners open links,
and a token is good once."""

import secrets
from html import escape
from string import Template

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

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
<p role="status"></p>
<script nonce="$nonce">
  const form = document.querySelector("form");
  const status = document.querySelector("[role=status]");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = Object.fromEntries(new FormData(form));
    body.token = new URLSearchParams(location.search).get("token") ?? "";
    const answer = await fetch(location.pathname, {
      method: "POST",
      headers: {"Content-Type": "application/json"},
      body: JSON.stringify(body),
    });
    if (answer.ok) {
      form.remove();
      status.textContent = "$done";
    } else {
      status.textContent = (await answer.json()).detail;
    }
  });
</script>
</html>
""")

PASSWORD_FIELD = (
    '<label>New password<input type="password" name="password" '
    'autocomplete="new-password" required></label>'
)


def _page(title: str, fields: str, button: str, done: str) -> HTMLResponse:
    nonce = secrets.token_urlsafe(16)
    content = PAGE.substitute(
        title=escape(title), fields=fields, button=escape(button), done=done, nonce=nonce
    )
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return HTMLResponse(
        content, headers={"Content-Security-Policy": policy, "Cache-Control": "no-store"}
    )


@router.get("/email/verify")
async def verify_page() -> HTMLResponse:
    """Asks for the click that confirms an address."""
    return _page("Confirm your email address", "", "Confirm", "Your address is confirmed.")


@router.get("/password/reset")
async def reset_page() -> HTMLResponse:
    """Asks for a new password."""
    return _page(
        "Choose a new password",
        PASSWORD_FIELD,
        "Save",
        "Your new password is set. You can sign in.",
    )
