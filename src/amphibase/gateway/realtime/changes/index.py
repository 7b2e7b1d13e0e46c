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

    def remove(self, subscriber: Subscriber) -> None:
        """Forget a subscriber."""
        for binding in self._bindings.pop(subscriber, ()):
            of_table = self._by_table[binding.schema, binding.table]
            of_table.pop(subscriber, None)
            if not of_table:
                del self._by_table[binding.schema, binding.table]

    def discard(self, subscriber: Subscriber, binding: Binding) -> bool:
        """Forget one binding; return whether it was there."""
        bindings = self._bindings.get(subscriber, ())
        if binding not in bindings:
            return False
        self.replace(subscriber, [each for each in bindings if each != binding])
        return True

    def of_table(self, schema: str, table: str) -> Iterator[tuple[Subscriber, Binding]]:
        """Yield the bindings that name a table, or all."""
        for key in ((schema, table), (schema, ALL), (ALL, table), (ALL, ALL)):
            for subscriber, bindings in self._by_table.get(key, {}).items():
                for binding in bindings:
                    yield subscriber, binding
