"""Which URLs the administration may name for requests of Auth: none that leads to a private network
(`ValidateOAuthURL` in `internal/utilities/url_validator.go` of Supabase Auth), nor to what else is
no public address, such as those that carriers and clouds share (RFC 6598)."""

import asyncio
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from amphibase.gateway.auth.errors import AuthError, invalid

if TYPE_CHECKING:
    import httpx

RESOLVE_SECONDS = 5
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1", "0.0.0.0", "::")  # noqa: S104 - not to listen on
PRIVATE = tuple(map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")))


async def check_request(request: "httpx.Request") -> None:
    """Let a request be sent to a public address alone, as a hook of httpx.

    A name may lead elsewhere when it is resolved again: the address of the connection is checked
    too, before anything is sent (https://www.encode.io/httpcore/extensions/#trace).

    Raises:
        AuthError: it leads elsewhere.
    """
    await check_public_url(str(request.url))
    request.extensions["trace"] = _check_connection


async def _check_connection(event: str, info: Mapping[str, Any]) -> None:
    if event != "connection.connect_tcp.complete":
        return
    connection = info["return_value"]
    try:
        check_address(connection.get_extra_info("server_addr")[0])
    except AuthError:
        await connection.aclose()
        raise


async def check_public_url(url: str) -> None:
    """Raise AuthError for a URL that is not HTTPS, or whose host is not a public one."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
    except ValueError:
        raise invalid("Invalid URL format") from None
    if parts.scheme != "https":
        raise invalid("URL must use HTTPS")
    if not host:
        raise invalid("URL must have a valid hostname")
    if host in LOCAL_NAMES or host.endswith(".localhost"):
        raise invalid("URL cannot point to localhost or loopback addresses")
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            found = await asyncio.get_running_loop().getaddrinfo(host, None)
    except (OSError, UnicodeError, TimeoutError):
        raise invalid("Unable to resolve hostname") from None
    for *_, address in found:
        check_address(str(address[0]))


def check_address(text: str) -> None:
    """Raise AuthError for an IP address that is not a public one."""
    address: IPv4Address | IPv6Address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address):  # some hold an older address, and lead there
        address = address.ipv4_mapped or address.sixtofour or address
    if address.is_loopback:
        kind = "loopback addresses"
    elif any(address in network for network in PRIVATE):
        kind = "private network addresses"
    elif address.is_link_local:
        kind = "link-local addresses"
    elif address.is_multicast:
        kind = "multicast addresses"
    elif address.is_unspecified:
        kind = "unspecified addresses"
    elif not address.is_global or address.is_reserved:  # what upstream lets pass
        kind = "addresses that are not public"
    else:
        return
    raise invalid(f"URL cannot resolve to {kind}")
