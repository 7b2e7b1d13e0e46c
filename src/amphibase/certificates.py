"""The certificates by which servers of HTTPS are verified, read once in a process."""

import ssl
from functools import cache


@cache
def https_context() -> ssl.SSLContext:
    """Return the context of httpx for clients of HTTP/1.1, who share it.

    Each client would read some 150 certificates, which takes 20 milliseconds, while the event loop
    waits. Protocols other than HTTP/1.1 need a context of their own: clients write theirs into it.
    """
    import httpx  # few processes send requests

    return httpx.create_ssl_context()
