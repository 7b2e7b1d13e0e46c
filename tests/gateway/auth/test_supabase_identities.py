"""The application's own routes for third parties, with its accounts in a Supabase project."""

from pathlib import Path
from urllib.parse import urlencode

import pytest
from fastapi import FastAPI
from tests.backends import SECRET as KEY
from tests.gateway.auth.api import ANON, SECRET, SERVICE
from tests.gateway.auth.conftest import ServeAuth
from tests.gateway.auth.third_parties import CHALLENGE, VERIFIER, query_of
from tests.third_parties import APP, ThirdParty, browse, registered

from amphibase import Amphibase, load_settings
from amphibase.gateway.app import Gateway, Mount
from amphibase.gateway.keys import ApiKeys
from amphibase.testing.client import open_client

PKCE = {"code_challenge": CHALLENGE.decode(), "code_challenge_method": "S256"}


@pytest.mark.parametrize("links", [True, False])
async def test_auth_of_the_project_signs_in_and_links(
    serve: ServeAuth, third_party: ThirdParty, sqlite_url: str, tmp_path: Path, links: bool
) -> None:
    api = await serve(
        behind=lambda service: Gateway(
            {"/auth/v1": Mount(lambda: service)}, ApiKeys(SECRET, ANON, SERVICE)
        ),
        security_manual_linking_enabled=links,
        **registered(third_party),
    )
    settings = load_settings(
        accounts="supabase",
        database_url=sqlite_url,
        data_dir=tmp_path,
        secret_key=KEY,
        supabase_url=api.url,
        supabase_anon_key=ANON,
        supabase_service_key=SERVICE,
        oauth_redirect_urls=APP,
    )

    async def code_at(url: str) -> str:
        """The code that a browser comes back with."""
        back = await browse(await browse(url) if url.startswith(api.url) else url)
        return query_of(await api.client.get(back))["code"]

    async with open_client(Amphibase(settings).mount(FastAPI())) as client:
        begun = await client.get(f"/auth/oauth/keycloak?{urlencode(PKCE)}")
        code = await code_at(begun.headers["location"])
        body = {"code": code, "code_verifier": "w" * 64}
        assert (await client.post("/auth/oauth/token", json=body)).status_code == 400
        body["code_verifier"] = VERIFIER
        signed_in = await client.post("/auth/oauth/token", json=body)
        assert signed_in.json()["user"]["email"] == "ann@example.com"
        evil = {"redirect_to": "https://evil.example"}
        rejected = await client.get(f"/auth/oauth/keycloak?{urlencode(PKCE | evil)}")
        assert rejected.status_code == 400

        bob = await client.as_user("bob@example.com")
        third_party.user |= {"sub": "bob-there", "email": "bob@elsewhere.example"}
        begun = await bob.post("/auth/identities/keycloak", json=PKCE)
        if not links:
            assert (begun.status_code, begun.json()["code"]) == (501, "not_supported")
            return
        body["code"] = await code_at(begun.json()["url"])
        linked = await bob.post("/auth/identities", json=body)
        assert (linked.status_code, linked.json()["email"]) == (201, "bob@elsewhere.example")
        identities = (await bob.get("/auth/identities")).json()["items"]
        assert [identity["provider"] for identity in identities] == ["email", "keycloak"]
        assert (await bob.delete(f"/auth/identities/{linked.json()['id']}")).status_code == 204
        assert len((await bob.get("/auth/identities")).json()["items"]) == 1
