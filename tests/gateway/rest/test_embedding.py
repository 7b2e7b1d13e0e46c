"""Related rows come inside the rows of a request, as PostgREST's documentation describes it."""

from typing import Any

import pytest
from tests.gateway.rest.data_api import DataApi

CLARA, FANNY, LILI = {"name": "Clara"}, {"name": "Fanny"}, {"name": "Lili"}
TRIO, CONCERTO, QUARTET, PSALM = (
    {"title": title} for title in ("Trio", "Concerto", "Quartet", "Psalm")
)
BY = "composers!works_composer"
OF = "works!works_composer"


@pytest.mark.parametrize(
    ("url", "rows"),
    [
        # many to one: by constraint, column, and what stands for both
        (f"/works?select=title,{BY}(name)&id=eq.1", [TRIO | {"composers": CLARA}]),
        ("/works?select=title,c:composers!composer_id(name)&id=eq.1", [TRIO | {"c": CLARA}]),
        ("/works?select=title,composer_id(name)&id=eq.1", [TRIO | {"composer_id": CLARA}]),
        ("/works?select=title,works_composer(name)&id=eq.1", [TRIO | {"works_composer": CLARA}]),
        (f"/works?select=title,{BY}(name)&id=eq.5", [{"title": "Sketch", "composers": None}]),
        # one to many, one to one, many to many
        (f"/composers?select=name,{OF}(title)&id=lte.1", [CLARA | {"works": [TRIO, CONCERTO]}]),
        (f"/composers?select=name,{OF}(title)&id=eq.4", [{"name": "Nobody", "works": []}]),
        ("/works?select=title,scores(pages)&id=eq.1", [TRIO | {"scores": {"pages": 60}}]),
        ("/works?select=scores(pages)&id=eq.3", [{"scores": None}]),
        ("/works?select=concerts(place)&id=eq.1",
         [{"concerts": [{"place": "Oslo"}, {"place": "Paris"}]}]),
        ("/works?select=concerts!programmes(place)&id=eq.3", [{"concerts": [{"place": "Oslo"}]}]),
        ("/works?select=programmes(place,concerts(place))&id=eq.3",
         [{"programmes": [{"place": 2, "concerts": {"place": "Oslo"}}]}]),
        # of a table with itself
        ("/players?select=name,leader_id(name)&id=eq.2",
         [{"name": "Bob", "leader_id": {"name": "Ann"}}]),
        ("/players?select=name,players(name)&id=eq.1",
         [{"name": "Ann", "players": [{"name": "Bob"}, {"name": "Cas"}]}]),
        ("/players?select=led:players!leader_id(name)&id=eq.1",
         [{"led": [{"name": "Bob"}, {"name": "Cas"}]}]),
        # by functions, which win over foreign keys
        ("/works?select=composer(name)&id=eq.1", [{"composer": CLARA}]),
        ("/composers?select=scores(title)&id=eq.2", [{"scores": [QUARTET]}]),
        # of views, materialized views and partitioned tables
        ("/long_works?select=title,composers(name)&id=eq.2", [CONCERTO | {"composers": CLARA}]),
        ("/long_works?select=scores(pages),concerts(place)&id=eq.2",
         [{"scores": {"pages": 120}, "concerts": [{"place": "Paris"}]}]),
        ("/listed_works?select=title,composers(name)&id=eq.4", [PSALM | {"composers": LILI}]),
        ("/composers?select=long_works(title),listed_works(title)&id=eq.3",
         [{"long_works": [PSALM], "listed_works": [PSALM]}]),
        ("/seats?select=id,composers(name)", [{"id": 1, "composers": CLARA}]),
        ("/composers?select=seats(id)&id=eq.1", [{"seats": [{"id": 1}]}]),
        ("/seat_notes?select=id,seats_a(row_number)", [{"id": 1, "seats_a": {"row_number": 1}}]),
        # filters, orders and limits inside
        (f"/composers?select=name,{OF}(title)&works.minutes=gt.30&id=eq.1",
         [CLARA | {"works": [CONCERTO]}]),
        (f"/composers?select={OF}(title)&works.order=title.asc&works.limit=1&works.offset=1"
         "&id=eq.1", [{"works": [TRIO]}]),
        (f"/composers?select={OF}(title)&works.or=(minutes.gt.30,title.eq.Trio)&id=eq.1",
         [{"works": [TRIO, CONCERTO]}]),
        (f"/composers?select={OF}(title)&works.limit=0&id=eq.1", [{"works": []}]),
        (f"/composers?select=it:{OF}(title)&it.id=eq.2&id=eq.1", [{"it": [CONCERTO]}]),
        (f"/concerts?select=works(title,{BY}(name))&works.composers.name=eq.Clara&id=eq.1",
         [{"works": [TRIO | {"composers": CLARA}, QUARTET | {"composers": None}]}]),
        # rows without related ones left out
        (f"/works?select=title,{BY}!inner(name)&composers.country=eq.FR",
         [PSALM | {"composers": LILI}]),
        (f"/composers?select=name,{OF}!inner()&works.minutes=gt.40", [LILI]),
        (f"/composers?select=id,{OF}!inner(scores!inner(pages))&works.scores.pages=gt.100",
         [{"id": 1, "works": [{"scores": {"pages": 120}}]}]),
        (f"/works?select=title,{BY}()&composers=is.null", [{"title": "Sketch"}]),
        (f"/composers?select=name,{OF}()&works=not.is.null&order=id", [CLARA, FANNY, LILI]),
        (f"/composers?select=name,{OF}()&or=(country.is.null,works.not.is.null)&order=id.desc"
         "&limit=2", [{"name": "Nobody"}, LILI]),
        # orders by a related row
        (f"/works?select=title,{BY}()&order=composers(name).desc.nullslast,id&limit=2",
         [PSALM, QUARTET]),
        ("/works?select=id,scores()&order=scores(pages).desc.nullslast&limit=2",
         [{"id": 2}, {"id": 4}]),
        # keys of related rows among the row's own
        (f"/works?select=title,...{BY}(by:name)&id=eq.1", [TRIO | {"by": "Clara"}]),
        (f"/works?select=title,...{BY}(name)&id=eq.5", [{"title": "Sketch", "name": None}]),
        (f"/scores?select=pages,...works(title,...{BY}(name))&work_id=eq.1",
         [{"pages": 60, "title": "Trio", "name": "Clara"}]),
        (f"/composers?select=name,...{OF}(title,minutes)&id=eq.1",
         [CLARA | {"title": ["Trio", "Concerto"], "minutes": [28, 40]}]),
        (f"/composers?select=...{OF}(title)&id=eq.4", [{"title": []}]),
        ("/concerts?select=place,...works(title)&works.order=minutes.desc&id=eq.2",
         [{"place": "Paris", "title": ["Concerto", "Trio"]}]),
        ("/works?select=title,...programmes(n:place,...concerts(place))&id=eq.1",
         [TRIO | {"n": [1, 2], "place": ["Oslo", "Paris"]}]),
        (f"/concerts?select=...works(title,{BY}(name))&id=eq.1",
         [{"title": ["Trio", "Quartet"], "composers": [CLARA, FANNY]}]),
        # aggregates
        (f"/composers?select=name,{OF}(count(),minutes.sum())&id=eq.1",
         [CLARA | {"works": [{"count": 2, "sum": 68}]}]),
        (f"/composers?select={OF}(count)&id=eq.1", [{"works": [{"count": 2}]}]),
        (f"/composers?select={OF}(count::text)&id=eq.1", [{"works": [{"count": "2"}]}]),
        (f"/composers?select={OF}(n:count())&works.minutes=gt.30&id=eq.1",
         [{"works": [{"n": 1}]}]),
        (f"/works?select=minutes.sum(),...{BY}(country)&id=in.(1,2,3)",
         [{"sum": 90, "country": "DE"}]),
        (f"/works?select=sum:minutes.sum(),{BY}(country)&id=in.(1,2,3)",
         [{"sum": 90, "composers": {"country": "DE"}}]),
        (f"/works?select=...{BY}(name.max(),name.min())", [{"max": "Lili", "min": "Clara"}]),
    ],
)  # fmt: skip
async def test_related_rows_come_inside(api: DataApi, url: str, rows: Any) -> None:
    assert await api.read(url) == rows


@pytest.mark.parametrize(
    ("url", "status", "error"),
    [
        ("/works?select=nope(id)", 400, {
            "code": "PGRST200",
            "message": "Could not find a relationship between 'works' and 'nope' in the schema "
            "cache",
            "details": "Searched for a foreign key relationship between 'works' and 'nope' in the "
            "schema 'public', but no matches were found.",
            "hint": None,
        }),
        ("/works?select=composrs(id)", 400, {
            "code": "PGRST200", "hint": "Perhaps you meant 'composers' instead of 'composrs'.",
        }),
        ("/composers?select=works!nope(id)", 400, {
            "code": "PGRST200",
            "details": "Searched for a foreign key relationship between 'composers' and 'works' "
            "using the hint 'nope' in the schema 'public', but no matches were found.",
        }),
        ("/works?select=composers(id)", 300, {
            "code": "PGRST201",
            "message": "Could not embed because more than one relationship was found for 'works' "
            "and 'composers'",
            "details": [
                {
                    "cardinality": "many-to-one",
                    "embedding": "works with composers",
                    "relationship": f"works_{way} using works({way}_id) and composers(id)",
                }
                for way in ("arranger", "composer")
            ],
            "hint": "Try changing 'composers' to one of the following: "
            "'composers!works_arranger', 'composers!works_composer'. Find the desired "
            "relationship in the 'details' key.",
        }),
        ("/works?composers.name=eq.x", 400, {
            "code": "PGRST108",
            "message": "'composers' is not an embedded resource in this request",
            "hint": "Verify that 'composers' is included in the 'select' query parameter.",
        }),
        ("/works?scores.limit=1", 400, {"code": "PGRST108"}),
        ("/works?order=scores(pages)", 400, {"code": "PGRST108"}),
        ("/works?select=programmes(place)&order=programmes(place)", 400, {
            "code": "PGRST118",
            "message": "A related order on 'programmes' is not possible",
            "details": "'works' and 'programmes' do not form a many-to-one or one-to-one "
            "relationship",
        }),
        ("/works?select=p:programmes(place)&order=p(place)", 400, {
            "code": "PGRST118",
            "message": "A related order on 'p' is not possible",
            "details": "'works' and 'p' do not form a many-to-one or one-to-one relationship",
        }),
        ("/works?select=c:composers!works_composer(name)&order=composers(name)", 400, {
            "code": "PGRST108",
            "message": "'composers' is not an embedded resource in this request",
        }),
        # A filter means the relation only by its alias and with `is.null`, else a column.
        ("/works?select=scores(pages)&scores=eq.1", 400, {
            "code": "42703", "message": "column works.scores does not exist",
        }),
        ("/works?select=scores(pages)&scores=is.not_null", 400, {"code": "42703"}),
        ("/concerts?select=...programmes(place.sum())", 400, {"code": "PGRST127"}),
        ("/works?select=scores(nope)", 400, {
            "code": "42703", "message": "column scores_1.nope does not exist",
        }),
        # What Postgres says has upstream's names of the rows, not those of the statement.
        ("/works?select=count()&order=title", 400, {
            "code": "42803", "message": 'column "works.title" must appear in the GROUP BY clause '
            "or be used in an aggregate function",
        }),
        ("/works?select=id,scores(count())&scores.order=pages", 400, {
            "code": "42803", "message": 'column "scores_1.pages" must appear in the GROUP BY '
            "clause or be used in an aggregate function",
        }),
        ("/rpc/works_of?composer=1&select=count()&order=title", 400, {
            "code": "42803", "message": 'column "works.title" must appear in the GROUP BY clause '
            "or be used in an aggregate function",
        }),
    ],
)  # fmt: skip
async def test_what_cannot_be_embedded_says_why(
    api: DataApi, url: str, status: int, error: dict[str, Any]
) -> None:
    response = await api.request(f"GET {url}")
    assert response.status_code == status
    assert response.json().items() >= error.items()
    assert response.headers["proxy-status"] == f"PostgREST; error={error['code']}"


@pytest.mark.parametrize("join", ["", "!inner"])
async def test_many_related_rows_are_found_within_the_time_of_anonymous_requests(
    api: DataApi, join: str
) -> None:
    embeds = [f"c{number}:composers!works_composer{join}(id)" for number in range(120)]
    (row,) = await api.read(f"/works?select=id,{','.join(embeds)}&id=eq.1&c7.id=eq.1")
    assert row == {"id": 1, **{f"c{number}": {"id": 1} for number in range(120)}}
    spread = [f"...composers!works_composer(n{number}:name)" for number in range(60)]
    (row,) = await api.read(f"/works?select=id,{','.join(spread)}&id=eq.1")
    assert row == {"id": 1, **{f"n{number}": "Clara" for number in range(60)}}
