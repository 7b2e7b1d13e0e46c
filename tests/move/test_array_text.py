"""Arrays are written as Postgres writes them, so that equal ones have equal texts."""

import psycopg
from tests.servers import Databases

from amphibase.move.tables.array_text import parse_array, write_array

WORDS = ["", "NULL", "nUll", "{}", "a,b", 'a"b', "a\\b", " a", "a b", "\\N"]


def test_every_text_is_quoted_where_postgres_quotes_it(databases: Databases) -> None:
    texts = [*WORDS, *(f"a{chr(number)}b" for number in range(1, 0x3100))]
    query = "SELECT ARRAY[text]::text FROM unnest(%s::text[]) WITH ORDINALITY AS each (text, place)"
    with databases.new() as url, psycopg.connect(url) as connection:
        rows = connection.execute(f"{query} ORDER BY place".encode(), (texts,)).fetchall()
    assert [write_array([text], str) for text in texts] == [row[0] for row in rows]
    assert [parse_array(text) for (text,) in rows] == [[text] for text in texts]
