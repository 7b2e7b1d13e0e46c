"""The tickets of a thousand organisations, and the ways to write who sees them, for `access`."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from sqlalchemy import Select, func, select
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.orm import Mapped, mapped_column

from amphibase import Base, Caller
from amphibase.access import Access, memberships
from amphibase.database.compiled import SelectCache
from amphibase.models import Timestamps, uuid7
from amphibase.records.model_infos import ModelInfos
from amphibase.search import matches, search_index
from amphibase.sql.records.pages import list_query
from amphibase.sql.records.query_builder import QueryBuilder

OURS = "Amphibase"
JOIN, EXISTS, ANY, LATERAL = "join", "exists", "= any", "lateral"
BY_HAND = (JOIN, EXISTS, ANY, LATERAL)
FUNCTION = "is_member"
"""The function of a row's organisation that people copy."""

TYPICAL, OLD, NONE, MANY = "typical", "old rows", "none", "in 500"
CALLERS = {TYPICAL: "user", OLD: "old", NONE: "nobody", MANY: "many"}
"""The kinds of callers: members of few organisations, of organisations that have old tickets alone,
of none, and of half of all; with the first word of their names."""


class BenchMembership(Base):
    """Who belongs to which organisation."""

    __tablename__ = "bench_memberships"

    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    organisation_id: Mapped[int] = mapped_column(primary_key=True)


mine = memberships(BenchMembership.organisation_id, of=BenchMembership.user_id)


class BenchTicket(Timestamps, Base):
    """A row of an organisation."""

    __tablename__ = "bench_tickets"
    __table_args__ = (search_index("bench_search", "title", language="english"),)
    __access__ = Access(read=mine.has("organisation_id"))

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    organisation_id: Mapped[int]
    title: Mapped[str]
    body: Mapped[str]


# The last hundred organisations have old tickets alone. Few have many tickets, most have few.
FILL = """
SELECT setseed(0.5);
INSERT INTO bench_tickets (id, organisation_id, title, body, created_at, updated_at)
SELECT gen_random_uuid(), o, 'ticket w' || n % 100 || ' r' || n % 10000, repeat(md5(n::text), 4),
    timestamptz '2026-01-01' + n * interval '20 seconds' - CASE WHEN o > 900 THEN 3 ELSE 0 END
        * interval '1 year', now()
FROM (SELECT n, 1 + floor(1000 * power(random(), 3))::int AS o
      FROM generate_series(1, {rows}) n) AS rows;
INSERT INTO bench_memberships SELECT md5('user ' || n % 15000)::uuid, 1 + floor(900 * random())::int
FROM generate_series(0, 74999) n ON CONFLICT DO NOTHING;
INSERT INTO bench_memberships SELECT md5('old ' || u)::uuid, 901 + (7 * u + 19 * n) % 100
FROM generate_series(0, 49) u, generate_series(1, 5) n;
INSERT INTO bench_memberships SELECT md5('many ' || u)::uuid, (u + 2 * n) % 1000 + 1
FROM generate_series(0, 49) u, generate_series(1, 500) n;
"""

POLICIES = """
CREATE FUNCTION is_member(organisation int) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER
AS 'SELECT EXISTS (SELECT FROM bench_memberships m
    WHERE m.organisation_id = organisation AND m.user_id = auth.uid())';
CREATE ROLE by_exists; CREATE ROLE by_any; CREATE ROLE by_function;
GRANT SELECT ON bench_tickets, bench_memberships TO by_exists, by_any, by_function;
GRANT USAGE ON SCHEMA auth TO by_exists, by_any, by_function;
CREATE POLICY own ON bench_memberships FOR SELECT TO by_exists, by_any
USING (user_id = (SELECT auth.uid()));
CREATE POLICY by_exists ON bench_tickets FOR SELECT TO by_exists USING (EXISTS (
    SELECT FROM bench_memberships m
    WHERE m.organisation_id = bench_tickets.organisation_id AND m.user_id = auth.uid()));
CREATE POLICY by_any ON bench_tickets FOR SELECT TO by_any USING (organisation_id = ANY (ARRAY(
    SELECT m.organisation_id FROM bench_memberships m WHERE m.user_id = (SELECT auth.uid()))));
CREATE POLICY by_function ON bench_tickets FOR SELECT TO by_function
USING (is_member(organisation_id));
"""

COLUMNS = "t.id, t.organisation_id, t.title, t.body, t.created_at, t.updated_at"
NEWEST = "ORDER BY t.created_at DESC, t.id DESC LIMIT 100"
KEYS = "SELECT organisation_id FROM bench_memberships WHERE user_id = %(caller)s"
LIST, BY_ID, COUNT = "list", "by id", "count"
QUERIES = (LIST, BY_ID, COUNT)
SEARCHES = {"rare word": "r77", "word of 1 %": "w7", "word of all": "ticket"}
"""Lists of the rows that have a word, which only the join is written by hand for: as the tables'
owner, beside ours under policies."""


def _by_hand(condition: str) -> dict[str, str]:
    where = f"FROM bench_tickets t WHERE {condition}"
    return {
        LIST: f"SELECT {COLUMNS} {where} {NEWEST}",
        BY_ID: f"SELECT {COLUMNS} {where} AND t.id = %(id)s",
        COUNT: f"SELECT count(*) {where}",
    }


_LATERAL = f"""
SELECT {COLUMNS} FROM ({KEYS}) AS keys(key) CROSS JOIN LATERAL (
    SELECT * FROM bench_tickets t WHERE t.organisation_id = keys.key {NEWEST}
) AS t {NEWEST}"""


def _joined(query: str) -> str:
    return query.replace(
        "FROM bench_tickets t WHERE",
        "FROM bench_tickets t JOIN bench_memberships m ON m.organisation_id = "
        "t.organisation_id AND m.user_id = %(caller)s WHERE",
    )


def _search_by_hand(word: str) -> str:
    text = "to_tsvector('english', t.title)"
    return _joined(_by_hand(f"{text} @@ websearch_to_tsquery('english', '{word}')")[LIST])


PREDICATES = {
    JOIN: {name: _joined(text) for name, text in _by_hand("true").items()},
    EXISTS: _by_hand(
        "EXISTS (SELECT FROM bench_memberships m WHERE m.organisation_id = t.organisation_id AND "
        "m.user_id = %(caller)s)"
    ),
    ANY: _by_hand(f"t.organisation_id = ANY (ARRAY({KEYS}))"),
    LATERAL: {LIST: _LATERAL},
}
"""The queries by hand as a table's owner runs them."""

POLICY_FORMS = {
    JOIN: ("", {name: _search_by_hand(word) for name, word in SEARCHES.items()}),
    EXISTS: ("by_exists", _by_hand("true")),
    ANY: ("by_any", _by_hand("true")),
    LATERAL: ("by_any", {LIST: _LATERAL}),
    FUNCTION: ("by_function", _by_hand("true")),
}
"""The queries under policies by hand, and the role that each policy is for; "" for the owner."""


def our_queries(*, rls: bool) -> dict[str, str]:
    """Return the queries as a repository sends them."""
    caller = Caller("authenticated", UUID(int=1))
    infos = ModelInfos("postgresql")
    info = infos.of(BenchTicket, caller)
    builder = QueryBuilder(
        info,
        infos,
        caller,
        cast("Any", None),
        SelectCache(),
        cast("Any", None),
        rls=rls,
        max_page_bytes=8 << 20,
    )
    rows = list_query(builder, info.select, (), builder.ordering(()), limit=100)
    by_id = builder.by_key(info.select, UUID(int=1)).select
    count = builder.visible(select(func.count()).select_from(info.table))
    queries = {LIST: _text(rows.select), BY_ID: _text(by_id), COUNT: _text(count)}
    for name, word in SEARCHES.items() if rls else ():
        search = matches(BenchTicket.title, query=word, language="english")
        found = list_query(builder, info.select, (search,), builder.ordering(()), limit=100)
        queries[name] = _text(found.select, literal_binds=True)
    return queries


def _text(statement: Select[Any], **options: Any) -> str:
    dialect = PGDialect_psycopg()  # type: ignore[no-untyped-call]
    return str(statement.compile(dialect=dialect, compile_kwargs=options))
