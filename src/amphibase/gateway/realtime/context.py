"""What every socket and every request of Realtime works with."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.gateway.realtime.errors import TooManyMessages
from amphibase.gateway.realtime.frames import Push
from amphibase.gateway.realtime.rates import AverageRate
from amphibase.gateway.realtime.settings import RealtimeSettings
from amphibase.gateway.realtime.topics import Subscriber, Topics

if TYPE_CHECKING:
    from amphibase.gateway.realtime.client_socket import ClientSocket


class RealtimeContext:
    """The sockets and topics of one project, and what limits them."""

    def __init__(self, settings: RealtimeSettings, tokens: KeyRing) -> None:
        self.settings = settings
        self.tokens = tokens
        self.topics = Topics()
        self.sockets: set[ClientSocket] = set()
        self.joins = AverageRate(settings.max_joins)
        self.presence_messages = AverageRate(settings.max_presence_messages)
        self._messages = AverageRate(settings.max_messages)

    def broadcast(self, push: Push, receivers: Iterable[Subscriber]) -> None:
        """Send a message to its receivers. Raises TooManyMessages, and sends it to none."""
        receivers = list(receivers)
        if not self._messages.admits(1 + len(receivers)):
            raise TooManyMessages
        for receiver in receivers:
            receiver.push(push)

    def is_too_large(self, size: int) -> bool:
        """Return whether a payload of so many bytes may not be sent."""
        limit = self.settings.max_payload_kilobytes
        return bool(limit) and size > limit * 1000 + 500
