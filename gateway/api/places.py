"""What the acceptor, which counts connections, and their protocols know of each other."""

from datetime import datetime
from typing import Protocol

from gateway.api.limits import Ended


class Served(Protocol):
    """A connection whose handshake is done."""

    def give_way(self) -> None:
        """End at once."""


class Place(Protocol):
    """What the acceptor keeps of one connection."""

    def take(self, served: Served) -> None:
        """The handshake is done."""

    def wait(self) -> None:
        """Nothing is being answered: this connection may give way to another one."""

    def work(self) -> None:
        """A call is being answered."""

    def count(self, reason: Ended) -> None:
        """The gateway ends this connection."""

    def leave(self) -> None:
        """The connection is gone."""

    def cut_off(self) -> None:
        """The transport is about to be aborted: the peer is told even if it reads nothing."""

    def now(self) -> datetime:
        """The time by which certificates end."""

    def must_renew(self) -> bool:
        """Whether the connection should end once its present call is answered."""
