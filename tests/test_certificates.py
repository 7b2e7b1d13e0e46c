"""The certificates by which servers of HTTPS are verified."""

import ssl

import httpx
import pytest

from amphibase.accounts.oauth.limited_transport import LimitedTransport
from amphibase.certificates import https_context


def test_clients_of_third_parties_read_the_certificates_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[ssl.SSLContext] = []

    def create() -> ssl.SSLContext:
        read.append(ssl.create_default_context())
        return read[-1]

    monkeypatch.setattr(httpx, "create_ssl_context", create)
    https_context.cache_clear()
    for _ in range(3):
        LimitedTransport(100)
    assert len(read) == 1
    assert read[0].verify_mode is ssl.CERT_REQUIRED
    https_context.cache_clear()  # of the patch
