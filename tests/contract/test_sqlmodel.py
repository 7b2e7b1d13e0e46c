"""The contract of Repository, on every backend: classes of SQLModel."""

import pytest
from sqlmodel import col
from tests.backends import ANN, BOB, Records
from tests.models import Pet

from amphibase import ANONYMOUS, Conflict, Unauthenticated


async def test_its_rows_are_stored_and_are_their_owners_alone(records: Records) -> None:
    anns, bobs = records.of(Pet, ANN), records.of(Pet, BOB)
    pet = await anns.add(Pet(name="Rex"))
    assert (pet.owner_id, pet.name) == (ANN.user_id, "Rex")
    assert pet.id is not None
    assert await bobs.get(pet.id) is None
    assert await bobs.list() == []
    assert await bobs.update(pet.id, name="Max") is None
    assert await bobs.delete(pet.id) is False
    changed = await anns.update(pet.id, name="Max")
    assert changed is not None
    assert [each.name for each in await anns.list(col(Pet.name) == "Max")] == ["Max"]


async def test_its_rows_are_stored_together_or_by_upsert(records: Records) -> None:
    anns = records.of(Pet, ANN)
    first, second = await anns.add_many([Pet(name="Rex"), Pet(name="Max")])
    again = await anns.upsert(Pet(id=first.id, name="Tom"))
    other = await anns.upsert(Pet(name="Kit"))
    assert again.id == first.id
    assert len({first.id, second.id, other.id}) == 3
    assert {each.name for each in await anns.list()} == {"Tom", "Max", "Kit"}
    with pytest.raises(Conflict):
        await records.of(Pet, BOB).upsert(Pet(id=first.id, name="Bob's"))


async def test_nobody_in_particular_stores_nothing(records: Records) -> None:
    with pytest.raises(Unauthenticated):
        await records.of(Pet, ANONYMOUS).add(Pet(name="Rex"))
