"""What Azure says of an address, which not every tenant vouches for."""

from typing import Any

import pytest
from tests.gateway.auth.conftest import ServeAuth
from tests.gateway.auth.third_parties import query_of, sign_in
from tests.third_parties import ANN, ThirdParty, registered

from amphibase.accounts.oauth.profiles import of_azure

ONE_TENANT = "https://login.microsoftonline.com/8eaef023-2b34-4da1-9baa-8bc8c9d6a490"


@pytest.mark.parametrize(
    ("tenant", "claims", "is_verified"),
    [
        ("shop.onmicrosoft.com", {}, True),
        ("shop.onmicrosoft.com", {"xms_edov": False}, False),
        ("shop.onmicrosoft.com", {"xms_edov": "0"}, False),
        ("shop.onmicrosoft.com", {"xms_edov": None}, False),
        ("Common", {}, False),
        ("proxy/organizations/", {}, False),
        ("9188040D-6c67-4c5b-b112-36a304b66dad", {}, False),
        ("common", {"xms_edov": True}, True),
        ("common", {"xms_edov": 1}, True),
        ("common", {"xms_edov": "true"}, True),
    ],
)
def test_azure_verifies_an_address_by_its_word_or_by_the_only_tenant(
    tenant: str, claims: dict[str, Any], is_verified: bool
) -> None:
    url = f"https://login.microsoftonline.com/{tenant}"
    identity = of_azure({**ANN, **claims}, url, f"{ONE_TENANT}/v2.0")
    assert identity.is_verified is is_verified


@pytest.mark.parametrize("tenant", ["{tenantid}", "9188040d-6c67-4c5b-b112-36a304b66dad"])
def test_a_tenant_that_azure_calls_shared_verifies_no_address(tenant: str) -> None:
    identity = of_azure(ANN, ONE_TENANT, f"https://login.microsoftonline.com/{tenant}/v2.0")
    assert not identity.is_verified


async def test_the_issuer_of_azures_configuration_decides_in_the_whole_flow(
    serve: ServeAuth, third_party: ThirdParty
) -> None:
    third_party.issuer = f"{third_party.url}/{{tenantid}}/v2.0"
    third_party.user |= {"iss": f"{third_party.url}/theirs/v2.0", "tid": "theirs"}
    api = await serve(**registered(third_party, "azure"))
    await api.create()
    assert query_of(await sign_in(api, name="azure"))["error_code"] == "email_exists"
