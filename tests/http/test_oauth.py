"""Sign-in through third parties over the application's own routes."""

import base64
import hashlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import jwt
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import update
from tests.backends import sql_backend_of
from tests.conftest import prepared_database
from tests.outbox import messages, token_in
from tests.third_parties import ANN, CLIENT, SECRET, ThirdParty, browse

from amphibase import (
    Account,
    Amphibase,
    ConfigurationError,
    Forbidden,
    Settings,
    SignUpAttempt,
    Transaction,
    load_settings,
)
from amphibase.models import utc_now
from amphibase.schema.tables import tables
from amphibase.testing.client import BASE_URL, PASSWORD, Client, open_client

APP = "https://app.example/signed-in"
MOBILE = "app://signed-in"
VERIFIER = "v" * 64
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=")
PKCE = {"code_challenge": CHALLENGE.decode(), "code_challenge_method": "S256"}


on_each_database = pytest.mark.parametrize("prepared_url", ["sqlite", "postgres"], indirect=True)


@pytest.fixture
def prepared_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """SQLite, except in tests that are marked: most of this is not about the database."""
    with prepared_database(getattr(request, "param", "sqlite"), request, tmp_path) as url:
        yield url


@pytest.fixture
def settings(make_settings: Any, third_party: ThirdParty, request: pytest.FixtureRequest) -> Any:
    return make_settings(
        public_url=BASE_URL,
        oauth_redirect_urls=(APP, MOBILE),
        **registered(third_party),
        **getattr(request, "param", {}),
    )


def registered(third_party: ThirdParty, name: str = "keycloak") -> dict[str, str]:
    return {
        f"oauth_{name}_client_id": CLIENT,
        f"oauth_{name}_client_secret": SECRET,
        f"oauth_{name}_url": third_party.url,
    }


async def at_third_party(client: Client, url: str) -> str:
    """Go to the third party by the application; where it sends the browser back to."""
    target = await client.get(url)
    assert target.status_code == 302, target.text
    return await browse(target.headers["location"])


async def begin(client: Client, name: str = "keycloak", **query: str) -> str:
    """Begin; the URL that the browser comes to next."""
    begun = await client.get(f"/auth/oauth/{name}?{urlencode(PKCE | query)}")
    assert begun.status_code == 302, begun.text
    return str(begun.headers["location"])


async def come_back(client: Client, url: str, to: str = APP) -> dict[str, str]:
    """What the application learns when the browser has come back to it."""
    response = await client.get(url)
    assert response.status_code == 303, response.text
    location = response.headers["location"]
    assert location.startswith(to + "?")
    return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}


async def go(client: Client, **query: str) -> dict[str, str]:
    """The whole way of a browser."""
    url = await at_third_party(client, await begin(client, **query))
    return await come_back(client, url, query.get("redirect_to", APP))


async def redeem(client: Client, code: str, verifier: str = VERIFIER) -> httpx.Response:
    return await client.post("/auth/oauth/token", json={"code": code, "code_verifier": verifier})


async def sign_in(client: Client) -> httpx.Response:
    return await redeem(client, (await go(client))["code"])


def rejection(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


def bearer(response: httpx.Response) -> dict[str, str]:
    return {"Authorization": f"Bearer {response.json()['access_token']}"}


@on_each_database
async def test_a_client_gets_tokens_for_its_code_and_its_verifier(
    client: Client, third_party: ThirdParty
) -> None:
    code = (await go(client, redirect_to=MOBILE))["code"]
    assert third_party.requests[0]["redirect_uri"] == f"{BASE_URL}/auth/oauth/keycloak/callback"
    users = await (await client.as_user("root@example.com", admin=True)).get("/users")
    assert [user["email"] for user in users.json()["items"]] == ["root@example.com"]
    wrong = await redeem(client, code, "w" * 64)
    assert rejection(wrong) == (400, "invalid_or_expired_token")
    signed_in = await redeem(client, code)
    assert signed_in.status_code == 200, signed_in.text
    user = signed_in.json()["user"]
    assert (user["email"], user["name"]) == ("ann@example.com", "Ann")
    assert rejection(await redeem(client, code)) == (400, "invalid_or_expired_token")
    me = {"name": "Anna"}
    renamed = await client.patch("/users/me", json=me, headers=bearer(signed_in))
    assert renamed.status_code == 200
    third_party.user |= {"email": "elsewhere@example.com", "name": "Ann Other"}
    again = (await sign_in(client)).json()
    assert (again["user"]["id"], again["user"]["email"]) == (user["id"], "ann@example.com")
    claims = jwt.decode(again["access_token"], options={"verify_signature": False})
    assert (claims["user_metadata"]["name"], claims["amr"][0]["method"]) == ("Anna", "oauth")


async def test_only_the_browser_that_went_to_the_third_party_comes_back(
    app: FastAPI, client: Client, settings: Settings
) -> None:
    url = await at_third_party(client, await begin(client))
    forged = url.replace("state=", "state=x")
    async with Client(app) as other:
        for wrong in (url, forged, forged.replace("state=x", "other=")):
            assert (await come_back(other, wrong))["error"] == "invalid_request"
    assert (await come_back(client, url))["code"]
    assert (await come_back(client, url))["error"] == "invalid_request"
    begun = await begin(client)
    late = await at_third_party(client, begun)
    database = sql_backend_of(app).database
    flows = tables(database.dialect).flow_state
    async with database.write() as connection:
        at = utc_now() - timedelta(minutes=11)
        await connection.execute(update(flows).values(created_at=at))
    assert (await come_back(client, late))["error"] == "invalid_request"
    assert rejection(await client.get(begun)) == (400, "invalid_or_expired_token")


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"redirect_to": "https://evil.example"}, 400),
        ({"redirect_to": f"{APP}/../x"}, 400),
        ({"redirect_to": f"{APP}?x=1"}, 400),
        ({"code_challenge": ""}, 422),
        ({"code_challenge_method": "plain"}, 422),
    ],
)
async def test_a_browser_is_sent_to_listed_urls_alone_and_with_a_challenge(
    client: Client, query: dict[str, str], status: int
) -> None:
    response = await client.get(f"/auth/oauth/keycloak?{urlencode(PKCE | query)}")
    assert response.status_code == status
    unknown = await client.get(f"/auth/oauth/github?{urlencode(PKCE)}")
    assert rejection(unknown) == (404, "not_found")


async def test_what_the_third_party_rejects_or_another_sends_is_an_error_of_the_client(
    client: Client, third_party: ThirdParty
) -> None:
    url = await at_third_party(client, await begin(client))
    denied = (
        url.split("?")[0]
        + "?"
        + urlencode({"error": "access_denied", "state": parse_qs(urlsplit(url).query)["state"][0]})
    )
    assert (await come_back(client, denied))["error"] == "access_denied"
    for change in (
        {"id_token": third_party.id_token(nonce="another")},
        {"id_token": None},
        {"padding": "x" * 1024 * 1024},
    ):
        third_party.token = change
        assert (await go(client))["error"] == "server_error"
    third_party.token = {}
    third_party.response = {"iss": "https://evil.example"}
    assert (await go(client))["error"] == "server_error"
    third_party.response = {"iss": third_party.url}
    assert "code" in await go(client)


async def test_a_response_names_its_issuer_where_the_third_party_says_so(
    client: Client, third_party: ThirdParty
) -> None:
    third_party.metadata = {"authorization_response_iss_parameter_supported": True}
    assert (await go(client))["error"] == "server_error"
    third_party.response = {"iss": third_party.url}
    assert "code" in await go(client)


async def test_an_account_whose_owner_proved_nothing_is_not_linked_by_its_address(
    client: Client, third_party: ThirdParty
) -> None:
    """Whoever signed up with the address first knows its password."""
    await client.post("/auth/sign-up", json={"email": ANN["email"], "password": PASSWORD})
    assert rejection(await sign_in(client)) == (403, "identity_not_linked")
    third_party.user |= {"email": "new@example.com", "email_verified": False}
    assert rejection(await sign_in(client)) == (403, "email_not_confirmed")
    third_party.user["email"] = None
    assert rejection(await sign_in(client)) == (403, "email_not_confirmed")


@pytest.mark.parametrize("settings", [{"email_confirmation": "required"}], indirect=True)
async def test_an_account_whose_address_was_confirmed_is_linked_by_it(
    app: FastAPI, client: Client, settings: Settings
) -> None:
    credentials = {"email": "ann@example.com", "password": PASSWORD}
    await client.post("/auth/sign-up", json=credentials)
    await sql_backend_of(app).background.settle()
    token = token_in(messages(settings.data_dir)[-1])
    verified = await client.post("/auth/email/verify", json={"token": token})
    signed_in = await sign_in(client)
    assert signed_in.json()["user"]["id"] == verified.json()["user"]["id"]
    assert (await client.post("/auth/sign-in", json=credentials)).status_code == 200


@pytest.mark.parametrize(
    "email", ["foo", "ann@example.com\r\nBcc: all@example.com", ["ann@example.com"], "x" * 300]
)
async def test_a_new_user_needs_an_address_that_a_sign_up_takes(
    client: Client, third_party: ThirdParty, email: Any
) -> None:
    third_party.user["email"] = email
    assert rejection(await sign_in(client)) == (403, "email_not_confirmed")


async def test_an_address_is_stored_as_by_a_sign_up(
    client: Client, third_party: ThirdParty
) -> None:
    third_party.user["email"] = "Ann@xn--bcher-kva.example.com"
    assert (await sign_in(client)).json()["user"]["email"] == "ann@b\u00fccher.example.com"


async def test_an_address_that_only_looks_like_an_accounts_does_not_lead_to_it(
    client: Client, third_party: ThirdParty
) -> None:
    third_party.user["email"] = "mark@example.com"
    assert (await sign_in(client)).status_code == 200
    third_party.user |= {"sub": "another", "email": "mar\u212a@example.com"}  # the Kelvin sign
    assert rejection(await sign_in(client)) == (403, "email_not_confirmed")


@pytest.mark.parametrize("name", ["a\x00", "\ud800"])
async def test_text_that_no_database_keeps_is_an_error_of_the_client(
    client: Client, third_party: ThirdParty, name: str
) -> None:
    third_party.user["name"] = name
    assert (await go(client))["error"] == "server_error"


async def test_a_code_of_before_a_change_of_the_key_is_not_valid(
    client: Client, settings: Settings
) -> None:
    code = (await go(client))["code"]
    changed = settings.model_copy(update={"secret_key": SecretStr("another secret key " * 3)})
    async with open_client(Amphibase(changed).mount(FastAPI())) as later:
        assert rejection(await redeem(later, code)) == (400, "invalid_or_expired_token")


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"sign_up": "invited"}, "sign_up_closed"),
        ({"sign_up_domains": "example.org"}, "email_domain_not_allowed"),
    ],
    indirect=["settings"],
)
async def test_a_new_user_is_added_as_by_a_sign_up(client: Client, code: str) -> None:
    assert rejection(await sign_in(client)) == (403, code)


@pytest.mark.parametrize("settings", [{"sign_up": "invited"}], indirect=True)
async def test_an_invited_user_is_admitted_and_a_banned_one_is_not(client: Client) -> None:
    admin = await client.as_user("root@example.com", admin=True)
    invited = await admin.post("/users/invitations", json={"email": "ann@example.com"})
    assert invited.status_code == 202
    signed_in = await sign_in(client)
    assert signed_in.status_code == 200, signed_in.text
    await admin.post(f"/users/{signed_in.json()['user']['id']}/ban", json={})
    assert rejection(await sign_in(client)) == (403, "user_banned")


async def test_the_hooks_of_a_sign_up_decide_and_add(settings: Settings) -> None:
    db = Amphibase(settings)
    attempts: list[SignUpAttempt] = []
    failing = [True]

    @db.before_sign_up
    async def decide(attempt: SignUpAttempt) -> None:
        attempts.append(attempt)
        if len(attempts) == 1:
            raise Forbidden("Not today")

    @db.after_sign_up
    async def add(account: Account, transaction: Transaction) -> None:
        if failing:
            failing.pop()
            raise Forbidden("Not yet")

    async with open_client(db.mount(FastAPI())) as client:
        code = (await go(client))["code"]
        assert (await redeem(client, code)).json()["detail"] == "Not today"
        assert (await redeem(client, code)).json()["detail"] == "Not yet"
        assert await db.state.backend.accounts.get_by_email("ann@example.com") is None
        assert (await redeem(client, code)).status_code == 200
        assert (await sign_in(client)).status_code == 200  # which is no sign-up
    assert [(each.email, each.invited) for each in attempts] == [("ann@example.com", False)] * 3


@on_each_database
async def test_identities_are_listed_linked_and_unlinked_by_their_user(
    client: Client, third_party: ThirdParty
) -> None:
    bob = await client.as_user("bob@example.com")
    eve = await client.as_user("eve@example.com")

    async def code_for(user: Client) -> str:
        begun = await user.post("/auth/identities/keycloak", json=PKCE)
        url = await at_third_party(client, begun.json()["url"])
        return (await come_back(client, url))["code"]

    body = {"code": await code_for(bob), "code_verifier": VERIFIER}
    for rejected in (
        await redeem(client, body["code"]),
        await eve.post("/auth/identities", json=body),
    ):
        assert rejection(rejected) == (400, "invalid_or_expired_token")
    linked = await bob.post("/auth/identities", json=body)
    assert linked.status_code == 201, linked.text
    assert (linked.json()["provider"], linked.json()["email"]) == ("keycloak", "ann@example.com")
    identities = (await bob.get("/auth/identities")).json()["items"]
    assert [identity["provider"] for identity in identities] == ["email", "keycloak"]
    assert (await sign_in(client)).json()["user"]["email"] == "bob@example.com"
    taken = {"code": await code_for(eve), "code_verifier": VERIFIER}
    assert (await eve.post("/auth/identities", json=taken)).status_code == 409
    own = f"/auth/identities/{linked.json()['id']}"
    assert (await eve.delete(own)).status_code == 404
    assert (await bob.delete(f"/auth/identities/{identities[0]['id']}")).status_code == 404
    assert (await bob.delete(own)).status_code == 204
    assert (await sign_in(client)).json()["user"]["email"] == "ann@example.com"


async def test_the_only_way_to_sign_in_stays_until_there_is_a_password(client: Client) -> None:
    headers = bearer(await sign_in(client))
    (identity,) = (await client.get("/auth/identities", headers=headers)).json()["items"]
    own = f"/auth/identities/{identity['id']}"
    assert (await client.delete(own, headers=headers)).status_code == 409
    body = {"new_password": PASSWORD}
    changed = await client.post("/auth/password/change", json=body, headers=headers)
    assert changed.status_code == 204
    assert (await client.delete(own, headers=headers)).status_code == 204


async def test_a_new_password_ends_what_was_begun_to_be_linked(client: Client) -> None:
    bob = await client.as_user("bob@example.com")
    begun = (await bob.post("/auth/identities/keycloak", json=PKCE)).json()["url"]
    body = {"current_password": PASSWORD, "new_password": "another horse battery"}
    assert (await bob.post("/auth/password/change", json=body)).status_code == 204
    assert rejection(await client.get(begun)) == (400, "invalid_or_expired_token")


async def test_a_form_of_the_third_partys_site_brings_the_cookie(
    make_settings: Any, third_party: ThirdParty
) -> None:
    third_party.user = {**ANN, "email_verified": "true", "name": None}
    third_party.metadata = {"authorization_response_iss_parameter_supported": True}
    settings = make_settings(
        public_url="https://testserver",
        oauth_redirect_urls=APP,
        **registered(third_party, "apple"),
    )
    async with open_client(Amphibase(settings).mount(FastAPI())) as client:
        client.base_url = httpx.URL("https://testserver")
        target = await client.get(await begin(client, "apple"))
        cookie = target.headers["set-cookie"].lower()
        assert "samesite=none" in cookie
        assert {"secure", "httponly", "path=/auth/oauth/apple/callback"} <= {
            part.strip() for part in cookie.split(";")
        }
        async with httpx.AsyncClient() as browser:
            fields = (await browser.get(target.headers["location"])).json()
        name = '{"name": {"firstName": "Ann", "lastName": "Other"}}'
        fields |= {"iss": third_party.url, "user": name}
        back = await client.post("/auth/oauth/apple/callback", data=fields)
        code = parse_qs(urlsplit(back.headers["location"]).query)["code"][0]
        assert (await redeem(client, code)).json()["user"]["name"] == "Ann Other"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"oauth_google_client_id": "x"}, "OAUTH_GOOGLE_CLIENT_SECRET: is missing"),
        (
            {"oauth_google_client_id": "x", "oauth_google_client_secret": "x"},
            "OAUTH_REDIRECT_URLS: is missing",
        ),
        ({"oauth_redirect_urls": "http://app.example"}, "OAUTH_REDIRECT_URLS: each must start"),
        ({"oauth_redirect_urls": "javascript:alert(1)"}, "OAUTH_REDIRECT_URLS: each must be"),
        ({"oauth_redirect_urls": "https://a@app.example"}, "OAUTH_REDIRECT_URLS: each must be"),
        ({"oauth_keycloak_url": "http://id.example"}, "OAUTH_KEYCLOAK_URL: must start"),
        (
            {"oauth_keycloak_client_id": "x", "oauth_keycloak_client_secret": "x"},
            "OAUTH_KEYCLOAK_URL: is missing",
        ),
    ],
)
def test_a_wrong_setting_of_a_third_party_is_named(values: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load_settings(**values).oauth_providers()
