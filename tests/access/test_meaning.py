"""Any declaration means the same to each backend and in plain Python."""

from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from tests.access import cases
from tests.access.cases import MODELS, PEOPLE, Item, Label, Member, Note, Team, declarations
from tests.access.faults import FAULTS, seeded, source_of
from tests.access.helpdesk import KINDS
from tests.access.meaning import Declared, Either, Expression, Kind, Not, Test, Who, World
from tests.access.trials import ROWS, SqlTrial, SupabaseTrial, Trial
from tests.supabase_projects import open_project

from amphibase.search import matches

CASES = {"sqlite": 60, "predicate": 20, "rls": 20, "supabase": 3}
FAULT_CASES = 1000
LONG = {"sqlite": 2000, "predicate": 2000, "rls": 2000, "supabase": 200}
"""How many cases `make test-access` tries: on a Supabase project each is for all callers."""
LONG_SECONDS = 7200
OFTEN = 200
"""In how many of 2,000 cases each operator, and each operation with a rule of some depth, is."""

OPTIONS: dict[str, Any] = {
    "deadline": None,
    "phases": [Phase.generate, Phase.shrink],
    "database": None,
    "suppress_health_check": list(HealthCheck),
    "report_multiple_bugs": False,
}


@pytest.fixture(scope="session", params=[*KINDS, "supabase"])
def trial(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Trial]:
    folder = tmp_path_factory.mktemp("trial")
    if request.param == "supabase":
        with open_project(request) as project:
            if not project.db_url:
                pytest.skip("TEST_SUPABASE_DB_URL is not set")
            with closing(SupabaseTrial(project, folder)) as opened:
                yield opened
        return
    place: Any = nullcontext(f"sqlite:///{folder}/trial.db")
    if request.param != "sqlite":
        place = request.getfixturevalue("databases").new()
    with place as url, closing(SqlTrial(url, folder, request.param)) as opened:
        yield opened


async def ids(trial: Trial, model: type[Any], who: Who, *where: Any) -> list[int]:
    rows = await trial.of(model, who).list(*where, limit=1000)
    return sorted(row.id for row in rows)


async def ids_by_page(trial: Trial, model: type[Any], who: Who) -> list[int]:
    page = await trial.of(model, who).page(limit=15)
    rows = [*page.items]
    while page.next_cursor is not None:
        page = await trial.of(model, who).page(limit=15, cursor=page.next_cursor)
        rows += page.items
    return sorted(row.id for row in rows)


def is_there(row: dict[str, Any]) -> bool:
    return row.get("deleted_at") is None


async def check_reading(trial: Trial, world: World, who: Who) -> None:
    """A caller reads the rows that the declaration means, by each way of asking."""
    seen: dict[str, list[int]] = {
        model: [row["id"] for row in world.rows[model] if world.exists(model, row, who)]
        for model in world.declared
    }
    for model, expected in seen.items():
        assert await ids(trial, MODELS[model], who) == expected, f"{who} reads {model}"
    assert await ids_by_page(trial, Item, who) == seen["Item"], f"{who} reads pages"
    assert await trial.of(Item, who).count() == len(seen["Item"]), f"{who} counts"
    if trial.filters_by_rows:
        await check_filtering(trial, world, who, seen)
    for model in ("Item", "Note"):
        await check_searching(trial, world, who, model, seen[model])


async def check_searching(
    trial: Trial, world: World, who: Who, model: str, seen: list[int]
) -> None:
    """A search finds what the caller sees, and its function gives nothing else by hand."""
    plans = {row["id"]: row["plan"] for row in world.rows[model]}
    search = matches(MODELS[model].plan, query="-nothing")
    found = [id for id in seen if plans[id] is not None]
    assert await ids(trial, MODELS[model], who, search) == found, f"{who} searches {model}"
    if isinstance(trial, SqlTrial):
        by_hand = trial.search_by_hand(MODELS[model], who, "-nothing")
        readable = [row["id"] for row in world.rows[model] if world.readable(model, row, who)]
        expected = [id for id in readable if plans[id] is not None]
        assert by_hand in (None, expected), f"{who} calls the function of {model}"


async def check_filtering(trial: Trial, world: World, who: Who, seen: dict[str, list[int]]) -> None:
    """A filter that reads other models finds in them what the caller sees."""
    item = {row["id"]: row["item_id"] for row in world.rows["Note"]}
    of_items = [id for id in seen["Note"] if item[id] in seen["Item"]]
    assert await ids(trial, Note, who, Note.item.has()) == of_items, f"{who} filters"
    team = {row["id"]: row["team_id"] for row in world.rows["Item"]}
    of_teams = [id for id in seen["Item"] if team[id] in seen["Team"]]
    assert await ids(trial, Item, who, Item.team.has(Team.id > 0)) == of_teams, f"{who} filters"
    teams = {row["team_id"] for row in world.rows["Member"] if row["id"] in seen["Member"]}
    of_members = [id for id in seen["Item"] if team[id] in teams]
    members = Item.team_id.in_(select(Member.team_id))
    assert await ids(trial, Item, who, members) == of_members, f"{who} filters"


CHANGES: dict[str, list[dict[str, Any]]] = {
    "Item": [
        {"number": 1},
        {"number": None},
        {"plan": "gold"},
        {"published": True},
        {"published": None, "number": 2},
        {"team_id": 1, "plan": "free"},
        {"team_id": 3},
        {"other": 2},
        {"deleted_at": None, "other": 1},
    ],
    "Note": [{"number": 2}, {"plan": "free"}, {"item_id": 3}, {"item_id": 17}, {"item_id": None}],
}


@dataclass(frozen=True)
class Case:
    """A declaration, and what is tried under it.

    Args:
        who: the caller.
        row: which row of a model is changed, deleted, and added once more.
        change: which of the changes.
        owner: whose the added row is; None for the caller's.
    """

    declared: dict[str, Declared]
    who: Who
    model: str
    row: int
    change: int
    owner: Any

    @property
    def changes(self) -> dict[str, Any]:
        return CHANGES[self.model][self.change % len(CHANGES[self.model])]

    def near(self) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Yield rows with changes, from the case's own on."""
        rows, changes = ROWS[self.model], CHANGES[self.model]
        for step in range(ROWS_LOOKED_AT):
            for place in range(len(changes)):
                yield rows[(self.row + step) % 40], changes[(self.change + place) % len(changes)]


CASE = st.builds(
    Case,
    declarations(),
    st.sampled_from([*PEOPLE.values()]),
    st.sampled_from(["Item", "Note"]),
    st.integers(0, 39),
    st.integers(0, 7),
    st.sampled_from([None, None, PEOPLE["bob"].id]),
)


ROWS_LOOKED_AT = 12
"""Among how many rows those are looked for whose writing tells most."""


async def check_writing(trial: Trial, world: World, case: Case) -> None:
    """A caller may write what the declaration means."""
    model, who = case.model, case.who
    row = world.rows[model][case.row]
    changes = [(row, case.changes), *telling_changes(world, case)]
    for each, changed in changes:
        await check_changing(trial, world, who, model, each, changed)
    await check_deleting(trial, world, who, model, row)
    new_rows = [{**row, **case.changes}, *telling_new_rows(world, case)]
    for each in new_rows:
        await check_adding(trial, world, who, model, {**each, "id": 1000}, case.owner)


async def check_referring(trial: Trial, world: World, case: Case) -> None:
    """A caller refers to the rows that they see, and to no others."""
    kinds: dict[tuple[bool, bool], dict[str, Any]] = {}
    for item, _ in replace(case, model="Item").near():
        sees = world.exists("Item", item, case.who)
        kinds.setdefault((sees, is_there(item)), item)
    for (sees, _), item in kinds.items():

        async def work(repository: Any, id: int = item["id"]) -> Any:
            labels = repository(Label)
            if case.row % 2:
                return await labels.add(Label(id=1000, item_id=id))
            await labels.add(Label(id=1000))
            return await labels.update(1000, item_id=id)

        outcome = await trial.outcome(case.who, work)
        assert (outcome == "done") == sees, f"refer to {item}: {outcome}"


def telling_changes(world: World, case: Case) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Find rows that the caller may change, with changes after which they are seen or not, and
    after which the rule for it holds or not: few of those that are drawn blindly are any."""
    model, who = case.model, case.who
    found: dict[tuple[bool, bool], tuple[dict[str, Any], dict[str, Any]]] = {}
    for row, changes in case.near():
        if is_there(row) and world.changeable(model, row, who):
            new = {**row, **changes}
            kind = (world.readable(model, new, who), world.left(model, new, who))
            found.setdefault(kind, (row, changes))
    return [*found.values()]


def telling_new_rows(world: World, case: Case) -> list[dict[str, Any]]:
    """Find new rows of each kind: which of what adding requires they meet, and whose the row is
    that they lead to."""
    model, who = case.model, case.who
    items = {item["id"]: item["owner_id"] for item in world.rows["Item"] if is_there(item)}
    found: dict[tuple[bool, bool, bool | None], dict[str, Any]] = {}
    for row, changes in case.near():
        new = {**row, **changes, "owner_id": case.owner or who.id}
        rule = world.declared[model].add
        item = new.get("item_id")
        of_caller = items[item] == who.id if item in items else None
        kind = (world.holds(rule, model, new, who), world.readable(model, new, who), of_caller)
        found.setdefault(kind, new)
    return [*found.values()]


async def check_changing(
    trial: Trial, world: World, who: Who, model: str, row: dict[str, Any], changes: dict[str, Any]
) -> None:
    seen = is_there(row) and world.readable(model, row, who)
    may = (
        seen
        and world.changeable(model, row, who)
        and world.leavable(model, {**row, **changes}, who)
    )
    outcome = await trial.outcome(
        who, lambda repository: repository(MODELS[model]).update(row["id"], **changes)
    )
    expected = ("done",) if may else ("denied",) if seen else ("nothing", "denied")
    assert outcome in expected, f"change {model} {row} to {changes}: {outcome}"
    one = MODELS[model].id == row["id"]
    outcome = await trial.outcome(
        who, lambda repository: repository(MODELS[model]).update_where(one, **changes)
    )
    assert (outcome == "done") == may, f"change {model} {row} to {changes} by a filter: {outcome}"


async def check_deleting(
    trial: Trial, world: World, who: Who, model: str, row: dict[str, Any]
) -> None:
    seen, may = world.readable(model, row, who), world.deletable(model, row, who)
    if is_there(row):
        work = lambda repository: repository(MODELS[model]).delete(row["id"])  # noqa: E731
    else:
        work = lambda repository: (  # noqa: E731
            repository(MODELS[model]).with_deleted().update(row["id"], deleted_at=None)
        )
    outcome = await trial.outcome(who, work)
    expected = ("done",) if may else ("denied",) if seen else ("nothing", "denied")
    assert outcome in expected, f"delete {model} {row}: {outcome}"


async def check_adding(
    trial: Trial, world: World, who: Who, model: str, row: dict[str, Any], owner: Any
) -> None:
    values = {**row, "owner_id": owner or who.id, **({} if is_there(row) else {"deleted_at": None})}
    may = world.addable(model, values, who) and not (model == "Note" and values["owner_id"] is None)
    new = {name: value for name, value in values.items() if name != "owner_id" or owner is not None}
    for work in (
        lambda repository: repository(MODELS[model]).add(MODELS[model](**new)),
        lambda repository: repository(MODELS[model]).add_many([MODELS[model](**new)] * 1),
    ):
        outcome = await trial.outcome(who, work)
        assert (outcome == "done") == may, f"add {model} {new}: {outcome}"


def check(trial: Trial, case: Case) -> None:
    """Check one declaration."""
    trial.declare(case.declared)
    world = World(ROWS, case.declared)
    callers = PEOPLE.values() if trial.kind == "supabase" else [case.who]
    for who in callers:
        trial.run(check_reading(trial, world, who))
        trial.run(check_writing(trial, world, replace(case, who=who)))
        trial.run(check_referring(trial, world, replace(case, who=who)))


def check_cases(
    trial: Trial,
    number: int,
    before: Callable[[Case], None] = lambda case: None,
    **options: Any,
) -> None:
    """Check that many declarations that Hypothesis makes."""

    @settings(max_examples=number, **{**OPTIONS, **options})
    @given(CASE)
    def each(case: Case) -> None:
        before(case)
        check(trial, case)

    each()


def test_a_declaration_means_the_same_everywhere(trial: Trial) -> None:
    check_cases(trial, CASES[trial.kind])


def test_a_new_row_may_have_no_value_where_its_rule_reads_one(trial: Trial) -> None:
    """Of a type that psycopg does not name in a statement."""
    gold, published = Test("plan", "==", "gold"), Test("published", "is true", True)
    unpublished = Expression(Not(Test("published", "is null", None)))
    every, none = Kind("everyone"), Kind("service")
    rest = Declared(every, none, True, none, None, none)
    for add in (Expression(Either(gold, published, "expression")), unpublished):
        item = Declared(every, add, True, every, add, every)
        declared = {"Team": rest, "Member": rest, "Item": item, "Note": rest}
        world, who = World(ROWS, declared), PEOPLE["ann"]
        trial.declare(declared)
        for row in ({"plan": "gold", "published": None}, {"plan": None, "published": True}):
            new = {**ROWS["Item"][1], **row, "id": 1000}
            trial.run(check_adding(trial, world, who, "Item", new, None))
            trial.run(check_changing(trial, world, who, "Item", ROWS["Item"][1], row))


def test_the_code_has_the_place_of_every_fault() -> None:
    """Else only the cases that take minutes would say that one tries nothing."""
    assert all(map(source_of, FAULTS))


@pytest.mark.long
@pytest.mark.timeout(LONG_SECONDS)
@pytest.mark.parametrize("trial", ["sqlite"], indirect=True)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_noticed(trial: Trial, fault: str) -> None:
    with seeded(fault), pytest.raises((AssertionError, DBAPIError)):
        check_cases(trial, FAULT_CASES, phases=[Phase.generate])


@pytest.mark.long
@pytest.mark.timeout(LONG_SECONDS)
def test_many_declarations_mean_the_same_everywhere(trial: Trial) -> None:
    """Prints what they were made of."""
    cases.HISTOGRAM.clear()
    number = LONG[trial.kind]
    check_cases(trial, number, before=lambda case: cases.count(case.declared))
    for name, cases_with_it in sorted(cases.HISTOGRAM.items()):
        print(f"{cases_with_it:6} {name}")
    rare = {each for each in cases.EXPECTED if cases.HISTOGRAM[each] * 2000 < OFTEN * number}
    assert not rare
