"""`GOTRUE_JWT_KEYS`: users' tokens are signed by a key of one's own, and keys are rotated."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms
from tests.gateway.conftest import ProjectDatabase

from amphibase.accounts.jwt.signing_keys import read_signing_keys
from amphibase.errors import ConfigurationError
from amphibase.gateway.build import Project, build
from amphibase.gateway.keys import ApiKeys, api_key
from amphibase.gateway.settings import GatewaySettings, revealed
from amphibase.settings.loading import load

SECRET = "a secret of the project that is long enough for HS256"
KEYS = ApiKeys(SECRET, api_key(SECRET, "anon"), api_key(SECRET, "service_role"))

Jwk = Mapping[str, Any]

PRIVATE: Mapping[str, Any] = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    "HS256": b"a secret of users' tokens alone that is long enough",
}


def jwk(algorithm: str, *operations: str, **changes: Any) -> Jwk:
    """A private key as Supabase's command line writes it; its id is its algorithm."""
    written = get_default_algorithms()[algorithm].to_jwk(PRIVATE[algorithm], as_dict=True)
    named = {"kid": algorithm, "alg": algorithm, "key_ops": list(operations)}
    return {**written, **named, **changes}


@asynccontextmanager
async def gateway(
    database: ProjectDatabase, folder: Path, *keys: Jwk
) -> AsyncIterator[httpx.AsyncClient]:
    """The gateway of a project, started with these keys."""
    written = json.dumps(keys) if keys else ""
    app = build(Project(database.roles, "http://gateway", folder, KEYS, jwt_keys=written))
    await app.start()
    transport = httpx.ASGITransport(app)
    headers = {"apikey": KEYS.anon}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://gateway", headers=headers
    ) as client:
        yield client
    await app.close()


async def statuses(client: httpx.AsyncClient, access_token: str) -> list[int]:
    headers = {"authorization": f"Bearer {access_token}"}
    paths = ("/auth/v1/user", "/rest/v1/rpc/whoami", "/storage/v1/bucket")
    return [(await client.get(path, headers=headers)).status_code for path in paths]


async def refreshed(client: httpx.AsyncClient, session: dict[str, Any]) -> dict[str, Any]:
    body = {"refresh_token": session["refresh_token"]}
    response = await client.post("/auth/v1/token?grant_type=refresh_token", json=body)
    assert response.status_code == 200, response.text
    renewed: dict[str, Any] = response.json()
    return renewed


@pytest.mark.parametrize("algorithm", PRIVATE)
async def test_a_rotation_signs_nobody_out(
    project: ProjectDatabase, tmp_path: Path, algorithm: str
) -> None:
    new = "RS256" if algorithm == "ES256" else "ES256"
    async with gateway(project, tmp_path) as client:
        person = {"email": "ann@example.com", "password": "correct horse battery"}
        session = (await client.post("/auth/v1/signup", json=person)).json()
        link = await signed_url(client)
    create_whoami(project.owner)
    rotation = [
        [jwk(algorithm, "sign", "verify")],
        [jwk(algorithm, "sign", "verify"), jwk(new, "verify")],
        [jwk(algorithm, "verify"), jwk(new, "sign", "verify")],
    ]
    for step, signing in zip(rotation, (algorithm, algorithm, new), strict=True):
        async with gateway(project, tmp_path, *step) as client:
            assert await statuses(client, session["access_token"]) == [200, 200, 200]
            assert (await client.get(f"/storage/v1{link}")).text == "rye"
            session = await refreshed(client, session)
            header = jwt.get_unverified_header(session["access_token"])
            assert (header["kid"], header["alg"]) == (signing, signing)
            assert await statuses(client, session["access_token"]) == [200, 200, 200]
    async with gateway(project, tmp_path, jwk("EdDSA", "sign", kid="other")) as client:
        assert await statuses(client, session["access_token"]) == [403, 401, 400]
        await refreshed(client, session)


async def signed_url(client: httpx.AsyncClient) -> str:
    """Store a file, and return the path of a signed URL for it."""
    headers = {"authorization": f"Bearer {KEYS.service_role}"}
    await client.post("/storage/v1/bucket", json={"name": "bread"}, headers=headers)
    await client.post("/storage/v1/object/bread/rye.txt", content=b"rye", headers=headers)
    response = await client.post(
        "/storage/v1/object/sign/bread/rye.txt", json={"expiresIn": 600}, headers=headers
    )
    url: str = response.json()["signedURL"]
    return url


def create_whoami(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(
            "CREATE FUNCTION whoami() RETURNS uuid STABLE LANGUAGE sql RETURN auth.uid()"
        )


async def test_the_public_halves_of_the_keys_are_published_and_nothing_else(
    project: ProjectDatabase, tmp_path: Path
) -> None:
    keys = [jwk("RS256", "sign", "verify"), jwk("ES256", "verify"), jwk("HS256", "verify")]
    async with gateway(project, tmp_path, *keys) as client:
        published = (await client.get("/auth/v1/.well-known/jwks.json")).json()["keys"]
    assert [key["kid"] for key in published] == ["RS256", "ES256"]
    for key in published:
        assert not {"d", "k", "p", "q", "dp", "dq", "qi"} & key.keys()
        assert (key["use"], key["key_ops"], key["alg"]) == ("sig", ["verify"], key["kid"])


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ("hidden", "must be a JSON array"),
        ('{"kty": "hidden"}', "must be a JSON array"),
        ([], 'must have one key with "sign" in its key_ops, which signs, and has 0'),
        ([jwk("ES256", "verify")], "and has 0"),
        ([jwk("ES256", "sign"), jwk("RS256", "sign")], "and has 2"),
        ([jwk("ES256", "sign"), jwk("RS256", "verify", kid="ES256")], "a kid of its own"),
        ([jwk("ES256", "sign", kid=None)], "has no kid in key 1"),
        ([jwk("ES256", "sign"), jwk("ES256", "verify", kid="b", x="hidden")], "in key 2"),
        ([jwk("ES256", "sign", alg="ES512")], "has no key of RS256"),
        ([jwk("ES256", "sign", alg="none")], "has no key of RS256"),
        ([jwk("RS256", "sign", alg="PS256")], "has no key of RS256"),
        ([jwk("ES256", "sign", d=None)], "in key 1"),
        ([jwk("HS256", "sign", k="aGlkZGVu")], "at least 32 bytes"),
    ],
)
def test_keys_that_could_not_sign_stop_the_start_with_one_line(keys: Any, fault: str) -> None:
    text = keys if isinstance(keys, str) else json.dumps(keys)
    with pytest.raises(ConfigurationError) as raised:
        load(GatewaySettings, jwt_keys=text)
    assert raised.value.detail.startswith("GOTRUE_JWT_KEYS: ")
    assert fault in raised.value.detail
    assert len(raised.value.detail.splitlines()) == 1
    for private in ("hidden", "aGlkZGVu", *(str(key.get("d")) for key in _parsed(text))):
        assert private == "None" or private not in raised.value.detail


def _parsed(text: str) -> list[dict[str, Any]]:
    try:
        content = json.loads(text)
    except ValueError:
        return []
    return content if isinstance(content, list) else []


def test_a_public_half_verifies_and_cannot_sign() -> None:
    public = {name: value for name, value in jwk("ES256", "verify").items() if name != "d"}
    first, second = read_signing_keys(json.dumps([public, jwk("RS256", "sign")]))
    assert (first.kid, second.kid, second.signing) == ("RS256", "ES256", None)
    with pytest.raises(ValueError, match="private half"):
        read_signing_keys(json.dumps([{**public, "key_ops": ["sign"]}]))


def test_the_config_file_names_a_file_of_keys() -> None:
    Path("supabase").mkdir()
    Path("supabase/config.toml").write_text('[auth]\nsigning_keys_path = "./keys.json"')
    with pytest.raises(ConfigurationError, match=r"signing_keys_path: cannot read .*keys.json"):
        load(GatewaySettings)
    written = json.dumps([jwk("ES256", "sign")])
    Path("supabase/keys.json").write_text(written)
    assert revealed(load(GatewaySettings).jwt_keys) == written
