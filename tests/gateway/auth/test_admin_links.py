"""Links that the administration generates."""

from urllib.parse import parse_qs, urlsplit

import pytest
from tests.gateway.auth.api import PASSWORD, SERVICE, Api, rejection


@pytest.mark.parametrize(
    ("kind", "more", "known", "verification"),
    [
        ("signup", {"password": PASSWORD}, False, "signup"),
        ("invite", {}, False, "invite"),
        ("magiclink", {}, True, "magiclink"),
        ("magiclink", {}, False, "signup"),
        ("recovery", {}, True, "recovery"),
    ],
)
async def test_a_generated_link_signs_in_and_no_email_is_sent(
    api: Api, kind: str, more: dict[str, str], known: bool, verification: str
) -> None:
    if known:
        await api.create()
    body = {"type": kind, "email": "ann@example.com", **more}
    response = await api.post("/admin/generate_link", body, token=SERVICE)
    link = response.json()
    assert response.status_code == 200, response.text
    assert link["email"] == "ann@example.com"
    assert link["verification_type"] == verification
    assert link["redirect_to"] == "http://127.0.0.1:3000"
    assert parse_qs(urlsplit(link["action_link"]).query) == {
        "token": [link["hashed_token"]],
        "type": [verification],
        "redirect_to": ["http://127.0.0.1:3000"],
    }
    assert len(link["email_otp"]) == 6
    assert not api.inbox.emails()
    by_hash = {"type": verification, "token_hash": link["hashed_token"]}
    session = (await api.post("/verify", by_hash)).json()
    assert session["user"]["id"] == link["id"]


async def test_a_second_link_to_a_sign_up_needs_no_password(api: Api) -> None:
    body = {"type": "signup", "email": "ann@example.com"}
    for more in ({"password": PASSWORD}, {"data": {"name": "Ann"}}):
        link = await api.post("/admin/generate_link", {**body, **more}, token=SERVICE)
    assert link.json()["user_metadata"]["name"] == "Ann"
    await api.post("/verify", {"type": "signup", "token_hash": link.json()["hashed_token"]})
    assert (await api.sign_in()).status_code == 200
    asked = "payload->>'action' = 'user_confirmation_requested'"
    assert api.rows(f"SELECT 1 FROM auth.audit_log_entries WHERE {asked}") == []


async def test_generated_links_change_an_address_together(api: Api) -> None:
    await api.create()
    body = {"email": "ann@example.com", "new_email": "new@example.com"}
    links = [
        (
            await api.post(
                "/admin/generate_link", {**body, "type": f"email_change_{which}"}, token=SERVICE
            )
        ).json()["action_link"]
        for which in ("current", "new")
    ]
    assert all("type=email_change&" in link for link in links)
    for link in links:
        await api.client.get(link)
    assert (await api.sign_in("new@example.com")).status_code == 200


async def test_a_link_for_another_change_of_address_makes_the_one_before_void(
    confirming: Api,
) -> None:
    api = confirming
    await api.create()

    async def link(which: str, new: str) -> str:
        body = {"type": f"email_change_{which}", "email": "ann@example.com", "new_email": new}
        response = await api.post("/admin/generate_link", body, token=SERVICE)
        value: str = response.json()["action_link"]
        return value

    agreed_to_the_first = await link("current", "first@example.com")
    second = await link("new", "second@example.com")
    for followed in (second, agreed_to_the_first):
        await api.client.get(followed)
    assert (await api.sign_in("ann@example.com")).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"type": "signup", "email": "new@example.com"}, 400, "validation_failed"),
        ({"type": "nonsense", "email": "new@example.com"}, 400, "validation_failed"),
        ({"type": "recovery", "email": "new@example.com"}, 404, "user_not_found"),
        ({"type": "invite", "email": "ann@example.com"}, 422, "email_exists"),
        ({"type": "signup", "email": "ann@example.com"}, 422, "email_exists"),
        (
            {"type": "signup", "email": "ann@example.com", "password": PASSWORD},
            422,
            "email_exists",
        ),
        ({"type": "email_change_new", "email": "ann@example.com"}, 400, "validation_failed"),
    ],
)
async def test_a_link_that_cannot_be_is_rejected(
    api: Api, body: dict[str, str], status: int, code: str
) -> None:
    await api.create()
    assert rejection(await api.post("/admin/generate_link", body, token=SERVICE)) == (status, code)
