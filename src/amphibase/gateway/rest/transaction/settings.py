"""The settings of a request's transaction, and the function that is called before its statement."""

from collections.abc import Sequence

import orjson

from amphibase.gateway.rest.request.request import ApiRequest
from amphibase.gateway.rest.schema.catalog import Catalog, Name
from amphibase.gateway.rest.sql.fragments import listed, qualified
from amphibase.gateway.rest.transaction.role import RequestRole

ISOLATION = "default_transaction_isolation"
"""A setting that a transaction has to begin with."""


class TransactionSettings:
    """The transactions of requests about one state of the database.

    Args:
        extra_search_path: schemas after the request's own (PGRST_DB_EXTRA_SEARCH_PATH).
        pre_request: the name of a function to call first (PGRST_DB_PRE_REQUEST), or None.

    Attributes:
        before: what is called before each request's own statement, as SQL.
    """

    def __init__(
        self, catalog: Catalog, extra_search_path: Sequence[str], pre_request: str | None
    ) -> None:
        self._role_settings = catalog.role_settings
        self._paths = {
            schema: listed(dict.fromkeys((schema, *extra_search_path)))
            for schema in catalog.schemas
        }
        self.before = (f"SELECT {qualified(_function_name(pre_request))}()",) if pre_request else ()

    def settings(
        self, request: ApiRequest, role: RequestRole, timezone: str | None = None
    ) -> dict[str, str]:
        """Return the settings of the transaction: the role's own, and the request's (`request.*`).

        Args:
            timezone: the one that the request prefers.
        """
        headers = request.headers
        cookies = headers.get("cookie")
        if cookies is not None:
            headers = {name: value for name, value in headers.items() if name != "cookie"}
        settings = {
            **self._role_settings.get(role.name, {}),
            "search_path": self._paths[request.schema],
            "request.method": request.method,
            "request.path": request.path,
            "request.headers": orjson.dumps(headers).decode(),
            "request.cookies": _cookies(cookies) if cookies else "{}",
        }
        if timezone is not None:
            settings["timezone"] = timezone
        return settings


def _function_name(text: str) -> Name:
    schema, _, name = text.rpartition(".")
    return Name(schema or "public", name)


def _cookies(header: str) -> str:
    """Return the cookies as JSON, in the lenient grammar of browsers."""
    cookies = {}
    for part in header.split(";"):
        name, _, value = part.partition("=")
        if name := name.strip():
            cookies[name] = value.strip().removeprefix('"').removesuffix('"')
    return orjson.dumps(cookies).decode()
