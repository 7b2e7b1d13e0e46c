"""Tables and rows made by hypothesis, of every type that SQLAlchemy stores on SQLite."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Date,
    DateTime,
    Double,
    Enum,
    ForeignKey,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
    Time,
    Uuid,
    insert,
    select,
)

from amphibase.models import ExactDecimal, Json, UtcDateTime, _array

Rows = dict[str, list[dict[str, Any]]]

TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12
) | st.sampled_from(["", "NULL", "null", 'a,"b\\', "{}", "(a)", "1.0", "f", " x ", "\\N"])
NUMBERS = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_nan=False)
MOMENTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e15, 1e15) | TEXT,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(TEXT, values, max_size=3),
    max_leaves=6,
)

KINDS: dict[str, tuple[Callable[[], Any], st.SearchStrategy[Any]]] = {
    "integer": (Integer, st.integers(-(2**31), 2**31 - 1)),
    "bigint": (BigInteger, NUMBERS),
    "boolean": (Boolean, st.booleans()),
    "string": (lambda: String(20), TEXT),
    "text": (Text, TEXT),
    "double": (Double, FLOATS),
    "money": (lambda: Numeric(10, 2), st.decimals("-9999999", "9999999", places=2)),
    "exact": (ExactDecimal, st.decimals(allow_nan=False, allow_infinity=False, places=25)),
    "moment": (UtcDateTime, MOMENTS.map(lambda value: value.replace(tzinfo=UTC))),
    "naive": (DateTime, MOMENTS),
    "date": (Date, st.dates()),
    "time": (Time, st.times()),
    "span": (Interval, st.timedeltas(timedelta(-300_000), timedelta(300_000))),
    "uuid": (Uuid, st.uuids()),
    "bytes": (LargeBinary, st.binary(max_size=20)),
    "json": (lambda: Json, st.lists(JSON, max_size=3) | st.dictionaries(TEXT, JSON, max_size=3)),
    "words": (lambda: _array(Text()), st.lists(TEXT, max_size=3)),
    "numbers": (lambda: _array(BigInteger()), st.lists(NUMBERS, max_size=3)),
    "flags": (lambda: _array(Boolean()), st.lists(st.booleans(), max_size=3)),
    "mood": (lambda: Enum("sad", "a,b", 'c"d', name="move_mood"), st.sampled_from(["sad", "a,b"])),
}
KEYS = ("integer", "bigint", "string", "uuid", "moment", "date")


@dataclass(frozen=True)
class Application:
    """Tables, each after those that it refers to, and rows for them."""

    metadata: MetaData
    rows: Rows

    def write(self, connection: Connection) -> None:
        """Insert all rows."""
        for table in self.metadata.sorted_tables:
            for row in self.rows[table.name]:
                connection.execute(insert(table), row)

    def read(self, connection: Connection) -> Rows:
        """Read all rows, in an order of their own."""
        return {
            table.name: sorted(
                (
                    {name: _plain(value) for name, value in row.items()}
                    for row in connection.execute(select(table)).mappings()
                ),
                key=repr,
            )
            for table in self.metadata.sorted_tables
        }


def _plain(value: Any) -> Any:
    """Let a zero be a zero, whatever its sign: SQLite keeps none."""
    if isinstance(value, float) and value == 0:
        return math.copysign(0.0, 1)
    return value


@st.composite
def applications(draw: st.DrawFn) -> Application:
    """Draw up to three tables that refer to one another and to themselves."""
    metadata = MetaData()
    rows: Rows = {}
    for number in range(draw(st.integers(1, 3))):
        name = f"move_{number} t" if number == 2 else f"move_{number}"
        keys = draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=2))
        kinds = draw(st.lists(st.sampled_from(sorted(KINDS)), max_size=6))
        columns = [
            Column(f"k{place}", KINDS[kind][0](), primary_key=True, autoincrement=False)
            for place, kind in enumerate(keys)
        ]
        columns += [Column(f"c{place} x", KINDS[kind][0]()) for place, kind in enumerate(kinds)]
        targets = [table for table in metadata.sorted_tables if len(table.primary_key) == 1]
        if targets:
            target = draw(st.sampled_from(targets))
            (key,) = target.primary_key
            columns.append(Column("other", key.type, ForeignKey(key)))
        if len(keys) == 1:
            columns.append(Column("own", columns[0].type, ForeignKey(f"{name}.k0")))
        Table(name, metadata, *columns)
        key_values = draw(
            st.lists(st.tuples(*[KINDS[kind][1] for kind in keys]), max_size=8, unique=True)
        )
        rows[name] = []
        for values in key_values:
            row: dict[str, Any] = {f"k{place}": value for place, value in enumerate(values)}
            for place, kind in enumerate(kinds):
                row[f"c{place} x"] = draw(st.none() | KINDS[kind][1])
            if targets:
                others = [other["k0"] for other in rows[target.name]]
                row["other"] = draw(st.sampled_from([None, *others]))
            if len(keys) == 1:
                earlier = [None, *[other["k0"] for other in rows[name]], values[0]]
                row["own"] = draw(st.sampled_from(earlier))
            rows[name].append(row)
    return Application(metadata, rows)
