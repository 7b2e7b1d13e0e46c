"""`/admin/sso/providers`, where SAML is off."""

from uuid import uuid4

from tests.gateway.auth.api import SERVICE, Api, rejection

PROVIDER = "6b5aa5bc-0fd9-4b5c-9b5c-cbc1c1f0c3a1"
ROWS = f"""
INSERT INTO auth.sso_providers (id, resource_id, created_at, updated_at, disabled)
VALUES ('{PROVIDER}', 'acme', '2026-01-01', '2026-01-02', false);
INSERT INTO auth.sso_domains (id, sso_provider_id, domain, created_at)
VALUES ('{uuid4()}', '{PROVIDER}', 'acme.com', '2026-01-01');
INSERT INTO auth.saml_providers (id, sso_provider_id, entity_id, metadata_xml)
VALUES ('{uuid4()}', '{PROVIDER}', 'https://acme.com/saml', '<EntityDescriptor/>')
"""


async def test_a_provider_without_times_has_the_zero_of_go(api: Api) -> None:
    id = uuid4()
    api.rows(f"INSERT INTO auth.sso_providers (id) VALUES ('{id}')")
    deleted = (await api.delete(f"/admin/sso/providers/{id}", token=SERVICE)).json()
    assert deleted["created_at"] == deleted["updated_at"] == "0001-01-01T00:00:00Z"


async def test_providers_of_a_projects_data_are_shown_and_deleted(api: Api) -> None:
    saml = {"entity_id": "https://acme.com/saml", "attribute_mapping": {}}
    listed = {
        "id": PROVIDER,
        "resource_id": "acme",
        "disabled": False,
        "saml": saml,
        "domains": [{"domain": "acme.com"}],
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-02T00:00:00Z",
    }
    whole = {**listed, "saml": {**saml, "metadata_xml": "<EntityDescriptor/>"}}
    path = f"/admin/sso/providers/{PROVIDER}"
    for statement in ROWS.split(";\n"):
        api.rows(statement)
    response = await api.get("/admin/sso/providers", token=SERVICE)
    assert response.json() == {"items": [listed]}
    assert (await api.get(path, token=SERVICE)).json() == whole
    assert (await api.delete(path, token=SERVICE)).json() == whole
    assert (await api.get("/admin/sso/providers", token=SERVICE)).json() == {"items": []}
    for id in (PROVIDER, "acme"):
        missing = await api.get(f"/admin/sso/providers/{id}", token=SERVICE)
        assert rejection(missing) == (404, "sso_provider_not_found")


async def test_no_provider_is_added_or_changed(api: Api) -> None:
    for method, path in (("POST", ""), ("PUT", f"/{PROVIDER}")):
        response = await api.call(
            method, f"/admin/sso/providers{path}", {"type": "saml"}, token=SERVICE
        )
        assert rejection(response) == (404, "saml_provider_disabled")


async def test_providers_are_for_the_administration(api: Api) -> None:
    token = (await api.sign_up())["access_token"]
    for method, path in (("GET", ""), ("POST", ""), ("GET", "/x"), ("PUT", "/x"), ("DELETE", "/x")):
        response = await api.call(method, f"/admin/sso/providers{path}", {}, token=token)
        assert rejection(response) == (403, "not_admin")
