"""An S3-compatible server for the tests: moto's, since no real one comes from a package registry
for every machine that runs them."""

import contextlib
import logging
from collections.abc import Iterator
from urllib.parse import urlencode

import httpx

BUCKET = "files"


@contextlib.contextmanager
def object_store() -> Iterator[str]:
    """Serve until the block ends; the server's address."""
    from moto.server import ThreadedMotoServer  # here, since it takes a second to import

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        address = f"http://{host}:{port}"
        httpx.put(f"{address}/{BUCKET}").raise_for_status()
        yield address
    finally:
        server.stop()


def files_url(address: str, folder: str) -> str:
    """`FILES_URL` for a folder of its own."""
    options = {
        "endpoint": address,
        "region": "us-east-1",
        "access_key_id": "test",
        "secret_access_key": "test",
        "virtual_hosted_style_request": "false",
    }
    return f"s3://{BUCKET}/{folder}?{urlencode(options)}"
