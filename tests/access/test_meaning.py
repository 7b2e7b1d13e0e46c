"""Any declaration means the same to each backend and in plain Python."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select
from sqlalchemy.exc import DBAPIError
from tests.access import cases
from tests.access.cases import MODELS, PEOPLE, Item, Member, Note, Proof, Team, caller, declarations
from tests.access.faults import FAULTS, seeded
from tests.access.helpdesk import KINDS
from tests.access.meaning import Declared, Who, World
from tests.backends import SECRET

from amphibase.accounts.jwt.key_ring import load_keys
from amphibase.database.compiled import SelectCache
from amphibase.database.url import to_conninfo
from amphibase.errors import Forbidden, InvalidValue, Unauthenticated
from amphibase.records.model_info import ModelInfos
from amphibase.schema.migrations import roles
from amphibase.schema.policy_script import script
from amphibase.settings import load_settings
from amphibase.sql.backend import SqlBackend

ROWS = cases.rows()
CASES = {"sqlite": 100, "predicate": 40, "rls": 40}
FAULT_CASES = 2000
LONG = 2000
"""How many cases `make test-access` tries."""

DENIED = (Forbidden, Unauthenticated, InvalidValue)
OPTIONS: dict[str, Any] = {
    "deadline": None,
    "phases": [Phase.generate, Phase.shrink],
    "database": None,
    "suppress_health_check": list(HealthCheck),
}


class _Undone(Exception):
    """Undoes what a case has written."""


class Trial:
    """A backend with the rows of all cases."""

    def __init__(self, url: str, folder: Path, kind: str = "sqlite") -> None:
        self._runner = asyncio.Runner()
        self.kind = kind
        self._rls = rls = kind == "rls"
        self._settings = load_settings(
            database_url=url, secret_key=SECRET, data_dir=folder, rls=rls
        )
        self.run(self._open())

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)

    async def _open(self) -> None:
        self._backend = SqlBackend(self._settings, load_keys(self._settings))
        async with self._backend.database.write() as connection:
            await connection.run_sync(Proof.metadata.create_all)
            if self._rls:
                await connection.run_sync(roles.create_missing)
            for name, rows in ROWS.items():
                await connection.execute(insert(MODELS[name]), rows)

    def close(self) -> None:
        self.run(self._backend.close())
        self._runner.close()

    def declare(self, declared: dict[str, Declared]) -> None:
        """Let the backend see the models with another access."""
        cases.declare(declared)
        self._backend._infos = ModelInfos(self._backend.database.dialect)
        self._backend._selects = SelectCache()
        if self._rls:
            url = to_conninfo(self._backend.database.url)
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(script(Proof.metadata).encode())

    async def ids(self, model: type[Any], who: Who, *where: Any) -> list[int]:
        rows = await self._backend.repository(model, caller(who)).list(*where, limit=1000)
        return sorted(row.id for row in rows)

    async def count(self, model: type[Any], who: Who) -> int:
        return await self._backend.repository(model, caller(who)).count()

    async def outcome(self, who: Who, work: Callable[[Any], Coroutine[Any, Any, Any]]) -> str:
        """Return what comes of some work in a transaction, and undo it."""
        result = ""
        try:
            async with self._backend.transaction(caller(who)) as transaction:
                result = "done" if await work(transaction.repository) else "nothing"
                raise _Undone
        except _Undone:
            return result
        except DENIED:
            return "denied"


@pytest.fixture(scope="session", params=KINDS)
def trial(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Trial]:
    folder = tmp_path_factory.mktemp("trial")
    place: Any = nullcontext(f"sqlite:///{folder}/trial.db")
    if request.param != "sqlite":
        place = request.getfixturevalue("databases").new()
    with place as url:
        opened = Trial(url, folder, request.param)
        yield opened
        opened.close()


def is_there(row: dict[str, Any]) -> bool:
    return row.get("deleted_at") is None


async def check_reading(trial: Trial, world: World, who: Who) -> None:
    """A caller reads the rows that the declaration means, by each way of asking."""
    seen: dict[str, list[int]] = {
        model: [row["id"] for row in rows if is_there(row) and world.readable(model, row, who)]
        for model, rows in world.rows.items()
    }
    for model, ids in seen.items():
        assert await trial.ids(MODELS[model], who) == ids, f"{who} reads {model}"
    item = {row["id"]: row["item_id"] for row in world.rows["Note"]}
    of_items = [id for id in seen["Note"] if item[id] in seen["Item"]]
    assert await trial.ids(Note, who, Note.item.has()) == of_items, f"{who} filters"
    team = {row["id"]: row["team_id"] for row in world.rows["Item"]}
    of_teams = [id for id in seen["Item"] if team[id] in seen["Team"]]
    assert await trial.ids(Item, who, Item.team.has(Team.id > 0)) == of_teams, f"{who} filters"
    teams = {row["team_id"] for row in world.rows["Member"] if row["id"] in seen["Member"]}
    of_members = [id for id in seen["Item"] if team[id] in teams]
    members = Item.team_id.in_(select(Member.team_id))
    assert await trial.ids(Item, who, members) == of_members, f"{who} filters"
    assert await trial.count(Item, who) == len(seen["Item"]), f"{who} counts"


CHANGES: dict[str, list[dict[str, Any]]] = {
    "Item": [
        {"number": 1},
        {"number": None},
        {"plan": "gold"},
        {"published": True},
        {"team_id": 1, "plan": "free"},
        {"team_id": 3},
        {"other": 2},
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


CASE = st.builds(
    Case,
    declarations(),
    st.sampled_from([*PEOPLE.values()]),
    st.sampled_from(["Item", "Note"]),
    st.integers(0, 39),
    st.integers(0, 6),
    st.sampled_from([None, None, PEOPLE["bob"].id]),
)


async def check_writing(trial: Trial, world: World, case: Case) -> None:
    """A caller may write what the declaration means."""
    model, who = case.model, case.who
    row = world.rows[model][case.row]
    await check_changing(trial, world, who, model, row, case.changes)
    await check_deleting(trial, world, who, model, row)
    await check_adding(trial, world, who, model, {**row, "id": 1000, **case.changes}, case.owner)


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
    trial.run(check_reading(trial, world, case.who))
    trial.run(check_writing(trial, world, case))


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


@pytest.mark.long
@pytest.mark.parametrize("trial", ["sqlite"], indirect=True)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_noticed(trial: Trial, fault: str) -> None:
    with seeded(fault), pytest.raises((AssertionError, DBAPIError)):
        check_cases(trial, FAULT_CASES, phases=[Phase.generate])


@pytest.mark.long
def test_many_declarations_mean_the_same_everywhere(trial: Trial) -> None:
    """Prints what they were made of."""
    cases.HISTOGRAM.clear()
    check_cases(trial, LONG, before=lambda case: cases.count(case.declared))
    for name, number in sorted(cases.HISTOGRAM.items()):
        print(f"{number:6} {name}")
    for operation in ("read", "add", "change", "delete"):
        deep = sum(cases.HISTOGRAM[f"{operation}: depth {depth}"] for depth in (2, 3, 4))
        assert deep >= 200
