"""What happens to accounts is recorded in `auth.audit_log_entries`."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from tests.gateway.auth.api import ANON, PASSWORD, SECRET, SERVICE, Api, time_of
from tests.gateway.auth.conftest import ServeAuth
from tests.gateway.auth.test_factors import enrolled, verified

from amphibase.gateway.app import Gateway, Mount
from amphibase.gateway.auth.service import AuthApp
from amphibase.gateway.build import behind_proxies
from amphibase.gateway.keys import ApiKeys

EMAIL = "ann@example.com"


def entries(api: Api) -> list[dict[str, Any]]:
    """The payloads in their order; actions of one statement have the same time."""
    return [
        payload
        for (payload,) in api.rows("SELECT payload FROM auth.audit_log_entries ORDER BY created_at")
    ]


def actions(api: Api) -> list[tuple[str, str]]:
    return [(entry["action"], entry["log_type"]) for entry in entries(api)]


async def test_a_sign_up_and_a_repeated_one_are_recorded(api: Api) -> None:
    user = (await api.sign_up(data={"full_name": "Ann Lee"}))["user"]
    await api.post("/signup", {"email": EMAIL, "password": PASSWORD})
    first = entries(api)[0]
    assert actions(api) == [
        ("user_signedup", "team"),
        ("login", "account"),
        ("user_repeated_signup", "user"),
    ]
    assert first == {
        "actor_id": user["id"],
        "actor_via_sso": False,
        "actor_username": EMAIL,
        "actor_name": "Ann Lee",
        "action": "user_signedup",
        "log_type": "team",
        "traits": {"provider": "email"},
    }
    assert api.rows("SELECT DISTINCT ip_address FROM auth.audit_log_entries") == [("",)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("per_page=2", ["login", "user_signedup"]),
        ("per_page=2&page=2", ["user_signedup"]),
        ("query=action:LOG", ["login"]),
        ("query=author:ann%20lee", ["login", "user_signedup"]),
        ("query=author:bob", ["user_signedup"]),
        ("query=type:team", ["user_signedup", "user_signedup"]),
    ],
)
async def test_the_administration_lists_and_searches_what_is_recorded(
    api: Api, query: str, expected: list[str]
) -> None:
    await api.create("bob@example.com", password=None)
    api.rows(
        "UPDATE auth.audit_log_entries SET payload = "
        '(payload::jsonb || \'{"actor_username": "bob@example.com"}\')::json RETURNING 1'
    )
    await api.sign_up(data={"full_name": "Ann Lee"})
    response = await api.get(f"/admin/audit?{query}", token=SERVICE)
    entries = response.json()
    assert sorted(entry["payload"]["action"] for entry in entries) == expected
    assert entries == sorted(entries, key=lambda entry: time_of(entry["created_at"]), reverse=True)
    assert {*entries[0]} == {"id", "payload", "created_at", "ip_address"}
    total = 3 if "per_page" in query else len(expected)
    assert response.headers["x-total-count"] == str(total)


@pytest.mark.parametrize("query", ["action", "actor:ann", ":"])
async def test_what_is_recorded_is_not_searched_by_other_fields(api: Api, query: str) -> None:
    response = await api.get(f"/admin/audit?query={query}", token=SERVICE)
    assert (response.status_code, response.json()["message"]) == (
        400,
        f"Invalid query scope: {query}",
    )


async def test_the_flows_of_an_email_are_recorded(confirming: Api) -> None:
    await confirming.sign_up()
    await confirming.post("/resend", {"type": "signup", "email": EMAIL})
    body = {"type": "signup", "email": EMAIL, "token": confirming.message().code}
    await confirming.post("/verify", body)
    await confirming.sign_up()
    await confirming.post("/recover", {"email": EMAIL})
    await confirming.client.get(confirming.message().link)
    assert [action for action, _ in actions(confirming)] == [
        "user_confirmation_requested",
        "user_confirmation_requested",
        "user_signedup",
        "user_repeated_signup",
        "user_recovery_requested",
        "login",
    ]
    assert entries(confirming)[2]["traits"] == {"provider": "email"}


async def test_what_a_user_does_is_recorded(api: Api) -> None:
    await api.create()
    api.rows("DELETE FROM auth.audit_log_entries")
    session = (await api.sign_in()).json()
    await api.refresh(session["refresh_token"])
    token = session["access_token"]
    await api.put("/user", {"password": "a new password"}, token=token)
    await api.get("/reauthenticate", token=token)
    await api.post("/logout", token=token)
    assert sorted(actions(api)) == sorted(
        [
            ("login", "account"),
            ("token_refreshed", "token"),
            ("token_revoked", "token"),
            ("user_updated_password", "user"),
            ("user_modified", "user"),
            ("user_reauthenticate_requested", "user"),
            ("logout", "account"),
        ]
    )


async def test_second_factors_are_recorded_with_the_address_of_the_client(api: Api) -> None:
    token = (await api.sign_up())["access_token"]
    api.rows("DELETE FROM auth.audit_log_entries")
    factor = await enrolled(api, token)
    strong = (await verified(api, token, factor)).json()["access_token"]
    await api.delete(f"/factors/{factor['id']}", token=strong)
    assert actions(api) == [
        ("factor_in_progress", "factor"),
        ("challenge_created", "factor"),
        ("verification_attempted", "factor"),
        ("factor_unenrolled", "factor"),
    ]
    assert {entry["traits"]["factor_id"] for entry in entries(api)} == {factor["id"]}
    assert api.rows("SELECT DISTINCT ip_address FROM auth.audit_log_entries") == [("127.0.0.1",)]


async def test_what_an_administrator_does_is_recorded_as_theirs(api: Api) -> None:
    user = await api.create()
    path = f"/admin/users/{user['id']}"
    await api.put(path, {"user_metadata": {"a": 1}}, token=SERVICE)
    await api.delete(path, token=SERVICE)
    await api.post("/invite", {"email": "bob@example.com"}, token=SERVICE)
    assert [action for action, _ in actions(api)] == [
        "user_signedup",
        "user_modified",
        "user_deleted",
        "user_invited",
    ]
    for entry in entries(api):
        assert entry["actor_id"] == str(UUID(int=0))
        assert entry["actor_username"] == "service_role"
    assert entries(api)[0]["traits"] == {
        "user_id": user["id"],
        "user_email": EMAIL,
        "user_phone": "",
        "provider": "email",
    }


async def test_what_an_administrator_does_to_a_factor_is_recorded(api: Api) -> None:
    signed_in = await api.sign_up()
    factor = await enrolled(api, signed_in["access_token"])
    api.rows("DELETE FROM auth.audit_log_entries")
    path = f"/admin/users/{signed_in['user']['id']}/factors/{factor['id']}"
    await api.put(path, {"friendly_name": "watch"}, token=SERVICE)
    await api.delete(path, token=SERVICE)
    traits = {"user_id": signed_in["user"]["id"], "factor_id": factor["id"]}
    recorded = [
        (entry["action"], entry["actor_username"], entry["traits"]) for entry in entries(api)
    ]
    assert recorded == [
        ("factor_updated", "service_role", {**traits, "factor_type": "totp"}),
        ("factor_deleted", EMAIL, traits),
    ]


async def test_nothing_is_recorded_where_that_is_disabled(serve: ServeAuth) -> None:
    api = await serve(audit_log_disable_postgres=True)
    await api.sign_up()
    assert entries(api) == []


async def test_entries_are_deleted_after_90_days(serve: ServeAuth) -> None:
    api = await serve()
    for days, action in ((91, "old"), (89, "young")):
        api.rows(
            "INSERT INTO auth.audit_log_entries (id, payload, created_at, ip_address)"
            f" VALUES (gen_random_uuid(), json_build_object('action', '{action}'),"
            f" now() - interval '{days} days', '')"
        )
    await api.sign_up()
    remaining = {"old"}
    while "old" in remaining:
        await asyncio.sleep(0.01)  # in which the service deletes
        remaining = {entry["action"] for entry in entries(api)}
    assert remaining == {"young", "user_signedup", "login"}


@pytest.mark.parametrize(
    ("proxies", "address"), [((), "127.0.0.1"), (("127.0.0.0/8",), "203.0.113.7")]
)
async def test_a_session_has_the_address_that_a_trusted_proxy_reports(
    serve: ServeAuth, proxies: tuple[str, ...], address: str
) -> None:
    def behind(service: AuthApp) -> Any:
        gateway = Gateway({"/auth/v1": Mount(lambda: service)}, ApiKeys(SECRET, ANON, SERVICE))
        return behind_proxies(gateway, proxies)

    api = await serve(behind)
    body = {"email": EMAIL, "password": PASSWORD}
    headers = {"x-forwarded-for": "203.0.113.7"}
    assert (await api.post("/signup", body, headers=headers)).status_code == 200
    assert api.rows("SELECT host(ip) FROM auth.sessions") == [(address,)]
