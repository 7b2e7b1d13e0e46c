"""What is made of a mapped class: the model of answers, and those of what is sent."""

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from pydantic import BaseModel, ValidationError
from sqlalchemy import ARRAY, Computed, DateTime, Enum, Integer, LargeBinary, String
from sqlalchemy.dialects.postgresql import INET
from sqlalchemy.orm import DeclarativeBase, Mapped, column_property, mapped_column
from sqlmodel import Field, SQLModel
from tests.column_models import Kinds, Seat
from tests.models import Author, Category, Document, Draft, Level, Note, Pet, Post

from amphibase import Access, Amphibase, Base, ConfigurationError, User
from amphibase.access import authenticated, everyone
from amphibase.records.derived import changes, create_schema, read_model, update_schema
from amphibase.records.fields import MAX_JSON_DEPTH, fields_of


class Apart(DeclarativeBase):
    """A base of these tests, whose tables are in no database."""


class Odd(Apart):
    """Columns that say little, or go by names that pydantic uses."""

    __tablename__ = "odd"

    id: Mapped[int] = mapped_column(primary_key=True)
    copy: Mapped[str]
    model_name: Mapped[str | None]
    _inner: Mapped[str] = mapped_column("inner", default="")
    plain = mapped_column(String(3))
    choice = mapped_column(Enum("yes", "no", name="choice"), nullable=False)
    raw = mapped_column(LargeBinary, nullable=False)
    several = mapped_column(ARRAY(Integer))
    address = mapped_column(INET)
    local: Mapped[datetime] = mapped_column(DateTime())
    twice: Mapped[int] = mapped_column(Computed("id * 2"))
    nothing: Mapped["str | None"]
    thrice: Mapped[int] = column_property(id * 3)


def rejections(model: type[BaseModel], **values: Any) -> dict[str, str]:
    """What is wrong with the values, by field."""
    with pytest.raises(ValidationError) as caught:
        model(**values)
    return {str(found["loc"][0]): found["msg"] for found in caught.value.errors()}


class TestReadModels:
    def test_hold_the_columns_without_private_and_deleted_ones(self) -> None:
        assert "title" in read_model(Post).model_fields
        assert "remark" not in read_model(Post).model_fields
        assert "deleted_at" not in read_model(Draft).model_fields
        assert "version" in read_model(Document).model_fields
        assert "_inner" not in read_model(Odd).model_fields

    def test_are_of_models_alone(self) -> None:
        for other in (dict, 5, "Note", Note(title="", stars=1)):
            with pytest.raises(TypeError, match="is no model: a class on Base was expected"):
                read_model(other)  # type: ignore[arg-type]

    def test_are_created_once(self) -> None:
        assert read_model(Note) is read_model(Note)

    def test_leave_out_relationships(self) -> None:
        assert set(read_model(Author).model_fields) == {"id", "name", "created_at", "updated_at"}

    def test_take_their_types_from_the_class(self) -> None:
        properties = read_model(Kinds).model_json_schema()["properties"]

        def said(name: str) -> Any:
            return next(each for each in properties[name]["anyOf"] if each != {"type": "null"})

        assert said("words") == {"type": "array", "items": {"type": "string"}}
        assert said("numbers") == {"type": "array", "items": {"type": "integer"}}
        assert said("reals") == {"type": "array", "items": {"type": "number"}}
        assert said("answers") == {"type": "array", "items": {"type": "boolean"}}
        assert said("mapping")["type"] == "object"
        assert said("mappings")["items"]["type"] == "object"
        assert said("category") == {"$ref": "#/$defs/Category"}
        assert said("moment")["format"] == "date-time"
        assert said("uid")["format"] == "uuid"
        assert said("short") == {"type": "string", "maxLength": 5}

    def test_take_their_types_from_the_columns_where_the_class_says_nothing(self) -> None:
        properties = read_model(Odd).model_json_schema()["properties"]
        assert properties["choice"]["enum"] == ["yes", "no"]
        assert properties["several"]["anyOf"][0]["items"] == {"type": "integer"}
        assert properties["plain"]["anyOf"][0] == {"type": "string", "maxLength": 3}
        assert properties["nothing"]["anyOf"][0] == {"type": "string"}
        assert properties["copy"]["type"] == "string"

    @pytest.mark.parametrize(("model", "field"), [(Post, "remark"), (Pet, "chip")])
    def test_have_no_private_column(self, model: type[Any], field: str) -> None:
        assert field not in read_model(model).model_fields
        assert fields_of(model)[field].hidden

    def test_write_bytes_as_base64(self) -> None:
        schema = read_model(Kinds)
        row = dict.fromkeys(schema.model_fields) | {"id": 1, "data": b"\xff\x00"}
        assert json.loads(schema(**row).model_dump_json())["data"] == "/wA="


class TestCreateSchemas:
    @pytest.mark.parametrize(
        ("model", "field"),
        [
            (Note, "id"),
            (Note, "owner_id"),
            (Note, "created_at"),
            (Note, "updated_at"),
            (Document, "version"),
            (Draft, "deleted_at"),
            (Kinds, "id"),
            (Odd, "twice"),
            (Odd, "thrice"),
        ],
    )
    @pytest.mark.parametrize("derive", [create_schema, update_schema])
    def test_reject_by_name_what_the_server_sets(
        self, derive: Any, model: type[Any], field: str
    ) -> None:
        assert rejections(derive(model), **{field: None})[field] == "is set by the server"
        assert field not in derive(model).model_json_schema()["properties"]

    @pytest.mark.parametrize(("model", "field"), [(Post, "remark"), (Pet, "chip")])
    @pytest.mark.parametrize("derive", [create_schema, update_schema])
    def test_do_not_know_a_private_column(self, derive: Any, model: type[Any], field: str) -> None:
        """It is rejected as any name is that the model does not have."""
        reasons = rejections(derive(model), **{field: "x", "nowhere": "x"})
        assert reasons[field] == reasons["nowhere"]

    def test_say_how_long_a_text_may_be(self) -> None:
        given = rejections(create_schema(Post), title="x" * 51)
        assert given == {"title": "String should have at most 50 characters"}

    def test_reject_what_is_no_column(self) -> None:
        assert "nope" in rejections(create_schema(Note), title="a", stars=1, nope=1)
        assert "books" in rejections(create_schema(Author), name="a", books=[])
        assert "_inner" in rejections(create_schema(Odd), _inner="x")

    def test_want_what_has_no_default(self) -> None:
        assert set(rejections(create_schema(Note))) == {"title", "stars"}
        assert set(rejections(create_schema(Post))) == {"title"}
        assert changes(create_schema(Post)(title="a")) == {"title": "a"}

    def test_want_keys_that_nobody_makes(self) -> None:
        assert changes(create_schema(Seat)(row=1, number=2)) == {"row": 1, "number": 2}
        assert "row" in rejections(update_schema(Seat), row=1)

    def test_say_which_values_are_the_default(self) -> None:
        properties = create_schema(Post).model_json_schema()["properties"]
        assert properties["category"]["default"] == "the news"
        assert "default" not in properties["tags"]

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("text", "a\x00b"),
            ("text", "\ud800"),
            ("text", 3),
            ("short", "123456"),
            ("number", 2**31),
            ("number", -(2**31) - 1),
            ("number", 1.5),
            ("small", 2**15),
            ("big", 2**63),
            ("big", -(2**63) - 1),
            ("real", float("inf")),
            ("real", float("nan")),
            ("exact", "NaN"),
            ("exact", "1e1000"),
            ("exact", "1e-1001"),
            ("exact", "1e999999999"),
            ("money", "123456789.00"),
            ("money", "1.234"),
            ("moment", "2024-01-01T00:00:00"),
            ("moment", datetime.max.replace(tzinfo=timezone(timedelta(hours=-1)))),
            ("moment", datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))),
            ("day", "2024-02-30"),
            ("clock", "12:00:00Z"),
            ("duration", timedelta.max),
            ("duration", timedelta.min),
            ("uid", "x"),
            ("data", "not base64!"),
            ("data", "\xff"),
            ("category", "NEWS"),
            ("level", 3),
            ("mapping", []),
            ("mapping", {"a": "\x00"}),
            ("mapping", {"\x00": 1}),
            ("mapping", {"a": [float("inf")]}),
            ("things", {}),
            ("things", ["\udfff"]),
            ("mappings", [1]),
            ("words", [1]),
            ("words", ["\x00"]),
            ("numbers", [2**63]),
            ("reals", [float("nan")]),
            ("answers", ["maybe"]),
        ],
    )
    @pytest.mark.parametrize("derive", [create_schema, update_schema])
    def test_reject_what_a_column_does_not_take(self, derive: Any, field: str, value: Any) -> None:
        assert set(rejections(derive(Kinds), **{field: value})) == {field}

    def test_reject_json_that_is_too_deep(self) -> None:
        def nested(depth: int) -> Any:
            value: Any = 1
            for _ in range(depth):
                value = [value]
            return value

        assert create_schema(Kinds)(mapping={"a": nested(MAX_JSON_DEPTH - 1)})
        assert "mapping" in rejections(create_schema(Kinds), mapping={"a": nested(MAX_JSON_DEPTH)})

    @pytest.mark.parametrize(
        ("field", "value", "expected"),
        [
            ("number", -(2**31), -(2**31)),
            ("small", 2**15 - 1, 2**15 - 1),
            ("big", 2**63 - 1, 2**63 - 1),
            ("money", "12345678.90", Decimal("12345678.90")),
            ("exact", "0.1", Decimal("0.1")),
            ("moment", "2024-01-01T00:00:00Z", datetime(2024, 1, 1, tzinfo=UTC)),
            ("data", "/wA=", b"\xff\x00"),
            ("category", "the news", Category.NEWS),
            ("level", 2, Level.HIGH),
            ("short", "äöüßé", "äöüßé"),
            ("things", [None, {"a": 1}], [None, {"a": 1}]),
            ("text", None, None),
        ],
    )
    def test_give_pythons_own_values(self, field: str, value: Any, expected: Any) -> None:
        assert changes(create_schema(Kinds)(**{field: value})) == {field: expected}

    def test_take_naive_datetimes_where_the_column_has_no_zone(self) -> None:
        values = {"copy": "a", "choice": "yes", "raw": "", "nothing": None}
        assert create_schema(Odd)(**values, local="2024-01-01T00:00:00")
        assert "local" in rejections(create_schema(Odd), **values, local="2024-01-01T00:00:00Z")


class TestUpdateSchemas:
    def test_hold_only_what_was_sent(self) -> None:
        assert changes(update_schema(Post)()) == {}
        assert changes(update_schema(Post)(body=None)) == {"body": None}

    def test_reject_null_where_the_column_does(self) -> None:
        assert set(rejections(update_schema(Post), title=None, body=None)) == {"title"}

    def test_want_nothing(self) -> None:
        assert "required" not in update_schema(Note).model_json_schema()


class Hero(SQLModel, table=True):
    __tablename__ = "t_heroes"
    __access__ = Access(read=everyone, write=authenticated)

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(max_length=10, index=True)
    age: int | None = Field(default=None, ge=0)


class TestSQLModel:
    def test_classes_derive_with_their_own_limits(self) -> None:
        assert set(read_model(Hero).model_fields) == {"id", "name", "age"}
        new = create_schema(Hero)
        assert changes(new(name="Deadpond")) == {"name": "Deadpond"}
        assert rejections(new, id=1, name="x" * 11, age=-1).keys() == {"id", "name", "age"}

    def test_classes_are_adopted_once(self) -> None:
        # Not for the tests of others: Base's tables are those of every prepared database.
        db = Amphibase()
        try:
            first = db.repository(Hero)
            adopted = Base.metadata.tables["t_heroes"]
            assert first is db.repository(Hero)
            assert db.router(Hero).routes
            assert Base.metadata.tables["t_heroes"] is adopted
            assert {index.name for index in adopted.indexes} == {"ix_t_heroes_name"}
        finally:
            Base.metadata.remove(Base.metadata.tables["t_heroes"])

    def test_tables_of_the_same_name_are_rejected(self) -> None:
        class Rival(Apart):
            __tablename__ = "t_notes"
            id: Mapped[int] = mapped_column(primary_key=True)

        with pytest.raises(ConfigurationError, match="'t_notes'"):
            Amphibase().repository(Rival)
        assert "odd" not in Base.metadata.tables  # which stands beside it


def test_a_repository_is_one_dependency_for_each_model() -> None:
    db = Amphibase()
    assert db.repository(Note) is db.repository(Note)
    assert db.repository(Note) is not db.repository(Post)


def test_schemas_are_the_derived_ones() -> None:
    db = Amphibase()
    assert db.schema(Note) is read_model(Note)
    assert db.create_schema(Note) is create_schema(Note)
    assert db.update_schema(Note) is update_schema(Note)


def test_every_column_of_a_profile_is_known() -> None:
    assert set(fields_of(User)) == set(User.__table__.columns.keys())
    row = read_model(User)(
        id=uuid4(),
        email="a@example.com",
        name="",
        is_active=True,
        created_at=datetime.now(UTC),
        updated_at=datetime.now(UTC),
    )
    assert row.model_dump(mode="json")["created_at"].endswith("Z")
