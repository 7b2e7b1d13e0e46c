"""Decides who may use a topic."""

import inspect
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import inspect as inspect_model

from amphibase.access import CallerRule, Rule, Who
from amphibase.access.rules import AndRule, OrRule
from amphibase.backend import Caller, RepositorySource, TopicAddress, TopicRequest, TopicRule
from amphibase.errors import ConfigurationError, Forbidden


def readers_of(model: type[Any], parameter: str = "id") -> TopicRule:
    """Return a rule that admits whoever may read a row, by the access of its model.

    A key has one name: `7` is the row's, and `07` nobody's, so that all who follow a row are on the
    same topic.

    Args:
        model: has a key of one column.
        parameter: of the topic, the key of the row.

    Raises:
        TypeError: the key has several columns.
    """
    mapper = inspect_model(model)
    if len(mapper.primary_key) != 1:
        raise TypeError(f"readers_of: the key of {model.__name__} has several columns")

    async def may_read(request: TopicRequest) -> bool:
        if parameter not in request.params:
            raise ConfigurationError(
                f"readers_of({model.__name__}): the topic has no parameter {parameter}: name the "
                "one that is the row's key"
            )
        (column,) = mapper.primary_key
        text = request.params[parameter]
        try:
            key = TypeAdapter(column.type.python_type).validate_python(text)
        except ValidationError:
            return False
        attribute = mapper.get_property_by_column(column).class_attribute
        return str(key) == text and await request.repository(model).exists(attribute == key)

    return may_read


async def require_reader(address: TopicAddress, caller: Caller, source: RepositorySource) -> None:
    """Raise Forbidden unless the caller may subscribe to a topic."""
    await _require(address.topic.read, address, caller, source, "subscribe to")


async def require_writer(address: TopicAddress, caller: Caller, source: RepositorySource) -> None:
    """Raise Forbidden unless the caller may publish on a topic."""
    await _require(address.topic.write, address, caller, source, "publish on")


async def _require(
    rule: TopicRule, address: TopicAddress, caller: Caller, source: RepositorySource, action: str
) -> None:
    if caller.role == "service_role":
        return
    if isinstance(rule, Rule):
        admitted: object = _admits(rule, caller)
    else:
        admitted = rule(TopicRequest(caller, address.params, source))
        if inspect.isawaitable(admitted):
            admitted = await admitted
    if admitted is not True:
        raise Forbidden(f"You may not {action} {address.name}")


def _admits(rule: Rule, caller: Caller) -> bool:
    match rule:
        case CallerRule(Who.EVERYONE):
            return True
        case CallerRule(Who.AUTHENTICATED):
            return caller.user_id is not None
        case CallerRule(Who.ADMIN):
            return caller.is_admin
        case OrRule(parts):
            return any(_admits(part, caller) for part in parts)
        case AndRule(parts):
            return all(_admits(part, caller) for part in parts)
        case _:
            return False
