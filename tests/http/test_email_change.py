"""A user's own change of address: emails to both addresses, and who may confirm it."""

from typing import Any

import pytest
from fastapi import FastAPI
from tests.backends import sql_backend_of
from tests.outbox import messages, token_in

from amphibase import Settings
from amphibase.testing.client import PASSWORD, Client

OLD, NEW = "ann@example.com", "Ann@New.example"


@pytest.fixture
def settings(make_settings, request):  # type: ignore[no-untyped-def]
    return make_settings(**getattr(request, "param", {}))


async def ask(client: Client, email: str = NEW, password: str | None = PASSWORD) -> Any:
    body = {"email": email, "current_password": password}
    return await client.post("/auth/email/change", json=body)


async def sent(app: FastAPI, settings: Settings) -> dict[str, str]:
    """Return the token of the last email to each address."""
    await sql_backend_of(app).background.settle()
    return {str(message["To"]): token_in(message) for message in messages(settings.data_dir)}


async def confirm(client: Client, token: str) -> Any:
    return await client.post("/auth/email/change/confirm", json={"token": token})


async def signs_in(client: Client, email: str) -> bool:
    body = {"email": email, "password": PASSWORD}
    return (await client.post("/auth/sign-in", json=body)).status_code == 200


async def test_the_link_at_the_new_address_is_enough_where_the_user_is_signed_in(
    app: FastAPI, client: Client, settings: Settings
) -> None:
    ann = await client.as_user(OLD)
    assert (await ask(ann)).status_code == 202
    tokens = await sent(app, settings)
    assert tokens.keys() == {OLD, NEW.lower()}
    (notice,) = (message for message in messages(settings.data_dir) if message["To"] == OLD)
    assert NEW.lower() in notice.get_content()
    assert (await ann.get("/users/me")).json()["email"] == OLD
    response = await confirm(ann, tokens[NEW.lower()])
    assert (response.status_code, response.json()) == (200, {"changed": True})
    assert (await ann.get("/users/me")).json()["email"] == NEW.lower()
    assert await signs_in(client, NEW)
    assert not await signs_in(client, OLD)
    for token in tokens.values():
        assert (await confirm(ann, token)).json()["code"] == "invalid_or_expired_token"


@pytest.mark.parametrize(
    "links",
    [
        [("nobody", NEW), ("nobody", OLD)],
        [("nobody", OLD), ("nobody", NEW)],
        [("ann", OLD), ("nobody", NEW)],
        [("bob", NEW), ("bob", OLD)],
    ],
)
async def test_elsewhere_the_links_at_both_addresses_are_needed(
    app: FastAPI, client: Client, settings: Settings, links: list[tuple[str, str]]
) -> None:
    readers = {"nobody": client, "ann": await client.as_user(OLD)}
    readers["bob"] = await client.as_user("bob@example.com")
    await ask(readers["ann"])
    tokens = await sent(app, settings)
    for (reader, address), changed in zip(links, (False, True), strict=True):
        response = await confirm(readers[reader], tokens[address.lower()])
        assert (response.status_code, response.json()) == (200, {"changed": changed})
        email = (await readers["ann"].get("/users/me")).json()["email"]
        assert email == (NEW.lower() if changed else OLD)


@pytest.mark.parametrize("settings", [{"sign_up_domains": "example.com"}], indirect=True)
@pytest.mark.parametrize(
    ("email", "password", "status", "code"),
    [
        ("new@example.com", "not the password", 401, "invalid_credentials"),
        ("new@example.com", None, 401, "invalid_credentials"),
        ("ANN@example.com", PASSWORD, 400, "invalid_request"),
        ("ann@example.org", PASSWORD, 403, "email_domain_not_allowed"),
    ],
)
async def test_a_change_needs_the_password_and_an_address_that_may_sign_up(
    app: FastAPI,
    client: Client,
    settings: Settings,
    email: str,
    password: str | None,
    status: int,
    code: str,
) -> None:
    ann = await client.as_user(OLD)
    response = await ask(ann, email, password)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert await sent(app, settings) == {}
    assert (await ask(client)).status_code == 401


async def test_nothing_tells_that_an_address_has_an_account(
    app: FastAPI, client: Client, settings: Settings
) -> None:
    ann = await client.as_user(OLD)
    await client.as_user(NEW)
    free = await ask(ann, "free@example.com")
    taken = await ask(ann)
    assert (taken.status_code, taken.content) == (free.status_code, free.content)
    assert (await sent(app, settings)).keys() == {OLD, "free@example.com"}


async def test_who_confirms_an_address_first_has_it(
    app: FastAPI, client: Client, settings: Settings
) -> None:
    ann = await client.as_user(OLD)
    await ask(ann)
    tokens = await sent(app, settings)
    await client.as_user(NEW)
    response = await confirm(ann, tokens[NEW.lower()])
    assert response.json()["code"] == "email_already_registered"
    assert (await ann.get("/users/me")).json()["email"] == OLD


async def test_a_new_password_ends_the_change(
    app: FastAPI, client: Client, settings: Settings
) -> None:
    ann = await client.as_user(OLD)
    await ask(ann)
    tokens = await sent(app, settings)
    body = {"current_password": PASSWORD, "new_password": "another horse"}
    assert (await ann.post("/auth/password/change", json=body)).status_code == 204
    for token in tokens.values():
        assert (await confirm(ann, token)).json()["code"] == "invalid_or_expired_token"


async def test_a_later_change_replaces_the_earlier_one(
    app: FastAPI, client: Client, settings: Settings
) -> None:
    ann = await client.as_user(OLD)
    await ask(ann, "first@example.com")
    await ask(ann)
    tokens = await sent(app, settings)
    first = await confirm(ann, tokens["first@example.com"])
    assert first.json()["code"] == "invalid_or_expired_token"
    assert (await confirm(ann, tokens[NEW.lower()])).json() == {"changed": True}


async def test_the_page_of_the_link_has_a_button(client: Client) -> None:
    page = await client.get("/auth/email/change/confirm?token=abc")
    assert page.status_code == 200
    assert "<button>Confirm</button>" in page.text
