"""What a request's statement finds in its transaction: what is told of the request, and done
before."""

from collections.abc import Mapping, Sequence

import orjson

from amphibase.gateway.rest.request.request import Asked
from amphibase.gateway.rest.schema.catalog import Catalog, Name
from amphibase.gateway.rest.sql.fragments import listed, qualified
from amphibase.gateway.rest.transaction.role import Identity

ISOLATION = "default_transaction_isolation"
"""A setting that a transaction has to begin with."""


class Context:
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
        self, asked: Asked, identity: Identity, timezone: str | None = None
    ) -> Mapping[str, str]:
        """The settings of the transaction: the role's own, and what is told of the request.

        Args:
            timezone: the one that the request prefers.
        """
        headers = dict(asked.headers)
        cookies = headers.pop("cookie", None)
        settings = {
            **self._role_settings.get(identity.role, {}),
            "search_path": self._paths[asked.schema],
            "request.method": asked.method,
            "request.path": asked.path,
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
    """All that browsers send, as JSON: many a cookie is none by the letter of its grammar."""
    cookies = {}
    for part in header.split(";"):
        name, _, value = part.partition("=")
        if name := name.strip():
            cookies[name] = value.strip().removeprefix('"').removesuffix('"')
    return orjson.dumps(cookies).decode()
