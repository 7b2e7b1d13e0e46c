"""The contract of Repository, on every backend: aggregates of the rows that the caller sees."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import func, select
from tests.backends import ANN, BOB, POLICIES_ON_POSTGRES, Records
from tests.column_models import Kinds
from tests.models import Category, Comment, Licence, Note, Post, Secret

from amphibase import ANONYMOUS, InvalidRequest, NotSupported

pytestmark = POLICIES_ON_POSTGRES

MORNING, NOON = (datetime(2026, 1, 1, hour, tzinfo=UTC) for hour in (8, 12))


async def notes(records: Records) -> None:
    """Ann's notes have 1, 2 and 2 stars, Bob's 5."""
    for who, stars in ((ANN, (1, 2, 2)), (BOB, (5,))):
        await records.of(Note, who).add_many([Note(title=f"{n}", stars=n) for n in stars])


class TestAggregate:
    async def test_counts_and_sums_what_the_caller_sees(self, records: Records) -> None:
        await notes(records)
        functions = (func.count(), func.sum(Note.stars), func.max(Note.stars))
        for who, expected in ((ANN, (3, 5, 2)), (BOB, (1, 5, 5)), (ANONYMOUS, (0, None, None))):
            assert await records.of(Note, who).aggregate(*functions) == [expected]
        assert await records.of(Note).aggregate(*functions, where=[Note.stars > 1]) == [(3, 9, 5)]

    async def test_groups_by_columns_in_their_order(self, records: Records) -> None:
        await notes(records)
        by_stars = await records.of(Note, ANN).aggregate(func.count(), by=[Note.stars])
        assert by_stars == [(1, 1), (2, 2)]
        posts = [
            Post(title=title, category=category, body=body)
            for title, category, body in (
                ("a", Category.NEWS, None),
                ("b", Category.NEWS, "x"),
                ("c", Category.OPINION, None),
                ("d", Category.OPINION, None),
            )
        ]
        await records.of(Post, ANN).add_many(posts)
        found = await records.of(Post).aggregate(
            func.count(), func.count(Post.body), by=[Post.body, Post.category]
        )
        assert found[0] == ("x", Category.NEWS, 1, 1)
        assert {*found[1:]} == {(None, Category.NEWS, 1, 0), (None, Category.OPINION, 2, 0)}
        assert await records.of(Post).aggregate(func.count(), by=[Post.body], limit=1) == [("x", 1)]
        assert await records.of(Note, ANONYMOUS).aggregate(func.count(), by=[Note.stars]) == []

    async def test_gives_values_of_the_same_types_everywhere(self, records: Records) -> None:
        rows = [
            Kinds(number=1, real=0.5, exact=Decimal("0.1"), moment=MORNING),
            Kinds(number=2, real=1.0, exact=Decimal("0.2"), moment=NOON),
        ]
        await records.of(Kinds).add_many(rows)
        functions = (
            func.avg(Kinds.number),
            func.sum(Kinds.number),
            func.sum(Kinds.real),
            func.sum(Kinds.exact),
            func.min(Kinds.moment),
        )
        ((*values,),) = await records.of(Kinds).aggregate(*functions)
        assert values == [1.5, 3, 1.5, Decimal("0.3"), MORNING]
        assert [*map(type, values)] == [float, int, float, Decimal, datetime]

    async def test_filters_by_related_rows_that_the_caller_sees(self, records: Records) -> None:
        post = await records.of(Post, ANN).add(Post(title="one"))
        comment = await records.of(Comment, ANN).add(Comment(text="ann's", post_id=post.id))
        where = [Post.comments.any(Comment.text == "ann's")]
        for who, count in ((ANN, 1), (BOB, 0)):
            assert await records.of(Post, who).aggregate(func.count(), where=where) == [(count,)]
        await records.of(Comment, ANN).delete(comment.id)
        assert await records.of(Comment, ANN).aggregate(func.count()) == [(0,)]

    async def test_reads_no_hidden_column(self, records: Records) -> None:
        rows = records.of(Licence, ANN)
        for call in (
            rows.aggregate(func.max(Licence.key)),
            rows.aggregate(func.count(), by=[Licence.key]),
            rows.aggregate(func.count(), where=[Licence.key == "a"]),
        ):
            with pytest.raises(NotSupported, match="key is read by the service alone"):
                await call

    async def test_reads_no_other_table_than_the_caller_may(self, records: Records) -> None:
        await records.of(Secret).add(Secret(text="words"))
        text = select(func.max(Secret.text)).scalar_subquery()
        try:
            ((value,),) = await records.of(Note, ANN).aggregate(func.max(text))
        except NotSupported:  # as of every subquery there
            value = None
        assert value is None

    @pytest.mark.parametrize(
        "functions",
        [
            (),
            (func.lower(Note.title),),
            (Note.stars,),
            (func.sum(Note.stars, Note.stars),),
            (1,),
        ],
        ids=["none", "another function", "a column", "two arguments", "a value"],
    )
    async def test_takes_aggregates_alone(self, records: Records, functions: Any) -> None:
        with pytest.raises(InvalidRequest):
            await records.of(Note, ANN).aggregate(*functions)
