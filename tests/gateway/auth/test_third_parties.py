"""Sign-in through third parties, before a local one."""

import asyncio
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import psycopg
import pytest
from tests.gateway.auth.api import PASSWORD, SERVICE
from tests.gateway.auth.conftest import ServeAuth
from tests.gateway.auth.third_parties import (
    PKCE,
    VERIFIER,
    fragment,
    query_of,
    sign_in,
    user_of,
)
from tests.third_parties import ANN, APP, ThirdParty, browse, registered

from amphibase.errors import ConfigurationError
from amphibase.gateway.auth.settings import load_auth_settings


async def test_a_user_is_added_and_found_again(serve: ServeAuth, third_party: ThirdParty) -> None:
    api = await serve(**registered(third_party))
    response = await sign_in(api, "scopes=extra&login_hint=ann&client_id=another")
    session = fragment(response)
    assert session["provider_refresh_token"] == "to refresh"
    claims = jwt.decode(session["access_token"], options={"verify_signature": False})
    assert [each["method"] for each in claims["amr"]] == ["oauth"]
    user = await user_of(api, response)
    assert (user["email"], user["app_metadata"]) == (
        "ann@example.com",
        {"provider": "keycloak", "providers": ["keycloak"]},
    )
    assert user["email_confirmed_at"]
    (identity,) = user["identities"]
    assert (identity["provider"], identity["id"]) == ("keycloak", "ann-there")
    assert user["user_metadata"] == identity["identity_data"]
    assert identity["identity_data"] == {
        "iss": third_party.url,
        "sub": "ann-there",
        "provider_id": "ann-there",
        "email": "ann@example.com",
        "email_verified": True,
        "phone_verified": False,
        "name": "Ann",
        "full_name": "Ann",
        "picture": ANN["picture"],
        "avatar_url": ANN["picture"],
    }
    (request,) = third_party.requests
    assert request["scope"] == "openid email profile extra"
    assert request["login_hint"] == "ann"
    assert request["redirect_uri"] == f"{api.url}/callback"
    third_party.user["name"] = "Ann Other"
    third_party.user["email"] = "elsewhere@example.com"
    again = await user_of(api, await sign_in(api))
    assert (again["id"], again["email"]) == (user["id"], "ann@example.com")
    assert again["user_metadata"]["name"] == "Ann Other"


async def test_with_pkce_the_session_comes_for_a_code_and_its_verifier(
    serve: ServeAuth, third_party: ThirdParty
) -> None:
    api = await serve(**registered(third_party))
    codes = [query_of(await sign_in(api, PKCE))["code"] for _ in range(2)]
    wrong = {"auth_code": codes[0], "code_verifier": "w" * 64}
    response = await api.post("/token?grant_type=pkce", wrong)
    assert response.json()["code"] == "bad_code_verifier"
    with psycopg.connect(api.database) as connection:
        stored = str(connection.execute("SELECT * FROM auth.flow_state").fetchall())
    assert codes[1] not in stored
    assert "to refresh" not in stored
    right = {"auth_code": codes[1], "code_verifier": VERIFIER}
    session = (await api.post("/token?grant_type=pkce", right)).json()
    assert session["user"]["email"] == "ann@example.com"
    assert session["provider_token"]
    assert session["provider_refresh_token"] == "to refresh"
    again = await api.post("/token?grant_type=pkce", right)
    assert again.json()["code"] == "flow_state_not_found"


async def test_the_tokens_of_a_flow_that_nobody_ended_are_deleted(
    serve: ServeAuth, third_party: ThirdParty
) -> None:
    api = await serve(**registered(third_party))
    await sign_in(api, PKCE)
    await api.get("/authorize?provider=keycloak")
    with psycopg.connect(api.database, autocommit=True) as connection:
        count = "SELECT count(*), count(provider_access_token) FROM auth.flow_state"
        assert connection.execute(count).fetchone() == (2, 1)
        connection.execute("UPDATE auth.flow_state SET created_at = now() - interval '11 minutes'")
        await api.get("/authorize?provider=keycloak")
        assert connection.execute(count).fetchone() == (1, 0)


async def test_a_state_is_good_for_one_sign_in(serve: ServeAuth, third_party: ThirdParty) -> None:
    api = await serve(**registered(third_party))
    begun = await api.get(f"/authorize?provider=keycloak&redirect_to={APP}")
    back = await browse(begun.headers["location"])
    assert fragment(await api.client.get(back))["access_token"]
    begun = await api.get(f"/authorize?provider=keycloak&redirect_to={APP}")
    late = await browse(begun.headers["location"])
    with psycopg.connect(api.database) as connection:
        connection.execute("UPDATE auth.flow_state SET created_at = now() - interval '11 minutes'")
    for url, code, message in (
        (back, "bad_oauth_state", "OAuth state not found or expired"),
        (late, "bad_oauth_state", "OAuth state has expired"),
        ("/callback?code=x&state=forged", "bad_oauth_state", "OAuth state parameter is invalid"),
        ("/callback?code=x", "bad_oauth_callback", "OAuth state parameter missing"),
    ):
        response = await api.client.get(url)
        assert (response.status_code, query_of(response)) == (
            303,
            {"error": "invalid_request", "error_code": code, "error_description": message},
        )
        target = urlsplit(response.headers["location"])
        assert (target.netloc, target.fragment) == ("127.0.0.1:3000", "")


@pytest.mark.parametrize(
    ("name", "pages", "expected"),
    [
        (
            "github",
            {
                "api/v3/user": {"id": 7, "login": "ann", "name": "Ann", "avatar_url": "a.png"},
                "api/v3/user/emails": [
                    {"email": "old@example.com", "verified": True, "primary": False},
                    {"email": "Ann@example.com", "verified": True, "primary": True},
                ],
            },
            {"sub": "7", "user_name": "ann", "full_name": "Ann", "avatar_url": "a.png"},
        ),
        (
            "gitlab",
            {
                "api/v4/user": {
                    "id": 7,
                    "username": "ann",
                    "name": "Ann",
                    "email": "ann@example.com",
                    "confirmed_at": "2020-01-01",
                }
            },
            {"sub": "7", "user_name": "ann", "name": "Ann"},
        ),
        (
            "discord",
            {
                "api/users/@me": {
                    "id": "7",
                    "username": "ann",
                    "discriminator": "0",
                    "global_name": "Ann",
                    "email": "ann@example.com",
                    "verified": True,
                    "avatar": "abc",
                }
            },
            {
                "sub": "7",
                "name": "ann#0",
                "avatar_url": "https://cdn.discordapp.com/avatars/7/abc.png",
                "custom_claims": {"global_name": "Ann"},
            },
        ),
        ("google", {}, {"sub": "ann-there", "name": "Ann"}),
        ("azure", {}, {"sub": "ann-there", "name": "Ann"}),
    ],
)
async def test_each_provider_says_who_somebody_is_in_its_own_way(
    serve: ServeAuth,
    third_party: ThirdParty,
    name: str,
    pages: dict[str, Any],
    expected: dict[str, Any],
) -> None:
    third_party.pages = pages
    api = await serve(**registered(third_party, name, mailer_autoconfirm=False))
    user = await user_of(api, await sign_in(api, name=name))
    assert user["email"] == "ann@example.com"
    data = user["identities"][0]["identity_data"]
    assert {key: data[key] for key in expected} == expected
    assert data["email_verified"] is True
    settings = (await api.get("/settings")).json()
    assert settings["external"][name] is True


async def test_apple_posts_a_form_with_the_name(serve: ServeAuth, third_party: ThirdParty) -> None:
    third_party.user = {**ANN, "email_verified": "true", "name": None}
    api = await serve(**registered(third_party, "apple"))
    begun = await api.get(f"/authorize?provider=apple&redirect_to={APP}")
    async with httpx.AsyncClient() as browser:
        fields = (await browser.get(begun.headers["location"])).json()
    name = '{"name": {"firstName": "Ann", "lastName": "Other"}}'
    response = await api.client.post("/callback", data={**fields, "user": name})
    user = await user_of(api, response)
    assert (user["email"], user["user_metadata"]["full_name"]) == ("ann@example.com", "Ann Other")


async def test_a_verified_address_leads_to_its_user(
    serve: ServeAuth, third_party: ThirdParty
) -> None:
    api = await serve(**registered(third_party))
    created = await api.create()
    user = await user_of(api, await sign_in(api))
    assert user["id"] == created["id"]
    assert user["app_metadata"]["providers"] == ["email", "keycloak"]
    assert (await api.sign_in()).status_code == 200


async def test_an_address_that_is_not_verified_leads_to_nobody(
    serve: ServeAuth, third_party: ThirdParty
) -> None:
    third_party.user["email_verified"] = False
    api = await serve(**registered(third_party))
    await api.create()
    assert query_of(await sign_in(api))["error_code"] == "email_exists"
    strict = await serve(**registered(third_party, mailer_autoconfirm=False))
    third_party.user["email"] = "new@example.com"
    assert query_of(await sign_in(strict)) == {
        "error": "access_denied",
        "error_code": "provider_email_needs_verification",
        "error_description": "Unverified email with keycloak. "
        "Verify the email with keycloak in order to sign in",
    }
    third_party.user["email"] = None
    assert query_of(await sign_in(api))["error_description"].startswith("Error getting user email")


async def test_who_signed_up_with_an_address_before_its_owner_has_no_way_in(
    serve: ServeAuth, third_party: ThirdParty
) -> None:
    api = await serve(**registered(third_party, mailer_autoconfirm=False))
    await api.sign_up()  # by somebody else, who does not get the email
    link = api.message().link
    user = await user_of(api, await sign_in(api))
    assert user["email"] == "ann@example.com"
    assert (await api.sign_in()).json()["code"] == "invalid_credentials"
    assert "error" in (await api.client.get(link)).headers["location"]


@pytest.mark.parametrize("banned", [True, False])
async def test_who_may_not_sign_in_or_up_gets_no_session(
    serve: ServeAuth, third_party: ThirdParty, banned: bool
) -> None:
    api = await serve(**registered(third_party, disable_signup=True))
    if banned:
        await api.ban((await api.create())["id"])
    shown = query_of(await sign_in(api))
    assert shown["error_code"] == ("user_banned" if banned else "signup_disabled")
    assert shown["error"] == "access_denied"
    assert (await api.get("/settings")).json()["external"]["keycloak"] is True


async def test_an_invitation_is_accepted_by_the_account_with_its_address(
    serve: ServeAuth, third_party: ThirdParty
) -> None:
    api = await serve(**registered(third_party, disable_signup=True))
    invited = (await api.post("/invite", {"email": "ann@example.com"}, token=SERVICE)).json()
    token = api.message().token
    unknown = await api.get("/authorize?provider=keycloak&invite_token=another")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "user_not_found")
    third_party.user["email"] = "other@example.com"
    other = query_of(await sign_in(api, f"invite_token={token}"))
    assert (
        other["error_description"] == "Invited email does not match emails from external provider"
    )
    # The token is the proof, so that the third party need not have verified the address.
    third_party.user |= {"email": "ann@example.com", "email_verified": False}
    begun = await api.get(f"/authorize?provider=keycloak&redirect_to={APP}&invite_token={token}")
    assert token not in str(api.rows("SELECT * FROM auth.flow_state"))
    back = await browse(begun.headers["location"])
    user = await user_of(api, await api.client.get(back))
    assert (user["id"], bool(user["email_confirmed_at"])) == (invited["id"], True)
    assert [each["provider"] for each in user["identities"]] == ["email", "keycloak"]
    used = await api.get(f"/authorize?provider=keycloak&invite_token={token}")
    assert used.status_code == 404


@pytest.mark.parametrize("optional", [True, False])
async def test_a_user_without_an_address_is_added_where_it_is_optional(
    serve: ServeAuth, third_party: ThirdParty, optional: bool
) -> None:
    third_party.user |= {"email": None, "email_verified": None}
    api = await serve(**registered(third_party, external_keycloak_email_optional=optional))
    response = await sign_in(api)
    if not optional:
        assert query_of(response)["error_description"].startswith("Error getting user email")
        return
    user = await user_of(api, response)
    assert (user["email"], user["app_metadata"]["providers"]) == ("", ["keycloak"])
    assert user["user_metadata"]["full_name"] == "Ann"
    assert (await user_of(api, await sign_in(api)))["id"] == user["id"]


async def test_identities_are_linked_and_unlinked(
    serve: ServeAuth, third_party: ThirdParty
) -> None:
    api = await serve(
        **registered(third_party),
        security_manual_linking_enabled=True,
        external_anonymous_users_enabled=True,
    )
    call = f"/user/identities/authorize?provider=keycloak&redirect_to={APP}&skip_http_redirect=true"
    assert (await api.get(call)).status_code == 401
    anonymous = (await api.post("/signup", {})).json()
    begun = (await api.get(call, token=anonymous["access_token"])).json()
    linked = await user_of(api, await api.client.get(await browse(begun["url"])))
    assert (linked["id"], linked["email"]) == (anonymous["user"]["id"], "ann@example.com")
    assert linked["is_anonymous"] is False
    bob = await api.sign_up("bob@example.com")
    begun = (await api.get(call, token=bob["access_token"])).json()
    taken = await api.client.get(await browse(begun["url"]))
    assert query_of(taken)["error_description"] == "Identity is already linked to another user"
    third_party.user = {**ANN, "sub": "bob-there", "email": "bob@elsewhere.example"}
    begun = (await api.get(call, token=bob["access_token"])).json()
    user = await user_of(api, await api.client.get(await browse(begun["url"])))
    assert [each["provider"] for each in user["identities"]] == ["email", "keycloak"]
    assert user["email"] == "bob@example.com"
    id = user["identities"][1]["identity_id"]
    unlinked = await api.delete(f"/user/identities/{id}", token=bob["access_token"])
    assert unlinked.status_code == 200
    user = (await api.get("/user", token=bob["access_token"])).json()
    assert user["app_metadata"]["providers"] == ["email"]
    recorded = api.rows(
        "SELECT payload ->> 'action', payload ->> 'log_type',"
        " payload -> 'traits' ->> 'identity_id', ip_address FROM auth.audit_log_entries"
        " WHERE payload ->> 'action' LIKE 'identity_%%' ORDER BY created_at"
    )
    first = linked["identities"][0]["identity_id"]
    assert recorded == [
        (f"identity_{action}", "user", identity, "127.0.0.1")
        for action, identity in (("linked", first), ("linked", id), ("unlinked", id))
    ]


async def test_what_the_provider_rejects_or_forges_is_an_error_of_the_application(
    serve: ServeAuth, third_party: ThirdParty
) -> None:
    api = await serve(**registered(third_party))
    begun = await api.get(f"/authorize?provider=keycloak&redirect_to={APP}")
    state = parse_qs(urlsplit(begun.headers["location"]).query)["state"][0]
    denied = await api.client.get(f"/callback?error=access_denied&state={state}")
    assert denied.status_code == 302
    assert denied.headers["location"] == (
        f"{APP}?error=access_denied&error_description=#error=access_denied&sb="
    )
    begun = await api.get(f"/authorize?provider=keycloak&redirect_to={APP}")
    state = parse_qs(urlsplit(begun.headers["location"]).query)["state"][0]
    incomplete = await api.client.get(f"/callback?state={state}")
    assert fragment(incomplete) == {
        "error": "invalid_request",
        "error_code": "bad_oauth_callback",
        "error_description": "OAuth callback with missing authorization code missing",
    }
    for change in (
        {"id_token": third_party.id_token(nonce="another")},
        {"id_token": third_party.id_token()},
        {"id_token": "none"},
        {"id_token": None},
    ):
        third_party.token = change
        shown = query_of(await sign_in(api))
        assert shown["error_description"] == "Error getting user profile from external provider"
    third_party.token = {"access_token": None}
    shown = query_of(await sign_in(api))
    assert shown["error_description"].startswith("Unable to exchange external code: ")
    third_party.token = {}
    wrong = await serve(**registered(third_party, external_keycloak_secret="another"))
    shown = query_of(await sign_in(wrong))
    assert (shown["error"], shown["error_code"]) == ("server_error", "unexpected_failure")
    assert len(shown["error_description"]) == len("Unable to exchange external code: ") + 4


async def test_only_what_is_allowed_is_redirected_to(
    serve: ServeAuth, third_party: ThirdParty
) -> None:
    api = await serve(**registered(third_party))
    begun = await api.get("/authorize?provider=keycloak&redirect_to=https://evil.example")
    response = await api.client.get(await browse(begun.headers["location"]))
    assert response.headers["location"].startswith("http://127.0.0.1:3000#access_token=")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"external_google_enabled": True}, "GOTRUE_EXTERNAL_GOOGLE_CLIENT_ID: is missing"),
        (
            {"external_keycloak_enabled": True, "external_keycloak_client_id": "x"},
            "GOTRUE_EXTERNAL_KEYCLOAK_URL: is missing",
        ),
        (
            {
                "external_azure_enabled": True,
                "external_azure_client_id": "x",
                "external_azure_url": "https://login.microsoftonline.com/",
            },
            "GOTRUE_EXTERNAL_AZURE_URL: names no tenant",
        ),
        (
            {"external_gitlab_url": "http://gitlab.example"},
            "GOTRUE_EXTERNAL_GITLAB_URL: must start with https://",
        ),
    ],
)
def test_a_provider_that_cannot_work_stops_the_start(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load_auth_settings(**settings)


async def test_the_flow_in_the_browser_needs_a_secret(
    serve: ServeAuth, third_party: ThirdParty
) -> None:
    api = await serve(**registered(third_party, external_keycloak_secret=None))
    response = await api.get("/authorize?provider=keycloak")
    assert response.json()["message"] == "Unsupported provider: missing OAuth secret"
    assert PASSWORD not in response.text


async def test_of_several_first_sign_ins_at_once_one_adds_the_user(
    serve: ServeAuth, third_party: ThirdParty
) -> None:
    api = await serve(**registered(third_party))
    responses = await asyncio.gather(*(sign_in(api) for _ in range(5)))
    users = await asyncio.gather(*(user_of(api, response) for response in responses))
    assert len({user["id"] for user in users}) == 1
    assert all(len(user["identities"]) == 1 for user in users)


async def test_a_sign_in_ends_at_the_site_where_its_url_is_no_longer_allowed(
    serve: ServeAuth, third_party: ThirdParty
) -> None:
    before = await serve(**registered(third_party))
    begun = await before.get(f"/authorize?provider=keycloak&redirect_to={APP}")
    after = await serve(**registered(third_party, uri_allow_list=""))
    state = query_of(begun)["state"]
    response = await after.get(f"/callback?error=access_denied&state={state}")
    assert response.headers["location"].startswith("http://127.0.0.1:3000?error=access_denied")
