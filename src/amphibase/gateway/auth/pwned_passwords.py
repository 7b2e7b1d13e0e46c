"""Passwords that are known from leaks, by the range API of Have I Been Pwned
(https://haveibeenpwned.com/API/v3#PwnedPasswords): of the password's SHA-1, five digits leave."""

import hashlib

from amphibase.certificates import https_context

RANGE_URL = "https://api.pwnedpasswords.com/range"
TIMEOUT_SECONDS = 5
MAX_RESPONSE_BYTES = 1024 * 1024


class LeaksUnknown(Exception):
    """Raised where it cannot be said whether a password has leaked."""


async def has_leaked(password: str) -> bool:
    """Return whether a password is among those that have leaked. Raises LeaksUnknown."""
    import httpx  # few projects look

    content = password.encode("utf-8", "surrogatepass")
    digest = hashlib.sha1(content, usedforsecurity=False).hexdigest().upper()
    prefix, suffix = digest[:5], digest[5:]
    headers = {"add-padding": "true", "user-agent": "Amphibase"}
    received = bytearray()
    try:
        async with (
            httpx.AsyncClient(
                timeout=TIMEOUT_SECONDS, headers=headers, verify=https_context()
            ) as client,
            client.stream("GET", f"{RANGE_URL}/{prefix}") as response,
        ):
            response.raise_for_status()
            async for chunk in response.aiter_bytes():
                received += chunk
                if len(received) > MAX_RESPONSE_BYTES:
                    raise LeaksUnknown("The response is too long")
    except httpx.HTTPError as error:
        raise LeaksUnknown(type(error).__name__) from None
    # What only pads the response has leaked 0 times.
    lines = (line.partition(":") for line in received.decode("ascii", "replace").split())
    return any(name == suffix and count.strip("0") != "" for name, _, count in lines)
