"""The board's rows, with the fixtures of Amphibase's pytest plugin."""

from main import Note, db

from amphibase import SERVICE, Added
from amphibase.testing.client import Client


async def test_who_follows_the_board_gets_to_know_of_a_note(client: Client) -> None:
    ann = await client.as_user("ann@example.com")
    async with db.state.backend.changes(Note, SERVICE) as changes:
        response = await ann.post("/notes", json={"text": "tea"})
        change = await anext(changes)
    assert isinstance(change, Added)
    assert response.json()["id"] == str(change.row.id)
