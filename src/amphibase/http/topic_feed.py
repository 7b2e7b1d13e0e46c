"""What the messages and the presence of a topic have in common for one request."""

from contextlib import AbstractContextManager

from starlette.requests import HTTPConnection

from amphibase.backend import Backend, Caller, TopicAddress
from amphibase.http.streams import StreamLimiter


class TopicFeed:
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
        self.address = address
        self.caller = caller
        self.backend = backend
        self._connection = connection
        self._limiter = limiter

    def slot(self) -> AbstractContextManager[None]:
        """Take one of the places that the caller has for streams.

        Raises:
            TooManyRequests: they have too many open.
        """
        return self._limiter.slot_of(self._connection, self.caller)
