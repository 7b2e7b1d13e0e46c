"""Requests whose response is PostgREST's in what is easily missed."""

import os
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from tests.gateway.rest.data_api import DataApi, open_data_api

from amphibase.gateway.project import copy
from amphibase.postgres import Server

DDL = """
    CREATE TABLE harbours (id int PRIMARY KEY, name text NOT NULL);
    CREATE TABLE boats (
        id int PRIMARY KEY, name text NOT NULL, home int REFERENCES harbours,
        last_port int REFERENCES harbours
    );
    INSERT INTO harbours VALUES (1, 'Alte Liebe'), (2, 'Neuhafen');
    INSERT INTO boats VALUES (1, 'Argo', 1, 2), (2, 'Beagle', 2, 1), (3, 'Calypso', NULL, NULL);
    CREATE FUNCTION home_of(boats) RETURNS harbours STABLE LANGUAGE sql
        AS 'SELECT * FROM harbours h WHERE h.id = $1.home';
    CREATE FUNCTION maybe_home_of(boats) RETURNS SETOF harbours ROWS 1 STABLE LANGUAGE sql
        AS 'SELECT * FROM harbours h WHERE h.id = $1.home';
    CREATE FUNCTION label_of(boats) RETURNS text STABLE LANGUAGE sql AS 'SELECT upper($1.name)';

    CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql AS 'SELECT $1 * 2';
    CREATE FUNCTION kind(bool) RETURNS text LANGUAGE sql AS $$ SELECT 'bool' $$;
    CREATE FUNCTION kind(text) RETURNS text LANGUAGE sql AS $$ SELECT 'text' $$;
    CREATE FUNCTION joined(text, text) RETURNS text LANGUAGE sql AS 'SELECT $1 || $2';
    CREATE FUNCTION pick(a text) RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION pick(a int) RETURNS int LANGUAGE sql AS 'SELECT 2';

    CREATE FUNCTION country(code char(2)) RETURNS text STABLE LANGUAGE sql AS 'SELECT code::text';
    CREATE FUNCTION mask(b bit(4)) RETURNS text STABLE LANGUAGE sql AS 'SELECT b::text';
    CREATE FUNCTION codes(c char(2)[]) RETURNS text STABLE LANGUAGE sql AS 'SELECT c::text';

    CREATE SCHEMA internal;
    CREATE TABLE tags (id int PRIMARY KEY, name text);
    CREATE TABLE posts (id int PRIMARY KEY, title text);
    CREATE TABLE internal.post_tags (
        post_id int REFERENCES posts, tag_id int REFERENCES tags, PRIMARY KEY (post_id, tag_id)
    );
    CREATE VIEW post_tags AS SELECT * FROM internal.post_tags;
    CREATE TABLE shelves (id int PRIMARY KEY);
    CREATE TABLE rooms (id int PRIMARY KEY);
    CREATE TABLE internal.shelf_rooms (
        shelf_id int REFERENCES shelves, room_id int REFERENCES rooms,
        PRIMARY KEY (shelf_id, room_id)
    );
    INSERT INTO tags VALUES (1, 'red'), (2, 'blue');
    INSERT INTO posts VALUES (1, 'p');
    INSERT INTO internal.post_tags VALUES (1, 1), (1, 2);

    CREATE TABLE teams (id int PRIMARY KEY, name text);
    CREATE TABLE players (id int PRIMARY KEY, team_id int REFERENCES teams, goals int);
    INSERT INTO teams VALUES (1, 'Reds'), (2, 'Blues');
    INSERT INTO players VALUES (1, 1, 2), (2, 1, 3), (3, 2, 4);
    CREATE TABLE sizes (a smallint, b integer PRIMARY KEY, c bigint);

    CREATE DOMAIN signal AS int;
    CREATE FUNCTION signal_to_json(signal) RETURNS json IMMUTABLE LANGUAGE sql
        AS $$ SELECT to_json('!'::text) $$;
    CREATE CAST (signal AS json) WITH FUNCTION signal_to_json(signal);
    CREATE DOMAIN label AS text;
    CREATE FUNCTION label_from_text(text) RETURNS label IMMUTABLE LANGUAGE sql
        AS $$ SELECT '<' || $1 || '>' $$;
    CREATE CAST (text AS label) WITH FUNCTION label_from_text(text) AS IMPLICIT;
    CREATE TABLE buoys (id int PRIMARY KEY, light signal, name label);
    INSERT INTO buoys VALUES (1, 7, '<Red>');
    CREATE TABLE berths (pier int, number int, PRIMARY KEY (number, pier));
    CREATE TABLE fleets (id int PRIMARY KEY);
    CREATE TABLE ships (id int PRIMARY KEY, fleet int CONSTRAINT z_fleet REFERENCES fleets);
    ALTER TABLE fleets ADD flagship int CONSTRAINT a_flagship REFERENCES ships;
    CREATE FUNCTION knots() RETURNS SETOF int ROWS 70 STABLE LANGUAGE plpgsql
        AS $$ BEGIN RETURN QUERY VALUES (1), (2), (3); END $$;
    CREATE VIEW speeds AS SELECT knots() AS number;
    CREATE DOMAIN "text/html" AS text;
    CREATE FUNCTION pages() RETURNS SETOF "text/html" STABLE LANGUAGE sql AS $$ SELECT '<p>' $$;

    CREATE TABLE internal.wharfs (id int PRIMARY KEY, harbour int REFERENCES harbours);
    CREATE TABLE people (id int PRIMARY KEY, name text, boss int REFERENCES people);
    CREATE TABLE friends (
        one int REFERENCES people, other int REFERENCES people, PRIMARY KEY (one, other)
    );
    CREATE TABLE lockers (person int REFERENCES people);
    CREATE UNIQUE INDEX ON lockers (person);
    CREATE TABLE desks (person int UNIQUE REFERENCES people);
    CREATE FUNCTION internal.salary(people) RETURNS int STABLE LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION internal.rivals(people) RETURNS SETOF people STABLE LANGUAGE sql
        AS 'SELECT * FROM public.people';
    GRANT USAGE ON SCHEMA internal TO anon;
    INSERT INTO people VALUES (1, 'Ann', NULL), (2, 'Bob', 1);
    INSERT INTO friends VALUES (1, 2);
    INSERT INTO lockers VALUES (1);
    INSERT INTO desks VALUES (1);
"""


@pytest.fixture(scope="module")
async def api(postgres: Server, project_template: str) -> AsyncIterator[DataApi]:
    """A Data API on these tables."""
    name = f"compatibility_{os.getpid()}"
    url = await copy(project_template, name)
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute(DDL.encode())
    async with open_data_api(url, db_schemas="public,storage") as opened:
        yield opened
    postgres.drop_database(name)


NO_HOME = {"id": None, "name": None}


@pytest.mark.parametrize(
    ("url", "rows"),
    [
        # A function that is not a set always has one row, which may be all NULL.
        ("/boats?select=home:home_of(*)&id=gte.2&order=id",
         [{"home": {"id": 2, "name": "Neuhafen"}}, {"home": NO_HOME}]),
        ("/boats?select=home:home_of!inner(name)&id=eq.3", [{"home": {"name": None}}]),
        ("/boats?select=home:maybe_home_of(*)&id=eq.3", [{"home": None}]),
        ("/boats?select=name,maybe_home_of!inner(name)&id=eq.3", []),
        ("/boats?select=label_of&id=eq.1", [{"label_of": "ARGO"}]),
        # A type without a length would cut to one.
        ("/rpc/country?code=DE", "DE"),
        ("/rpc/mask?b=1010", "1010"),
        ("/rpc/codes?c={DE,FR}", "{DE,FR}"),
        # A junction counts where it is exposed.
        ("/posts?select=title,tags(name)", [{"title": "p", "tags": [{"name": "red"},
                                                                  {"name": "blue"}]}]),
        # A table's name means its many where it refers to itself, whatever junctions there are.
        ("/people?select=name,people!people_boss_fkey(name)&id=eq.1",
         [{"name": "Ann", "people": [{"name": "Bob"}]}]),
        ("/people?select=name,people(name)&id=eq.1",
         [{"name": "Ann", "people": [{"name": "Bob"}]}]),
        # A constraint makes a relationship one-to-one, an index alone does not.
        ("/people?select=lockers(person),desks(person)&id=eq.1",
         [{"lockers": [{"person": 1}], "desks": {"person": 1}}]),
        # Only implicit casts represent domains, and patterns are not their values.
        ("/buoys?select=light&name=eq.Red", [{"light": 7}]),
        ("/buoys?select=id&name=like.<R*&or=(name.ilike(any).{<r*,<b*})", [{"id": 1}]),
        # What is no number is no limit.
        ("/posts?select=id&limit=0_0", [{"id": 1}]),
        # An empty `select` is as if it were missing, but for relations.
        ("/harbours?select=&id=eq.1", [{"id": 1, "name": "Alte Liebe"}]),
        ("/boats?select=name,harbours!home()&id=eq.1", [{"name": "Argo"}]),
        # Groups are ordered by how many rows they have.
        ("/players?select=team_id,count()&order=count.desc",
         [{"team_id": 1, "count": 2}, {"team_id": 2, "count": 1}]),
        # Groups are ordered by a column of a spread relation.
        ("/players?select=goals.sum(),...teams(name)&order=teams(name)",
         [{"sum": 4, "name": "Blues"}, {"sum": 5, "name": "Reds"}]),
        ("/players?select=goals.sum(),...teams(team:name)&order=teams(team).desc",
         [{"sum": 5, "team": "Reds"}, {"sum": 4, "team": "Blues"}]),
        ("/players?select=goals.sum(),...teams(*)&order=teams(id)",
         [{"sum": 5, "id": 1, "name": "Reds"}, {"sum": 4, "id": 2, "name": "Blues"}]),
        ("/players?select=goals,...teams(team:name)&order=teams(team),goals.desc&limit=2",
         [{"goals": 4, "team": "Blues"}, {"goals": 3, "team": "Reds"}]),
    ],
)  # fmt: skip
async def test_a_read_has_the_rows_of_postgrest(api: DataApi, url: str, rows: Any) -> None:
    assert await api.read(url) == rows


@pytest.mark.parametrize(
    ("request_line", "body", "value"),
    [
        ("POST /rpc/country", {"code": "DE"}, "DE"),
        ("POST /rpc/mask", {"b": "1010"}, "1010"),
        ("POST /rpc/codes", {"c": ["DE", "FR"]}, "{DE,FR}"),
        ("POST /rpc/kind", {"": "x"}, "text"),
    ],
)
async def test_a_call_has_the_value_of_postgrest(
    api: DataApi, request_line: str, body: Any, value: str
) -> None:
    response = await api.request(request_line, body)
    assert (response.status_code, response.json()) == (200, value)


NOT_CALLABLE = "Could not find the function public.{} in the schema cache"


@pytest.mark.parametrize(
    ("request_line", "body", "status", "error"),
    [
        # A body fills one unnamed parameter, of a type that bodies have.
        ("POST /rpc/twice", {"": 3}, 404,
         {"code": "PGRST202", "message": NOT_CALLABLE.format("twice()")}),
        ("POST /rpc/label_of", None, 404,
         {"code": "PGRST202", "message": NOT_CALLABLE.format("label_of without parameters"),
          "hint": None}),
        ("POST /rpc/label_of", {"": {"id": 1}}, 404,
         {"code": "PGRST202", "message": NOT_CALLABLE.format("label_of()"), "hint": None}),
        ("POST /rpc/joined", {"": "x"}, 404, {"code": "PGRST202"}),
        ("POST /rpc/pick", {"a": "1"}, 300,
         {"code": "PGRST203", "message": "Could not choose the best candidate function between: "
          "public.pick(a => integer), public.pick(a => text)"}),
        # A hint names relations of the schema alone, if they are a little alike.
        ("GET /harbours?select=wharf(id)", None, 400, {"code": "PGRST200", "hint": None}),
        ("GET /harbours?select=boot(id)", None, 400,
         {"code": "PGRST200", "hint": "Perhaps you meant 'boats' instead of 'boot'."}),
        # Of several relationships, those to many come first.
        ("GET /fleets?select=ships(id)", None, 300,
         {"code": "PGRST201", "hint": "Try changing 'ships' to one of the following: "
          "'ships!z_fleet', 'ships!a_flagship'. Find the desired relationship in the 'details' "
          "key."}),
        # What leads from a table to itself over a junction leads both ways alike.
        ("GET /people?select=id,people!friends(id)", None, 400, {"code": "PGRST200"}),
        # A function outside the search path is not there.
        ("GET /people?select=salary", None, 400,
         {"code": "42703", "message": "column people.salary does not exist"}),
        ("GET /people?select=rivals(id)", None, 400, {"code": "PGRST200"}),
        # OPTIONS names what is missing as other methods do.
        ("OPTIONS /rpc/countryy", None, 404,
         {"code": "PGRST202", "message": NOT_CALLABLE.format("countryy without parameters"),
          "hint": "Perhaps you meant to call the function public.country"}),
        ("OPTIONS /harbour", None, 404,
         {"code": "PGRST205", "hint": "Perhaps you meant the table 'public.harbours'"}),
        # A junction that is not exposed is not there.
        ("GET /shelves?select=id,rooms(id)", None, 400, {"code": "PGRST200"}),
        # JSON would have one key twice.
        ("GET /boats?select=harbours!home(name),harbours!last_port(name)", None, 400,
         {"code": "42712", "message": 'table name "boats_harbours_1" specified more than once'}),
        ("GET /teams?select=players(x:teams(id),x:teams(name))", None, 400,
         {"code": "42712", "message": 'table name "players_x_2" specified more than once'}),
    ],
)  # fmt: skip
async def test_an_error_is_that_of_postgrest(
    api: DataApi, request_line: str, body: Any, status: int, error: dict[str, Any]
) -> None:
    response = await api.request(request_line, body)
    assert response.status_code == status, response.text
    assert {name: response.json()[name] for name in error} == error


@pytest.mark.parametrize(("most", "content_range"), [(None, "0-2/70"), (3, "0-2/3"), (2, "0-1/70")])
async def test_an_estimate_is_of_more_rows_than_a_response_may_have(
    api: DataApi, most: int | None, content_range: str
) -> None:
    async with open_data_api(api.url, db_max_rows=most, db_schemas="public") as limited:
        response = await limited.request("GET /speeds", prefer="count=estimated")
    assert response.headers["content-range"] == content_range


async def test_a_location_has_the_key_in_the_order_of_the_columns(api: DataApi) -> None:
    response = await api.request(
        "POST /berths", {"number": 2, "pier": 1}, prefer="return=headers-only"
    )
    assert response.headers["location"] == "/berths?pier=eq.1&number=eq.2"


async def test_a_body_may_be_an_array_of_the_data_apis_own_media_type(api: DataApi) -> None:
    headers = {"content-type": "application/vnd.pgrst.array+json"}
    response = await api.request("POST /berths", '[{"number": 2, "pier": 1}]', headers=headers)
    assert response.status_code == 201


async def test_a_set_is_no_value_of_a_media_type(api: DataApi) -> None:
    response = await api.request("GET /rpc/pages", accept="text/html")
    assert (response.status_code, response.json()["code"]) == (406, "PGRST107")
    assert await api.read("/rpc/pages") == ["<p>"]


async def test_the_description_has_openapis_formats_and_lists_what_can_be_called(
    api: DataApi,
) -> None:
    response = await api.request("GET /")
    assert response.headers["content-profile"] == "public"
    document = response.json()
    integers = {
        name: {"type": "integer", "format": format}
        for name, format in [("a", "int32"), ("b", "int32"), ("c", "int64")]
    }
    properties = document["definitions"]["sizes"]["properties"]
    assert {
        name: {"type": each["type"], "format": each["format"]} for name, each in properties.items()
    } == integers
    assert {"/rpc/kind", "/rpc/pick"} <= document["paths"].keys()
    assert not {"/rpc/twice", "/rpc/label_of", "/rpc/joined"} & document["paths"].keys()
