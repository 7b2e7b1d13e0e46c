"""The bytes of a response: in which order its keys come, and how embedded relations are written.

As PostgREST writes them: columns before relations, and relations as JSONB, whose keys Postgres
sorts (by length, then by letters).
"""

import pytest
from tests.gateway.rest.data_api import DataApi

BY = "composers!works_composer"


@pytest.mark.parametrize(
    ("url", "body"),
    [
        (f"/works?select=title,{BY}(name,id)&id=eq.1",
         '[{"title":"Trio","composers":{"id": 1, "name": "Clara"}}]'),
        (f"/works?select={BY}(name),title&id=eq.1",
         '[{"title":"Trio","composers":{"name": "Clara"}}]'),
        (f"/works?select=...{BY}(name),title&id=eq.1", '[{"title":"Trio","name":"Clara"}]'),
        ("/works?select=programmes(place,concert_id),id&id=eq.1",
         '[{"id":1,"programmes":[{"place": 1, "concert_id": 1}, '
         '{"place": 2, "concert_id": 2}]}]'),
        ("/concerts?select=...works(title),id&id=eq.1", '[{"id":1,"title":["Trio", "Quartet"]}]'),
        (f"/works?select={BY}(name),id&order=composers(id)&id=eq.1",
         '[{"id":1,"composers":{"name": "Clara"}}]'),
        # The relation that is filtered, ordered or cut comes first of the relations.
        ("/works?select=programmes(place),scores(pages),id&scores.pages=eq.60&id=eq.3",
         '[{"id":3,"scores":null,"programmes":[{"place": 2}]}]'),
        ("/works?select=programmes(place),scores(pages),id&programmes.order=place&id=eq.3",
         '[{"id":3,"programmes":[{"place": 2}],"scores":null}]'),
        ("/works?select=programmes(place),scores(pages),id&programmes.place=eq.2"
         "&scores.or=(pages.gt.1,pages.lt.1)&id=eq.3",
         '[{"id":3,"scores":null,"programmes":[{"place": 2}]}]'),
        ("/works?select=programmes(place),scores(pages)&scores.limit=1&id=eq.3",
         '[{"scores":null,"programmes":[{"place": 2}]}]'),
    ],
)  # fmt: skip
async def test_columns_come_before_related_rows(api: DataApi, url: str, body: str) -> None:
    response = await api.request(f"GET {url}")
    assert response.text == body


async def test_the_columns_of_csv_come_in_that_order(api: DataApi) -> None:
    response = await api.request(f"GET /works?select={BY}(name),id&id=eq.1", accept="text/csv")
    assert response.text == 'id,composers\n1,"{""name"": ""Clara""}"'


async def test_what_is_written_comes_back_in_that_order(api: DataApi) -> None:
    url = "PATCH /works?id=eq.3&select=scores(pages),programmes(place),id&programmes.order=place"
    response = await api.request(url, {"minutes": 1}, prefer="return=representation")
    assert response.text == '[{"id":3,"programmes":[{"place": 2}],"scores":null}]'
