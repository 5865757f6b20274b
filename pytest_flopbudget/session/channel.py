"""A line of JSON at a time between the process that conducts a pair and one of its workers."""

from __future__ import annotations

import json
import math
import os
import select
import time
from collections.abc import Mapping
from typing import Any, Final

from pytest_flopbudget.core.errors import FlopBudgetError

_AT_ONCE: Final = 1 << 16


class ChannelClosedError(FlopBudgetError):
    """The other end has ended."""


class ChannelSilentError(FlopBudgetError):
    """Nothing came in the time given."""


class Channel:
    """Two pipes, one for each direction."""

    def __init__(self, reader: int, writer: int) -> None:
        self._reader = reader
        self._writer = writer
        self._unread = b""

    def send(self, message: Mapping[str, Any]) -> None:
        """Hand over one message. Raises ChannelClosedError."""
        data = json.dumps(message).encode() + b"\n"
        try:
            while data:
                data = data[os.write(self._writer, data) :]
        except OSError as error:
            raise ChannelClosedError("the other process has ended") from error

    def receive(self, timeout_s: float = math.inf) -> dict[str, Any]:
        """The next message, waited for at most so long.

        Raises ChannelClosedError and ChannelSilentError.
        """
        deadline_s = time.monotonic() + timeout_s
        while b"\n" not in self._unread:
            left_s = max(0.0, deadline_s - time.monotonic())
            waiting_s = left_s if math.isfinite(left_s) else None
            if not select.select([self._reader], [], [], waiting_s)[0]:
                raise ChannelSilentError("the other process said nothing in the time given")
            data = os.read(self._reader, _AT_ONCE)
            if not data:
                raise ChannelClosedError("the other process has ended")
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def close(self) -> None:
        """Give both descriptors back."""
        os.close(self._reader)
        os.close(self._writer)
