"""Why a caller may do something with a row of the help desk, or may not."""

from typing import Any

import pytest
from tests.access.conftest import Desk
from tests.access.helpdesk import (
    ADMIN,
    ANN,
    BOB,
    EVE,
    Bookmark,
    Comment,
    Membership,
    Organisation,
    Ticket,
)

from amphibase import ANONYMOUS, SERVICE, Caller
from amphibase.errors import Forbidden, NotFound, Unauthenticated
from amphibase.services.access import Explanation, OperationVerdict, Verdict, explain


async def explained(desk: Desk, row: Any, caller: Caller) -> Explanation:
    async with desk.backend.session(SERVICE, writes=False) as session:
        return await explain(session, type(row), [row.id], caller)


def verdict_on(explanation: Explanation, operation: str) -> OperationVerdict:
    return next(each for each in explanation.operations if each.operation == operation)


def lines(verdict: Verdict, depth: int = 0) -> list[str]:
    """The verdict as text, each part below what it is a part of."""
    own = f"{'  ' * depth}{'+' if verdict.admits else '-'} {verdict.rule}"
    return [own, *(line for part in verdict.parts for line in lines(part, depth + 1))]


async def test_an_agent_learns_why_they_cannot_delete_a_ticket(desk: Desk) -> None:
    delete = verdict_on(await explained(desk, desk.ticket, ANN), "delete")
    read, own = delete.rules
    assert (delete.admits, read.admits, own.admits) == (False, True, False)
    assert own.rule.endswith("""role = 'lead').has("organisation_id")""")
    assert own.reason == (
        f"organisation_id is {desk.acme.id}; the caller has 1 row of desk_memberships with it, "
        "none within the filter"
    )


async def test_a_rule_of_a_related_row_is_explained_by_that_row(desk: Desk) -> None:
    comment = await desk.of(Comment).one(Comment.ticket_id == desk.ticket.id)
    verdict = verdict_on(await explained(desk, comment, ANN), "delete").rules[1]
    mine = "memberships(Membership.organisation_id, of=Membership.user_id)"
    filtered = f"{mine}.where(desk_memberships.role = 'lead')"
    assert lines(verdict) == [
        "- any of",
        "  - owner",
        '  - through("ticket", "delete")',
        "    + Ticket: read",
        f'      + {mine}.has("organisation_id")',
        "      - admin",
        "    - Ticket: delete",
        f'      - {filtered}.has("organisation_id")',
    ]


async def test_a_row_like_another_is_added_by_those_whom_the_rule_of_adding_admits(
    desk: Desk,
) -> None:
    comment = await desk.of(Comment).one(Comment.ticket_id == desk.ticket.id)  # Bob's
    for row, caller, admits in (
        (desk.ticket, ANN, True),
        (desk.ticket, EVE, False),
        (desk.ticket, ADMIN, False),
        (comment, BOB, True),
        (comment, ANN, False),
        (comment, SERVICE, True),
    ):
        verdict = verdict_on(await explained(desk, row, caller), "add (a row like this one)")
        assert verdict.admits == admits
        if (row, caller) == (comment, ANN):
            assert verdict.rules[-1].reason == "a new row is the caller's own"


async def test_a_row_like_another_refers_to_what_the_caller_sees(desk: Desk) -> None:
    for organisation, admits in ((desk.acme, False), (desk.umbrella, True)):  # which Eve sees
        bookmark = await desk.of(Bookmark).add(
            Bookmark(owner_id=EVE.user_id, organisation_id=organisation.id)
        )
        verdict = verdict_on(await explained(desk, bookmark, EVE), "add (a row like this one)")
        assert verdict.admits is admits
        reasons = [rule.reason for rule in verdict.rules if not rule.admits]
        hidden = "organisation_id refers to a row that the caller does not see"
        assert reasons == ([] if admits else [hidden])


@pytest.mark.parametrize("caller", [ANN, BOB, EVE, ADMIN, ANONYMOUS, SERVICE], ids=str)
async def test_an_explanation_agrees_with_what_the_repository_does(
    desk: Desk, caller: Caller
) -> None:
    await desk.of(Bookmark).add_many(
        Bookmark(owner_id=EVE.user_id, organisation_id=each.id)
        for each in (desk.acme, desk.umbrella)  # of which Eve sees the second
    )
    rows: list[Any] = [
        row
        for model in (Organisation, Membership, Ticket, Comment, Bookmark)
        for row in await desk.of(model).list()
    ]
    assert len(rows) == 12
    for row in rows:
        explanation = await explained(desk, row, caller)
        repository = desk.of(type(row), caller)
        assert verdict_on(explanation, "read").admits == (await repository.get(row.id) is not None)
        try:
            values: dict[str, Any] = {"title": "new"} if isinstance(row, Bookmark) else {}
            changed = await repository.update(row.id, **values) is not None
        except (Forbidden, Unauthenticated):
            changed = False
        assert verdict_on(explanation, "change").admits == changed


async def test_a_deleted_row_and_a_missing_one_are_told_apart(desk: Desk) -> None:
    comment = await desk.of(Comment).one(Comment.ticket_id == desk.ticket.id)
    await desk.of(Ticket).delete(desk.ticket.id)
    (read,) = verdict_on(await explained(desk, comment, BOB), "read").rules
    assert (read.admits, read.reason) == (False, "the Ticket is softly deleted")
    assert (await explained(desk, desk.ticket, ANN)).is_deleted
    assert not (await explained(desk, desk.other, ANN)).is_deleted
    with pytest.raises(NotFound):
        await explained(desk, Ticket(id=desk.acme.id), ANN)
