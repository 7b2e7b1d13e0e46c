"""In which order the keys of a response come, as PostgREST writes them: columns before relations,
and those of relations as JSONB sorts them (by length, then by bytes).
"""

import json
from typing import Any

import pytest
from tests.gateway.rest.data_api import DataApi

BY = "composers!works_composer"


def ordered(text: str) -> Any:
    """JSON with its objects as lists of their members."""
    return json.loads(text, object_pairs_hook=list)


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
    assert ordered(response.text) == ordered(body)


@pytest.mark.parametrize(
    "url", [f"/works?select={BY}(*)", "/composers?select=works!works_composer(*)"]
)
async def test_all_columns_of_a_related_row_are_sorted(api: DataApi, url: str) -> None:
    ((_, related),) = ordered((await api.request(f"GET {url}&id=eq.1")).text)[0]
    row = related if isinstance(related[0], tuple) else related[0]
    names = [name for name, _ in row]
    assert len(names) > 1
    assert names == sorted(names, key=lambda name: (len(name), name))


async def test_the_columns_of_csv_come_in_that_order(api: DataApi) -> None:
    response = await api.request(f"GET /works?select={BY}(name),id&id=eq.1", accept="text/csv")
    assert response.text == 'id,composers\n1,"{""name"": ""Clara""}"'


async def test_what_is_written_comes_back_in_that_order(api: DataApi) -> None:
    url = "PATCH /works?id=eq.3&select=scores(pages),programmes(place),id&programmes.order=place"
    response = await api.request(url, {"minutes": 1}, prefer="return=representation")
    written = '[{"id":3,"programmes":[{"place":2}],"scores":null}]'
    assert ordered(response.text) == ordered(written)
