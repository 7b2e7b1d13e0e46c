"""Sign-in by an ID token that an application got by itself."""

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.gateway.auth.api import PASSWORD, SERVICE, Api, rejection
from tests.gateway.auth.conftest import ServeAuth
from tests.third_parties import CLIENT, ThirdParty, registered

from amphibase.accounts.oauth.openid import half_hash


async def test_an_id_token_of_the_application_signs_in(
    serve: ServeAuth, third_party: ThirdParty
) -> None:
    api = await serve(**registered(third_party, external_keycloak_client_id=f"{CLIENT},phone-app"))
    nonce = hashlib.sha256(b"once").hexdigest()
    token = third_party.id_token(aud="phone-app", nonce=nonce)
    body = {"provider": "keycloak", "id_token": token, "nonce": "once"}
    session = await api.post("/token?grant_type=id_token", body)
    assert session.status_code == 200, session.text
    assert session.json()["user"]["email"] == "ann@example.com"


async def test_an_id_token_of_a_banned_user_is_rejected(
    serve: ServeAuth, third_party: ThirdParty
) -> None:
    api = await serve(**registered(third_party))
    body = {"provider": "keycloak", "id_token": third_party.id_token()}
    session = (await api.post("/token?grant_type=id_token", body)).json()
    await api.ban(session["user"]["id"])
    response = await api.post("/token?grant_type=id_token", body)
    assert rejection(response) == (403, "user_banned")


@pytest.mark.parametrize("is_on", [False, True])
@pytest.mark.parametrize("by_admin", [False, True])
async def test_a_first_password_adds_the_identity_by_email_where_the_settings_say_so(
    serve: ServeAuth, third_party: ThirdParty, is_on: bool, by_admin: bool
) -> None:
    setting = {"experimental_create_email_identity_on_password_set_enabled": is_on}
    api = await serve(**registered(third_party), **setting)
    body = {"provider": "keycloak", "id_token": third_party.id_token()}
    session = (await api.post("/token?grant_type=id_token", body)).json()
    path, token = "/user", session["access_token"]
    if by_admin:
        path, token = f"/admin/users/{session['user']['id']}", SERVICE
    for password in (PASSWORD, "another password"):
        response = await api.put(path, {"password": password}, token=token)
        assert response.status_code == 200, response.text
        expected = ["keycloak", "email"] if is_on else ["keycloak"]
        user = response.json()
        assert [each["provider"] for each in user["identities"]] == expected
        assert user["app_metadata"]["providers"] == expected
    if is_on:
        data = user["identities"][1]["identity_data"]
        assert (data["email"], data["email_verified"]) == ("ann@example.com", True)


async def test_an_id_token_is_linked_to_the_user_who_is_signed_in(
    serve: ServeAuth, third_party: ThirdParty
) -> None:
    api = await serve(**registered(third_party), external_anonymous_users_enabled=True)
    anonymous = (await api.post("/signup", {})).json()
    body = {"provider": "keycloak", "id_token": third_party.id_token(), "link_identity": True}
    nobody = await api.post("/token?grant_type=id_token", body)
    assert (nobody.status_code, nobody.json()) == (
        400,
        {
            "error": "invalid request",
            "error_description": "Linking requires a valid user access token in Authorization",
        },
    )
    token = anonymous["access_token"]
    linked = await api.post("/token?grant_type=id_token", body, token=token)
    user = linked.json()["user"]
    assert (user["id"], user["is_anonymous"]) == (anonymous["user"]["id"], False)
    assert [each["provider"] for each in user["identities"]] == ["keycloak"]
    again = await api.post("/token?grant_type=id_token", body, token=token)
    assert (again.status_code, again.json()["code"]) == (422, "identity_already_exists")


@pytest.mark.parametrize(
    ("algorithm", "name"),
    [("RS256", "sha256"), ("PS384", "sha384"), ("ES512", "sha512"), ("EdDSA", "sha512")],
)
def test_at_hash_is_by_the_hash_of_the_tokens_algorithm(algorithm: str, name: str) -> None:
    digest = hashlib.new(name, b"theirs").digest()
    half = base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
    assert half_hash("theirs", algorithm) == half


async def test_an_id_token_signed_by_sha_512_has_the_at_hash_of_it(
    serve: ServeAuth, third_party: ThirdParty
) -> None:
    third_party.algorithm = "RS512"
    api = await serve(**registered(third_party))
    for algorithm, status in (("RS512", 200), ("RS256", 400)):
        token = third_party.id_token(at_hash=half_hash("theirs", algorithm))
        body = {"provider": "keycloak", "id_token": token, "access_token": "theirs"}
        response = await api.post("/token?grant_type=id_token", body)
        assert response.status_code == status, response.text


def forged(third_party: ThirdParty, how: str) -> str:
    claims = jwt.decode(third_party.id_token(), options={"verify_signature": False})
    public = third_party.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    if how == "none":
        return jwt.encode(claims, "", "none")
    if how == "shared secret":
        head, payload = (
            base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
            for part in ({"alg": "HS256", "kid": "one"}, claims)
        )
        signature = hmac.digest(public, head + b"." + payload, "sha256")
        return b".".join([head, payload, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()
    other = rsa.generate_private_key(65537, 2048)
    return jwt.encode(claims, other, "RS256", headers={"kid": "one"})


APPLE = "https://account.apple.com"


def unsigned(issuer: str) -> str:
    return jwt.encode({"iss": issuer}, "", "none")


def disabled(issuer: str) -> str:
    return f'Provider (issuer "{issuer}") is not enabled'


@pytest.mark.parametrize(
    ("change", "description"),
    [
        ({"aud": "another"}, "Unacceptable audience in id_token: [another]"),
        ({"aud": [CLIENT, "another"]}, f"Unacceptable audience in id_token: [{CLIENT} another]"),
        ({"iss": "https://evil.example"}, "Bad ID token"),
        ({"exp": 1}, "Bad ID token"),
        ({"at_hash": "another"}, "Bad ID token"),
        ({"nonce": "another"}, "Nonces mismatch"),
        ({"nonce": "änother"}, "Nonces mismatch"),
        ({}, "Passed nonce and nonce in id_token should either both exist or not."),
        ("none", "Bad ID token"),
        ("shared secret", "Bad ID token"),
        ("other key", "Bad ID token"),
    ],
)
async def test_an_id_token_that_is_not_for_the_application_is_rejected(
    serve: ServeAuth, third_party: ThirdParty, change: Any, description: str
) -> None:
    api = await serve(**registered(third_party))
    token = forged(third_party, change) if isinstance(change, str) else None
    token = token or third_party.id_token(**change)
    body = {"provider": "keycloak", "id_token": token, "nonce": "once", "access_token": "theirs"}
    response = await api.post("/token?grant_type=id_token", body)
    assert (response.status_code, response.json()["error_description"]) == (400, description)


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"provider": "google"}, "provider_disabled", disabled("https://accounts.google.com")),
        ({"provider": "keycloak"}, "provider_disabled", disabled("")),
        (
            {"provider": "github", "issuer": "https://accounts.google.com"},
            "provider_disabled",
            disabled("https://accounts.google.com"),
        ),
        (
            {"provider": "github", "issuer": "https://github.com"},
            "validation_failed",
            'Custom OIDC provider "github" not allowed',
        ),
        (
            {"provider": "apple", "id_token": "a.b"},
            "validation_failed",
            "Unable to detect issuer in ID token for Apple provider",
        ),
        (
            {
                "provider": "azure",
                "id_token": f"e30.{base64.b64encode(b'[' * 90_000).decode()}.e30",
            },
            "validation_failed",
            "Unable to detect issuer in ID token for Azure provider",
        ),
        (
            {"provider": "azure", "id_token": unsigned("https://appleid.apple.com")},
            "validation_failed",
            "Detected ID token issuer is not an Azure ID token issuer",
        ),
        (
            {"provider": "apple", "id_token": unsigned(APPLE), "issuer": "https://other.example"},
            "validation_failed",
            "Provided issuer does not match ID token issuer",
        ),
        (
            {"provider": "apple", "id_token": unsigned(APPLE)},
            "provider_disabled",
            disabled(APPLE),
        ),
        (
            {"provider": "custom:none"},
            "validation_failed",
            'Custom provider "custom:none" not found',
        ),
    ],
)
async def test_whose_token_it_is_has_to_be_known(
    api: Api, body: dict[str, str], code: str, message: str
) -> None:
    response = await api.post("/token?grant_type=id_token", {"id_token": "x", **body})
    assert response.status_code == 400
    assert response.json() == {"code": code, "message": message}
