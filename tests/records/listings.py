"""Reads query strings of lists for the tests."""

from typing import Any
from urllib.parse import parse_qsl

import pytest
from fastapi.exceptions import RequestValidationError
from sqlalchemy import select
from sqlalchemy.dialects import sqlite
from tests.column_models import Kinds

from amphibase.records.listing import Listing, read_listing


def read(query: str, model: type[Any] = Kinds, **options: int) -> Listing:
    return read_listing(model, parse_qsl(query, keep_blank_values=True), **options)


def sql(query: str, model: type[Any] = Kinds) -> tuple[str, list[Any]]:
    """The condition as SQL, and what is bound in it."""
    statement = select(model).where(*read(query, model).where)
    compiled = statement.compile(dialect=sqlite.dialect())
    _, _, condition = " ".join(str(compiled).split()).partition(" WHERE ")
    return condition.replace("t_kinds.", ""), [*compiled.params.values()]


def rejected(query: str, model: type[Any] = Kinds, **options: int) -> tuple[str, str]:
    """The field that is rejected, and why."""
    with pytest.raises(RequestValidationError) as caught:
        read(query, model, **options)
    first = caught.value.errors()[0]
    assert first["loc"][0] == "query"
    return first["loc"][1], first["msg"]
