"""Which URLs the administration may name for requests of Auth: none that leads to a private network
(`ValidateOAuthURL` in `internal/utilities/url_validator.go` of Supabase Auth), nor to what else is
no public address, such as those that carriers and clouds share (RFC 6598)."""

import asyncio
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from amphibase.gateway.auth.errors import invalid

RESOLVE_SECONDS = 5
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1", "0.0.0.0", "::")  # noqa: S104 - not to listen on
PRIVATE = tuple(map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")))


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
        _check(ip_address(str(address[0]).partition("%")[0]))


def _check(address: IPv4Address | IPv6Address) -> None:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
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
