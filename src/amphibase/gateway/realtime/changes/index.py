"""Which channels want the changes of a table."""

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from typing import Generic, TypeVar

from amphibase.gateway.realtime.changes.binding import ALL, Binding

Subscriber = TypeVar("Subscriber", bound=Hashable)


class BindingIndex(Generic[Subscriber]):
    """The bindings of subscribers, by the tables that they name."""

    def __init__(self) -> None:
        self._bindings: dict[Subscriber, Sequence[Binding]] = {}
        self._by_table: dict[tuple[str, str], dict[Subscriber, list[Binding]]] = defaultdict(dict)
        self._of_tables: dict[tuple[str, str], Sequence[tuple[Subscriber, Binding]]] = {}

    def __len__(self) -> int:
        return len(self._bindings)

    def __iter__(self) -> Iterator[Subscriber]:
        return iter([*self._bindings])

    def __contains__(self, subscriber: Subscriber) -> bool:
        return subscriber in self._bindings

    def replace(self, subscriber: Subscriber, bindings: Sequence[Binding]) -> None:
        """Let a subscriber have these bindings, and none that it had before."""
        self.remove(subscriber)
        if bindings:
            self._bindings[subscriber] = bindings
        for binding in bindings:
            of_table = self._by_table[binding.schema, binding.table]
            of_table.setdefault(subscriber, []).append(binding)

    def remove(self, subscriber: Subscriber) -> Sequence[Binding]:
        """Forget a subscriber; return its bindings."""
        self._of_tables.clear()
        bindings = self._bindings.pop(subscriber, ())
        for binding in bindings:
            of_table = self._by_table[binding.schema, binding.table]
            of_table.pop(subscriber, None)
            if not of_table:
                del self._by_table[binding.schema, binding.table]
        return bindings

    def discard(self, subscriber: Subscriber, binding: Binding) -> bool:
        """Forget one binding; return whether it was there."""
        bindings = self._bindings.get(subscriber, ())
        if binding not in bindings:
            return False
        self.replace(subscriber, [each for each in bindings if each != binding])
        return True

    def count(self, schema: str, table: str) -> int:
        """Return about how many bindings name a table: so many subscribers."""
        return sum(len(self._by_table.get(key, ())) for key in _names(schema, table))

    def of_table(self, schema: str, table: str) -> Sequence[tuple[Subscriber, Binding]]:
        """Return the bindings that name a table, or all; the same object while none changes."""
        name = schema, table
        if name not in self._of_tables:
            self._of_tables[name] = [
                (subscriber, binding)
                for key in _names(schema, table)
                for subscriber, bindings in self._by_table.get(key, {}).items()
                for binding in bindings
            ]
        return self._of_tables[name]


def _names(schema: str, table: str) -> Iterator[tuple[str, str]]:
    """Yield how a binding may name a table."""
    yield schema, table
    yield schema, ALL
    yield ALL, table
    yield ALL, ALL
