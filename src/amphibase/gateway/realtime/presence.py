"""Presence: who is on a topic, by the keys that clients choose."""

from collections.abc import Callable, Hashable
from itertools import count
from typing import Any, NamedTuple

import orjson

Metas = dict[str, list[orjson.Fragment]]
"""What clients get for one key: `{"metas": [{"phx_ref": …, …}]}`."""

_refs = count(1)


class _Presence(NamedTuple):
    key: str
    payload: dict[str, Any]
    ref: str
    meta: orjson.Fragment


class ChannelPresences:
    """Those who track themselves on one topic, each with one meta.

    Joins and leaves are collected until `take_diff`, so that a thousand clients that leave at once
    are one message for those who stay.

    Args:
        changed: called when there is a diff to take, once until it is taken.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._present: dict[Hashable, _Presence] = {}
        self._joins: dict[str, Metas] = {}
        self._leaves: dict[str, Metas] = {}

    def track(self, who: Hashable, key: str, payload: dict[str, Any]) -> None:
        """Add somebody, or replace their payload; the same payload again changes nothing."""
        before = self._present.get(who)
        if before is not None and before.payload == payload:
            return
        ref = f"F{next(_refs):x}"
        meta = {**payload, "phx_ref": ref}
        if before is not None:
            meta["phx_ref_prev"] = before.ref
        # Written here, so that what cannot be is an error of the client that sent it.
        presence = _Presence(key, payload, ref, orjson.Fragment(orjson.dumps(meta)))
        if before is not None:
            self._add(self._leaves, before)
        self._present[who] = presence
        self._add(self._joins, presence)

    def untrack(self, who: Hashable) -> None:
        """Remove somebody, if they are present."""
        before = self._present.pop(who, None)
        if before is not None:
            self._add(self._leaves, before)

    def state(self) -> dict[str, Metas]:
        """Return everybody who is present."""
        state: dict[str, Metas] = {}
        for presence in self._present.values():
            state.setdefault(presence.key, {"metas": []})["metas"].append(presence.meta)
        return state

    def take_diff(self) -> dict[str, dict[str, Metas]] | None:
        """Return the joins and leaves since the last diff; None where there are none."""
        if not (self._joins or self._leaves):
            return None
        diff = {"joins": self._joins, "leaves": self._leaves}
        self._joins, self._leaves = {}, {}
        return diff

    def _add(self, diff: dict[str, Metas], presence: _Presence) -> None:
        is_first = not (self._joins or self._leaves)
        diff.setdefault(presence.key, {"metas": []})["metas"].append(presence.meta)
        if is_first:
            self._changed()
