"""Messages between callers: topics, who may use them, and the stream of what is published."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeAlias
from urllib.parse import quote
from uuid import UUID

from amphibase.access import CallerRule, Rule, Who, service
from amphibase.access.rules import AndRule, OrRule
from amphibase.backend.caller import Caller
from amphibase.backend.records import Model, Repository

MAX_TOPIC_BYTES = 500
_PARAMETER = re.compile(r"\{(\w+)\}")
_TEMPLATE = re.compile(r"(?:[\w.~:/-]|\{[A-Za-z_]\w*\})+", re.ASCII)


class RepositorySource(Protocol):
    """What returns the rows of a model as a caller may see them, such as a backend."""

    def repository(self, model: type[Model], caller: Caller) -> Repository[Model]: ...


@dataclass(frozen=True, slots=True)
class TopicRequest:
    """Who wants to use a topic, as its rules see it.

    Attributes:
        caller: who publishes or subscribes.
        params: the parameters of the topic by their names, as text.
        source: of rows.
    """

    caller: Caller
    params: Mapping[str, str]
    source: RepositorySource

    def repository(self, model: type[Model]) -> Repository[Model]:
        """Return the rows of a model as the caller may see them."""
        return self.source.repository(model, self.caller)


TopicRule: TypeAlias = Rule | Callable[[TopicRequest], bool | Awaitable[bool]]
"""Words of the access language that look at the caller alone, or a function."""


class Topic:
    """A kind of topics, and who may use them beside the service.

        ROOMS = Topic("rooms/{id}", read=readers_of(Room), write=readers_of(Room))
        await backend.publish(ROOMS(id=room.id), {"text": "hello"}, caller)

    Args:
        template: a name with parameters in braces.
        read: who may subscribe.
        write: who may publish.

    Raises:
        ValueError: the template is malformed.
        TypeError: a rule is neither a function nor one that looks at the caller alone.
    """

    def __init__(
        self, template: str, *, read: TopicRule = service, write: TopicRule = service
    ) -> None:
        self.names = tuple(_PARAMETER.findall(template))
        if not _TEMPLATE.fullmatch(template) or len({*self.names}) < len(self.names):
            raise ValueError(f"Topic: a name such as rooms/{{id}} was expected, not {template!r}")
        for name, rule in (("read", read), ("write", write)):
            _check_rule(template, name, rule)
        self.template = template
        self.read = read
        self.write = write

    def __call__(self, **params: object) -> "TopicAddress":
        """Return the topic that has these parameters.

        Args:
            params: each is a part of the name as text, its characters percent-encoded where need
                be, so that none is taken for another topic.

        Raises:
            TypeError: a parameter is missing, or is not in the template.
            ValueError: the name is longer than 500 bytes.
        """
        if params.keys() != {*self.names}:
            wanted = ", ".join(self.names) or "none"
            raise TypeError(f"Topic {self.template} has the parameters: {wanted}")
        texts = {name: str(params[name]) for name in self.names}
        name = _PARAMETER.sub(
            lambda match: quote(texts[match[1]], safe="", errors="replace"), self.template
        )
        if len(name) > MAX_TOPIC_BYTES:
            raise ValueError(f"Topic {self.template}: a name has at most {MAX_TOPIC_BYTES} bytes")
        return TopicAddress(self, texts, name)

    def __repr__(self) -> str:
        return f"Topic({self.template!r})"


@dataclass(frozen=True, slots=True)
class TopicAddress:
    """One topic: a `Topic` with its parameters.

    Attributes:
        name: what the parameters make of the template.
    """

    topic: Topic
    params: Mapping[str, str]
    name: str


@dataclass(frozen=True, slots=True)
class Message:
    """What was published on a topic.

    Attributes:
        topic: the name of the topic.
        payload: the JSON value. Subscribers share it, so it is not for changing.
        sender: the id of the user who published it; None for the service and anonymous callers.
    """

    topic: str
    payload: Any
    sender: UUID | None


class Messages(Protocol):
    """The messages of a topic for one caller, as `Backend.subscribe` opens them.

    Each comes at most once, in the order of the commits. The rule of the topic is applied again
    before a delivery when its last decision is more than 15 seconds old.
    """

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> Message:
        """Return the next message, however long it takes.

        Raises:
            Forbidden: the topic's rule does not admit the caller any more.
            SlowSubscriber: more messages waited than a subscription holds; some were dropped.
            Unavailable: the database could not be reached; messages may have been missed.
        """

    async def batch(self, wait: float) -> Sequence[Message]:
        """Return the next messages, those that have come.

        Args:
            wait: seconds after which it returns without any.
        """


def _check_rule(template: str, name: str, rule: object) -> None:
    if isinstance(rule, Rule):
        words = [part for part in rule.walk() if not isinstance(part, AndRule | OrRule)]
        if all(isinstance(word, CallerRule) and word.who is not Who.OWNER for word in words):
            return
    elif callable(rule):
        return
    raise TypeError(
        f"Topic {template}: {name} must be everyone, authenticated, admin, service or a function "
        f"of a TopicRequest, not {rule}"
    )
