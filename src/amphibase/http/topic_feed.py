"""What the messages and the presence of a topic have in common for one request."""

from starlette.requests import HTTPConnection

from amphibase.backend import Backend, Caller, TopicAddress
from amphibase.http.event_stream import EventFeed, Item
from amphibase.http.streams import StreamLimiter


class TopicFeed(EventFeed[Item]):
    """A topic as the sender of one request may use it.

    Attributes:
        address: the topic, with the parameters of the route's path.
    """

    def __init__(
        self,
        address: TopicAddress,
        connection: HTTPConnection,
        caller: Caller,
        backend: Backend,
        limiter: StreamLimiter,
    ) -> None:
        super().__init__(connection, caller, backend, limiter)
        self.address = address
