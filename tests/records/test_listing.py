"""The query string of a list: what it means, and that nothing of it makes the server fail."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError
from tests.column_models import Kinds
from tests.models import Category, Draft, Level, Post
from tests.records.listings import read, rejected, sql

from amphibase.records.filters.expressions import (
    MAX_CONDITIONS,
    MAX_DEPTH,
    MAX_PATTERN_CHARACTERS,
    MAX_VALUES,
)
from amphibase.records.listing import read_listing


class TestComparisons:
    @pytest.mark.parametrize(
        ("query", "condition"),
        [
            ("number=eq.3", "number = ?"),
            ("number=neq.3", "number != ?"),
            ("number=gt.3", "number > ?"),
            ("number=gte.3", "number >= ?"),
            ("number=lt.3", "number < ?"),
            ("number=lte.3", "number <= ?"),
            ("number=not.eq.3", "number != ?"),
            ("number=not.gt.3", "number <= ?"),
        ],
    )
    def test_are_operators(self, query: str, condition: str) -> None:
        assert sql(query) == (condition, [3])

    def test_know_truth(self) -> None:
        assert sql("yes=eq.true") == ("yes = 1", [])

    @pytest.mark.parametrize(
        ("query", "value"),
        [
            ('text=eq.a,b.c(d)"e', 'a,b.c(d)"e'),
            ("text=eq.", ""),
            ("number=eq.-7", -7),
            ("big=eq.9223372036854775807", 2**63 - 1),
            ("real=eq.1.5", 1.5),
            ("exact=eq.0.1", Decimal("0.1")),
            ("moment=eq.2024-01-01T00:00:00Z", datetime(2024, 1, 1, tzinfo=UTC)),
            ("day=eq.2024-01-01", date(2024, 1, 1)),
            ("duration=eq.PT3S", timedelta(seconds=3)),
            ("data=eq./wA=", b"\xff\x00"),
            ("category=eq.the news", Category.NEWS),
            ("level=eq.2", Level.HIGH),
        ],
    )
    def test_read_values_as_their_column(self, query: str, value: Any) -> None:
        _, bound = sql(query)
        assert bound == [value]

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ("number=eq.x", "number"),
            ("number=eq.", "number"),
            ("number=eq.1.5", "number"),
            ("number=eq.2147483648", "number"),
            ("small=eq.40000", "small"),
            ("big=gt.9223372036854775808", "big"),
            ("real=eq.inf", "real"),
            ("exact=eq.1e5000", "exact"),
            ("exact=eq.NaN", "exact"),
            ("moment=eq.2024-01-01T00:00:00", "moment"),
            ("moment=eq.9999-12-31T23:59:59-01:00", "moment"),
            ("uid=eq.1", "uid"),
            ("yes=eq.perhaps", "yes"),
            ("category=eq.NEWS", "category"),
            ("text=eq.a%00b", "text"),
            ("text=like.a%00b", "text"),
            ("text=in.(a,%00)", "text"),
            ("or=(text.eq.%00,number.eq.1)", "text"),
            ("number=in.(1,x)", "number"),
            ("number=in.(1,3000000000)", "number"),
        ],
    )
    def test_reject_values_that_the_column_does_not_take(self, query: str, field: str) -> None:
        assert rejected(query)[0] == field

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ("number=3", "number"),
            ("number=", "number"),
            ("number=nope.3", "number"),
            ("number=not.not.eq.3", "number"),
            ("number=like.3", "number"),
            ("yes=gt.true", "yes"),
            ("category=gt.opinion", "category"),
            ("data=lt.AA==", "data"),
            ("mapping=eq.{}", "mapping"),
            ("words=in.(a)", "words"),
            ("and=(mapping.eq.1)", "mapping"),
        ],
    )
    def test_reject_operators_that_are_none(self, query: str, field: str) -> None:
        found, message = rejected(query)
        assert found == field
        assert "operator" in message or "takes" in message

    def test_of_one_column_all_hold(self) -> None:
        assert sql("number=gt.1&number=lt.5") == ("number > ? AND number < ?", [1, 5])

    @pytest.mark.parametrize("name", ["nope", "remark", "title.x", "", "__class__", "owner"])
    def test_know_no_other_columns(self, name: str) -> None:
        assert rejected(f"{name}=eq.1", Post) == (name, "there is no such column")

    def test_do_not_know_when_rows_were_deleted(self) -> None:
        assert rejected("deleted_at=is.null", Draft)[0] == "deleted_at"
        assert rejected("or=(remark.eq.x,title.eq.y)", Post)[0] == "remark"
        assert rejected("order=remark", Post)[0] == "order"


class TestPatterns:
    @pytest.mark.parametrize(
        ("given", "pattern"),
        [
            ("*tea*", "%tea%"),
            ("t_a%", "t_a%"),
            (r"100\%", r"100\%"),
            (r"a\*b", r"a\*b"),
            (r"a\\*", r"a\\%"),
            ("a\n*", "a\n%"),
        ],
    )
    def test_take_a_star_for_any_text(self, given: str, pattern: str) -> None:
        listing = read_listing(Kinds, [("text", f"like.{given}")])
        assert listing.where[0].right.value == pattern

    def test_may_disregard_case(self) -> None:
        assert "lower(text) LIKE lower(?)" in sql("text=ilike.*tea*")[0]
        assert "NOT LIKE" in sql("text=not.like.a")[0]

    @pytest.mark.parametrize("pattern", ["a\\", "\\", "a\\\\\\", "*\\"])
    def test_must_not_end_in_the_middle(self, pattern: str) -> None:
        with pytest.raises(RequestValidationError):
            read_listing(Kinds, [("text", f"like.{pattern}")])

    def test_must_not_be_too_long(self) -> None:
        assert read(f"text=like.{'a' * MAX_PATTERN_CHARACTERS}")
        assert rejected(f"text=like.{'a' * (MAX_PATTERN_CHARACTERS + 1)}")[0] == "text"


class TestIn:
    @pytest.mark.parametrize(
        ("query", "values"),
        [
            ("text=in.(a,b)", ["a", "b"]),
            ('text=in.(a,"b,c","d)")', ["a", "b,c", "d)"]),
            (r'text=in.("a\"b","c\\")', ['a"b', "c\\"]),
            ("text=in.()", []),
            ("text=in.(,)", ["", ""]),
            ('text=in.("")', [""]),
            ("number=in.(1,2)", [1, 2]),
            ("category=in.(opinion)", [Category.OPINION]),
        ],
    )
    def test_takes_values_in_parentheses(self, query: str, values: list[Any]) -> None:
        assert [*sql(query)[1][0]] == values

    @pytest.mark.parametrize("given", ["a", "(a", "a)", "(a))", "(a(b))", ""])
    def test_rejects_what_is_not_closed(self, given: str) -> None:
        assert rejected(f"text=in.{given}")[0] == "text"

    @pytest.mark.parametrize("value", ['"a', '"a"b', '"a\\"'])
    def test_takes_a_quotation_mark_that_encloses_nothing_as_it_is(self, value: str) -> None:
        assert [*sql(f"text=in.({value})")[1][0]] == [value]

    def test_takes_a_thousand_values(self) -> None:
        values = ",".join(map(str, range(MAX_VALUES)))
        assert read(f"number=in.({values})")
        assert rejected(f"number=in.({values},1)")[0] == "number"

    def test_can_be_turned_round(self) -> None:
        assert "NOT IN" in sql("number=not.in.(1,2)")[0]


class TestIs:
    @pytest.mark.parametrize(
        ("query", "condition"),
        [
            ("text=is.null", "text IS NULL"),
            ("text=is.NULL", "text IS NULL"),
            ("text=is.not_null", "text IS NOT NULL"),
            ("text=not.is.null", "text IS NOT NULL"),
            ("mapping=is.null", "mapping IS NULL"),
            ("words=is.not_null", "words IS NOT NULL"),
            ("yes=is.true", "yes IS 1"),
            ("yes=is.false", "yes IS 0"),
        ],
    )
    def test_requests_null_and_truth(self, query: str, condition: str) -> None:
        assert sql(query) == (condition, [])

    @pytest.mark.parametrize("query", ["text=is.true", "yes=is.maybe", "text=is.", "text=is.nil"])
    def test_takes_nothing_else(self, query: str) -> None:
        assert rejected(query)[0] == query.partition("=")[0]


class TestLogic:
    @pytest.mark.parametrize(
        ("query", "condition", "bound"),
        [
            ("or=(number.gt.3,text.eq.tea)", "number > ? OR text = ?", [3, "tea"]),
            ("and=(number.gt.3,text.eq.tea)", "number > ? AND text = ?", [3, "tea"]),
            (
                "or=(number.gt.3,and(text.eq.a,text.eq.b))",
                "number > ? OR text = ? AND text = ?",
                [3, "a", "b"],
            ),
            (
                "and=(or(number.gt.3,text.is.null),yes.is.true)",
                "(number > ? OR text IS NULL) AND yes IS 1",
                [3],
            ),
            ("not.or=(number.gt.3,text.eq.a)", "NOT (number > ? OR text = ?)", [3, "a"]),
            (
                "or=(not.and(number.gt.3,text.eq.a),number.not.eq.1)",
                "NOT (number > ? AND text = ?) OR number != ?",
                [3, "a", 1],
            ),
            ('or=(text.eq."a,b)",number.eq.1)', "text = ? OR number = ?", ["a,b)", 1]),
            ("or=(exact.eq.1.5,text.eq.a.b)", "exact = ? OR text = ?", [Decimal("1.5"), "a.b"]),
            ("or=(number.eq.1)", "number = ?", [1]),
            (
                "or=(number.eq.1,number.eq.2)&or=(text.eq.a,text.eq.b)&yes=is.true",
                "(number = ? OR number = ?) AND (text = ? OR text = ?) AND yes IS 1",
                [1, 2, "a", "b"],
            ),
        ],
    )
    def test_nests(self, query: str, condition: str, bound: list[Any]) -> None:
        assert sql(query) == (condition, bound)

    def test_holds_lists_of_values(self) -> None:
        condition, bound = sql('or=(number.in.(1,2),text.not.in.("a,b",c))')
        assert "number IN" in condition
        assert "text NOT IN" in condition
        assert [[*values] for values in bound] == [[1, 2], ["a,b", "c"]]

    @pytest.mark.parametrize(
        "given",
        [
            "",
            "()",
            "(",
            "number.eq.1",
            "(number.eq.1",
            "(number.eq.1))",
            "(number.eq.1,)",
            "(,number.eq.1)",
            "(number)",
            "(number.eq)",
            "(number=eq.1)",
            "(and)",
            "(and())",
            "(or(number.eq.1)",
            "(number.eq.1)x",
            "(text.eq.a(b))",
        ],
    )
    def test_rejects_what_is_not_closed(self, given: str) -> None:
        assert rejected(f"or={given}")

    @pytest.mark.parametrize(("given", "place"), [("()", 2), ("(", 2), ("(number.eq.1,)", 14)])
    def test_says_where_a_condition_is_missing(self, given: str, place: int) -> None:
        field, message = rejected(f"or={given}")
        assert field == "or"
        assert message.startswith("expected field name")
        assert message.endswith(f"at character {place}")

    def test_has_a_greatest_depth(self) -> None:
        def nested(depth: int) -> str:
            return f"and={'(and' * (depth - 1)}(number.eq.1{')' * depth}"

        assert read(nested(MAX_DEPTH))
        assert rejected(nested(MAX_DEPTH + 1)) == (
            "and",
            f"must be nested at most {MAX_DEPTH} deep",
        )
        assert rejected("or=" + "(or" * 100_000)[0] == "or"

    def test_has_a_greatest_number_of_conditions(self) -> None:
        assert read("&".join(["number=gt.1"] * MAX_CONDITIONS))
        assert rejected("&".join(["number=gt.1"] * (MAX_CONDITIONS + 1)))[0] == "number"
        many = ",".join(["number.gt.1"] * MAX_CONDITIONS)
        assert read(f"or=({many})")
        assert rejected(f"or=({many})&number=gt.1")[0] == "number"
