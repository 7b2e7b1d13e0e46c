"""Supabase's own Python client, sync and async, through every call of its public API for users."""

import asyncio
import inspect
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import pyotp
import pytest
from supabase import (
    AsyncClientOptions,
    ClientOptions,
    acreate_client,
    create_client,
)
from supabase_auth.errors import AuthApiError, AuthWeakPasswordError
from tests.gateway.auth.api import ANON, PASSWORD, SECRET, SERVICE, Api
from tests.gateway.auth.conftest import ServeAuth
from tests.third_parties import APP, ThirdParty, browse, registered

from amphibase.gateway.app import Gateway, Mount
from amphibase.gateway.keys import ApiKeys

NEW_PASSWORD = "another horse battery"


class Project:
    """A project as one kind of client sees it; `do` makes a call of either kind awaitable."""

    def __init__(self, kind: str, api: Api, asynchronous: httpx.AsyncClient) -> None:
        self.kind = kind
        self.api = api
        self._async = asynchronous
        self._sync = httpx.Client()

    def close(self) -> None:
        self._sync.close()

    async def auth(self, key: str = ANON) -> Any:
        """A new client's `auth`; nobody is signed in."""
        if self.kind == "async":
            options = AsyncClientOptions(auto_refresh_token=False, httpx_client=self._async)
            return (await acreate_client(self.api.url, key, options)).auth
        simple = ClientOptions(auto_refresh_token=False, httpx_client=self._sync)
        return create_client(self.api.url, key, simple).auth

    async def do(self, method: Any, *arguments: Any) -> Any:
        if inspect.iscoroutinefunction(method):
            return await method(*arguments)
        return await asyncio.to_thread(method, *arguments)

    async def rejected(self, method: Any, *arguments: Any) -> str:
        """The code that a call is rejected with."""
        with pytest.raises(AuthApiError) as raised:
            await self.do(method, *arguments)
        assert raised.value.code is not None
        return raised.value.code


@pytest.fixture(params=["sync", "async"])
async def project(request: pytest.FixtureRequest, serve: ServeAuth) -> AsyncIterator[Project]:
    api = await serve(
        behind=lambda service: Gateway(
            {"/auth/v1": Mount(lambda: service)}, ApiKeys(SECRET, ANON, SERVICE)
        ),
        external_anonymous_users_enabled=True,
        mailer_autoconfirm=False,
    )
    async with httpx.AsyncClient() as client:
        found = Project(request.param, api, client)
        yield found
        found.close()


async def test_a_user_signs_up_confirms_signs_in_and_out(project: Project) -> None:
    auth, do, api = await project.auth(), project.do, project.api
    credentials = {"email": "ann@example.com", "password": PASSWORD}
    options = {"data": {"name": "Ann"}, "email_redirect_to": "http://127.0.0.1:3000/in"}
    signed_up = await do(auth.sign_up, {**credentials, "options": options})
    assert signed_up.session is None
    assert signed_up.user.user_metadata["name"] == "Ann"
    assert await project.rejected(auth.sign_in_with_password, credentials) == "email_not_confirmed"
    await do(auth.resend, {"type": "signup", "email": "ann@example.com"})
    code = api.message().code
    verified = await do(
        auth.verify_otp, {"email": "ann@example.com", "token": code, "type": "signup"}
    )
    assert verified.session.user.email_confirmed_at
    claims = (await do(auth.get_claims))["claims"]
    assert claims["email"] == "ann@example.com"
    assert (await do(auth.get_user)).user.id == signed_up.user.id
    await do(auth.sign_out, {"scope": "local"})
    assert await do(auth.get_session) is None
    wrong = {**credentials, "password": "wrong"}
    assert await project.rejected(auth.sign_in_with_password, wrong) == "invalid_credentials"
    session = (await do(auth.sign_in_with_password, credentials)).session
    refreshed = (await do(auth.refresh_session)).session
    assert refreshed.refresh_token != session.refresh_token
    other = await project.auth()
    await do(other.set_session, refreshed.access_token, refreshed.refresh_token)
    assert (await do(other.get_user)).user.email == "ann@example.com"
    identities = (await do(other.get_user_identities)).identities
    assert [identity.provider for identity in identities] == ["email"]
    assert await project.rejected(other.unlink_identity, identities[0]) == "manual_linking_disabled"
    assert (
        await project.rejected(other.link_identity, {"provider": "github"})
        == "manual_linking_disabled"
    )
    await do(other.sign_out)
    assert await project.rejected(auth.refresh_session) == "refresh_token_not_found"


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_user_signs_in_through_a_third_party(
    serve: ServeAuth, third_party: ThirdParty, kind: str
) -> None:
    api = await serve(
        behind=lambda service: Gateway(
            {"/auth/v1": Mount(lambda: service)}, ApiKeys(SECRET, ANON, SERVICE)
        ),
        security_manual_linking_enabled=True,
        **registered(third_party),
    )
    async with httpx.AsyncClient() as client:
        project = Project(kind, api, client)
        auth, do = await project.auth(), project.do
        begun = await do(
            auth.sign_in_with_oauth, {"provider": "keycloak", "options": {"redirect_to": APP}}
        )
        redirected = await client.get(await browse(await browse(begun.url)))
        code = parse_qs(urlsplit(redirected.headers["location"]).query)["code"][0]
        session = (await do(auth.exchange_code_for_session, {"auth_code": code})).session
        assert session.user.email == "ann@example.com"
        assert session.provider_token
        third_party.user["sub"] = "another-account-there"
        linked = await do(
            auth.link_identity, {"provider": "keycloak", "options": {"redirect_to": APP}}
        )
        await client.get(await browse(linked.url))
        identities = (await do(auth.get_user_identities)).identities
        assert [identity.id for identity in identities] == ["ann-there", "another-account-there"]
        await do(auth.unlink_identity, identities[0])
        assert len((await do(auth.get_user_identities)).identities) == 1
        token = third_party.id_token()
        again = await do(auth.sign_in_with_id_token, {"provider": "keycloak", "token": token})
        assert again.user.id == session.user.id
        project.close()


async def test_a_user_changes_password_address_and_metadata(project: Project) -> None:
    auth, do, api = await project.auth(), project.do, project.api
    await api.create()
    await do(auth.sign_in_with_password, {"email": "ann@example.com", "password": PASSWORD})
    user = (await do(auth.update_user, {"data": {"theme": "dark"}})).user
    assert user.user_metadata["theme"] == "dark"
    with pytest.raises(AuthWeakPasswordError) as weak:
        await do(auth.update_user, {"password": "weak"})
    assert weak.value.reasons == ["length"]
    assert await project.rejected(auth.update_user, {"password": PASSWORD}) == "same_password"
    await do(auth.reauthenticate)
    nonce = api.message().code
    await do(auth.update_user, {"password": NEW_PASSWORD, "nonce": nonce})
    assert (await do(auth.update_user, {"email": "new@example.com"})).user.new_email
    await do(
        auth.verify_otp,
        {
            "email": "new@example.com",
            "token": api.message("new@example.com").code,
            "type": "email_change",
        },
    )
    changed = await do(
        auth.verify_otp,
        {"email": "ann@example.com", "token": api.message().code, "type": "email_change"},
    )
    assert changed.user.email == "new@example.com"


async def test_a_user_gets_in_by_emails_and_the_code_of_a_flow(project: Project) -> None:
    auth, do, api = await project.auth(), project.do, project.api
    unknown = {"email": "ann@example.com", "options": {"should_create_user": False}}
    assert await project.rejected(auth.sign_in_with_otp, unknown) == "otp_disabled"
    await api.create()
    await do(auth.sign_in_with_otp, {"email": "ann@example.com"})
    token = api.message().token
    found = await do(auth.verify_otp, {"token_hash": token, "type": "email"})
    assert found.session.user.email == "ann@example.com"
    flow = await project.auth()
    await do(flow.reset_password_for_email, "ann@example.com")
    async with httpx.AsyncClient() as browser:
        followed = await browser.get(api.message().link)
    query = parse_qs(urlsplit(followed.headers["location"]).query)
    exchanged = await do(flow.exchange_code_for_session, {"auth_code": query["code"][0]})
    assert exchanged.user.email == "ann@example.com"
    await do(flow.update_user, {"password": NEW_PASSWORD})
    again = await project.auth()
    await do(again.sign_in_with_password, {"email": "ann@example.com", "password": NEW_PASSWORD})


async def test_an_anonymous_user_signs_in(project: Project) -> None:
    auth = await project.auth()
    signed_in = await project.do(auth.sign_in_anonymously)
    assert signed_in.user.is_anonymous
    assert signed_in.session.access_token


async def test_what_is_not_offered_is_rejected_by_code(project: Project) -> None:
    auth, rejected = await project.auth(), project.rejected
    phone = {"phone": "+4912345", "password": PASSWORD}
    assert await rejected(auth.sign_up, phone) == "phone_provider_disabled"
    assert await rejected(auth.sign_in_with_password, phone) == "phone_provider_disabled"
    assert await rejected(auth.sign_in_with_otp, {"phone": "+4912345"}) == "phone_provider_disabled"
    by_token = {"provider": "google", "token": "x"}
    assert await rejected(auth.sign_in_with_id_token, by_token) == "provider_disabled"
    assert (
        await rejected(auth.sign_in_with_sso, {"domain": "example.com"}) == "saml_provider_disabled"
    )
    url = (await project.do(auth.sign_in_with_oauth, {"provider": "github"})).url
    async with httpx.AsyncClient() as browser:
        response = await browser.get(url)
    assert response.json()["msg"] == "Unsupported provider: provider is not enabled"


async def test_a_user_adds_shows_and_removes_a_second_factor(project: Project) -> None:
    auth, do, api = await project.auth(), project.do, project.api
    user = await api.create()
    credentials = {"email": "ann@example.com", "password": PASSWORD}
    await do(auth.sign_in_with_password, credentials)
    enrolled = await do(auth.mfa.enroll, {"factor_type": "totp", "friendly_name": "phone"})
    assert enrolled.totp.qr_code.startswith("data:image/svg+xml;utf-8,<svg")
    clock = pyotp.TOTP(enrolled.totp.secret)
    challenge = await do(auth.mfa.challenge, {"factor_id": enrolled.id})
    body = {"factor_id": enrolled.id, "challenge_id": challenge.id, "code": clock.now()}
    await do(auth.mfa.verify, body)
    levels = await do(auth.mfa.get_authenticator_assurance_level)
    assert (levels.current_level, levels.next_level) == ("aal2", "aal2")
    await do(auth.sign_out)
    await do(auth.sign_in_with_password, credentials)
    levels = await do(auth.mfa.get_authenticator_assurance_level)
    assert (levels.current_level, levels.next_level) == ("aal1", "aal2")
    body = {"factor_id": enrolled.id, "code": clock.now()}
    await do(auth.mfa.challenge_and_verify, body)
    listed = await do(auth.mfa.list_factors)
    assert [factor.friendly_name for factor in listed.totp] == ["phone"]
    admin = (await project.auth(SERVICE)).admin
    (factor,) = await do(admin.mfa.list_factors, {"user_id": user["id"]})
    assert factor.id == enrolled.id
    assert (await do(auth.mfa.unenroll, {"factor_id": enrolled.id})).id == enrolled.id
    again = await do(auth.mfa.enroll, {"factor_type": "totp", "friendly_name": "watch"})
    deleted = await do(admin.mfa.delete_factor, {"user_id": user["id"], "id": again.id})
    assert deleted.id == again.id


async def test_the_service_administers_users(project: Project) -> None:
    admin, do = (await project.auth(SERVICE)).admin, project.do
    id = str(uuid4())
    attributes = {"id": id, "email": "ann@example.com", "email_confirm": True}
    made = await do(admin.create_user, {**attributes, "password": PASSWORD})
    assert made.user.id == id
    assert await project.rejected(admin.create_user, attributes) == "email_exists"
    invited = await do(admin.invite_user_by_email, "bob@example.com", {"data": {"team": "blue"}})
    assert invited.user.invited_at
    assert {user.email for user in await do(admin.list_users, 1, 10)} == {
        "ann@example.com",
        "bob@example.com",
    }
    changes = {"user_metadata": {"name": "Ann"}, "app_metadata": {"plan": "free"}}
    await do(admin.update_user_by_id, id, changes)
    user = (await do(admin.get_user_by_id, id)).user
    assert user.user_metadata["name"] == "Ann"
    link = await do(admin.generate_link, {"type": "recovery", "email": "ann@example.com"})
    assert link.properties.verification_type == "recovery"
    assert link.user.id == id
    auth = await project.auth()
    body = {"token_hash": link.properties.hashed_token, "type": "recovery"}
    session = (await do(auth.verify_otp, body)).session
    await do(admin.sign_out, session.access_token)
    assert await project.rejected(auth.get_user) == "session_not_found"
    await do(admin.delete_user, id)
    assert await project.rejected(admin.get_user_by_id, id) == "user_not_found"
    stranger = (await project.auth()).admin
    assert await project.rejected(stranger.list_users) == "not_admin"
