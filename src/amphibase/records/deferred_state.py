"""What SQLAlchemy keeps beside an object (`InstanceState`), made when it is first needed.

It takes more time and memory than the object itself, and most objects of a list are read and
dropped. So the object of a row holds what makes its state instead, which the first access to the
state does: by a session, or by setting an attribute.
"""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.orm import InstanceState, Mapper

from amphibase.private_names.sqlalchemy import state_attribute

STATE_ATTRIBUTE = state_attribute()
DEFERRED = "_sa_deferred_state"
"""The key of an object's dictionary; FastAPI shows none that begin with `_sa`."""

Unloaded = Mapping[str, Callable[[Any, Any], Any]]


class StateMaker:
    """Makes the states of one model's objects, as a session leaves those that it has let go of.

    Args:
        unloaded: what is called for attributes that were not loaded, by their names.
    """

    def __init__(self, model: type[Any], unloaded: Unloaded | None = None) -> None:
        self._mapper: Mapper[Any] = inspect(model)
        self._unloaded = {} if unloaded is None else unloaded
        self._keys = [
            self._mapper.get_property_by_column(key).key for key in self._mapper.primary_key
        ]
        # What the keys of sessions have before and after a row's own.
        self._identity, _, self._token = self._mapper.identity_key_from_primary_key(())

    def __call__(self, instance: Any) -> InstanceState[Any]:
        """Make the state of an object whose dictionary holds a row."""
        state = InstanceState(instance, self._mapper.class_manager)
        self.identify(state, tuple([vars(instance)[name] for name in self._keys]))
        return state

    def identify(self, state: InstanceState[Any], key: tuple[Any, ...]) -> None:
        """Let a state be that of a row that is stored."""
        state.key = (self._identity, key, self._token)
        if self._unloaded:
            state.callables = dict(self._unloaded)

    def __reduce__(self) -> Any:
        return StateMaker, (self._mapper.class_,)

    def __deepcopy__(self, memo: Any) -> "StateMaker":
        return self


class DeferredState:
    """Lets the state of an object be made; where it has one, or is new, it is as if it were not
    there."""

    def __get__(self, instance: Any, owner: type[Any]) -> InstanceState[Any]:
        make: StateMaker | None = None
        if instance is not None:
            make = vars(instance).pop(DEFERRED, None)
        if make is None:
            raise AttributeError(STATE_ATTRIBUTE)
        state = vars(instance)[STATE_ATTRIBUTE] = make(instance)
        return state


def defer_states(model: type[Any]) -> None:
    """Let objects of a mapped class be without a state."""
    if not isinstance(vars(model).get(STATE_ATTRIBUTE), DeferredState):
        type.__setattr__(model, STATE_ATTRIBUTE, DeferredState())
