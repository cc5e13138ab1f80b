"""Frames over a socket: a JSON header and raw buffers, with limits and deadlines. Drivers need no more than this.

A frame is the magic ``EBM1``, the header's length (32 bits) and the buffers' total length (64 bits), both little
endian, then the header, a JSON object in UTF-8, then the raw buffers one after the other.
"""

import json
import math
import select
import socket
import struct
import time
from collections.abc import Sequence

from .plain import LIMITS, EncodeError, Limits, ProtocolError

MAGIC = b"EBM1"
_PREFIX = struct.Struct("<4sIQ")
_PIECE = 1 << 20  # bytes to make room for at first; a peer that announces much and sends nothing gets no more
_VECTOR = 512  # buffers in one system call; Linux allows 1024


class Closed(Exception):
    """The other side has closed the channel, or this side had to give it up."""


class Late(Exception):
    """The deadline passed."""


class Channel:
    """Frames over a connected Unix stream socket. One thread at a time may use it.

    Args:
        sock: the socket; the channel owns it.
        limits: how much may be sent and received.
    """

    def __init__(self, sock: socket.socket, limits: Limits = LIMITS) -> None:
        sock.settimeout(None)
        self.sock = sock
        self.limits = limits
        self.received = 0  # bytes since the channel was made
        self._out = ""  # why no frame can be sent any more
        self._reset()

    def _reset(self) -> None:
        """Wait for a new frame. What has arrived of one stays here, so that a late receive can be taken up again."""
        self._prefix, self._header, self._body = bytearray(), bytearray(), bytearray()

    def fileno(self) -> int:
        """The socket's file descriptor, for ``select`` and its like.

        Returns:
            The descriptor.
        """
        return self.sock.fileno()

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()

    def send(self, header: dict, buffers: Sequence[bytes | memoryview] = (), deadline: float | None = None) -> None:
        """Send a frame.

        Args:
            header: plain data, without the key ``buffers``.
            buffers: raw buffers of bytes.
            deadline: when to give up, by ``time.monotonic``; None to wait for ever.

        Raises:
            EncodeError: the frame is larger than the limits; nothing was sent, and the channel is as before.
            ValueError: the header is no plain data.
            Late: the other side did not read in time. A frame that was cut off ends the channel.
            Closed: the other side has closed the channel, or an earlier frame was cut off.
        """
        if self._out:
            raise Closed(self._out)
        if "buffers" in header:
            raise ValueError("a header has no key 'buffers' of its own")
        lengths = {"buffers": [memoryview(b).nbytes for b in buffers]}
        raw = json.dumps(header | lengths, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        size = sum(lengths["buffers"])
        if len(raw) > self.limits.header:
            raise EncodeError(f"The value takes {len(raw)} bytes of text; at most {self.limits.header} can be sent.")
        if size > self.limits.frame or len(buffers) > self.limits.buffers:
            raise EncodeError(
                f"The value takes {size} bytes in {len(buffers)} buffers; at most {self.limits.frame} bytes in "
                f"{self.limits.buffers} buffers can be sent."
            )
        left = len(raw) + size + _PREFIX.size
        parts = [memoryview(_PREFIX.pack(MAGIC, len(raw), size) + raw)]
        parts += [memoryview(b).cast("B") for b, n in zip(buffers, lengths["buffers"], strict=True) if n]
        # Whatever cuts the frame off, an interrupt too, leaves the other side waiting for the rest of it.
        self._out = "a frame was cut off"
        whole, first = left, 0
        try:
            while left:
                sent = self._write(parts[first : first + _VECTOR], deadline, left == whole)
                left -= sent
                while sent:
                    done = min(sent, len(parts[first]))
                    sent -= done
                    parts[first] = parts[first][done:]
                    first += not parts[first]
        except Late:
            if left == whole:
                self._out = ""
            raise
        self._out = ""

    def _write(self, parts: list[memoryview], deadline: float | None, first: bool) -> int:
        while True:
            if not first and deadline is not None and time.monotonic() > deadline:
                raise Late("the other side took a frame too slowly")
            try:
                return self.sock.sendmsg(parts, [], socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except BlockingIOError:
                self._wait(select.POLLOUT, deadline, "the other side does not read")
            except OSError as error:
                raise Closed(f"the other side is gone: {error.strerror}") from error

    def receive(self, deadline: float | None = None) -> tuple[dict, list[memoryview]]:
        """Receive a frame. After ``Late`` the call can be repeated: what has arrived of the frame is kept.

        Args:
            deadline: when to give up, by ``time.monotonic``; None to wait for ever.

        Returns:
            The header, without its key ``buffers``, and the buffers.

        Raises:
            ProtocolError: what arrived is no frame, or larger than the limits; the channel cannot be used further.
            Late: the frame was not complete in time, however fast its pieces came.
            Closed: the other side has closed the channel.
        """
        # Each part is read once and checked again: what was wrong stays so, and nothing after it is ever looked at.
        self._fill(self._prefix, _PREFIX.size, deadline)
        magic, head, size = _PREFIX.unpack(self._prefix)
        if magic != MAGIC:
            raise ProtocolError(f"a frame starts with {bytes(magic)!r}, expected {MAGIC!r}")
        if head > self.limits.header or size > self.limits.frame:
            raise ProtocolError(
                f"a frame announces {head} and {size} bytes, at most {self.limits.header} and {self.limits.frame} "
                "may be sent"
            )
        self._fill(self._header, head, deadline)
        header = _parse(self._header)
        lengths = header.pop("buffers", None)
        if type(lengths) is not list or not all(type(n) is int and n >= 0 for n in lengths):
            raise ProtocolError("a header has no list of its buffers' lengths")
        if len(lengths) > self.limits.buffers or sum(lengths) != size:
            raise ProtocolError(f"a header lists {len(lengths)} buffers of {sum(lengths)} bytes in a frame of {size}")
        self._fill(self._body, size, deadline)
        body, buffers, start = memoryview(self._body), [], 0
        for n in lengths:
            buffers.append(body[start : start + n])
            start += n
        self._reset()
        return header, buffers

    def _fill(self, into: bytearray, size: int, deadline: float | None) -> None:
        """Read until a part of the frame is complete; its memory grows with what has arrived."""
        have = len(into)
        while have < size:
            room = min(size - have, max(_PIECE, have), self.limits.total - self.received)
            if room <= 0:
                raise ProtocolError(f"the other side has sent more than {self.limits.total} bytes")
            into.extend(bytes(room))
            try:
                while have < len(into):
                    with memoryview(into) as view, view[have:] as rest:
                        n = self._read(rest, deadline)
                    have += n
                    self.received += n
                    if have < size and deadline is not None and time.monotonic() > deadline:
                        raise Late("the other side sends too slowly")
            finally:
                del into[have:]

    def _read(self, view: memoryview, deadline: float | None) -> int:
        while True:
            try:
                n = self.sock.recv_into(view, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                self._wait(select.POLLIN, deadline, "the other side sends nothing")
                continue
            except OSError as error:
                raise Closed(f"the other side is gone: {error.strerror}") from error
            if not n:
                raise Closed("the other side has closed the channel")
            return n

    def _wait(self, event: int, deadline: float | None, what: str) -> None:
        poll = select.poll()
        poll.register(self.sock, event)
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise Late(what)
        if not poll.poll(left if left is None else math.ceil(1000 * left)):
            raise Late(what)


def _parse(raw: bytearray) -> dict:
    """A frame's header."""
    try:
        header = json.loads(
            raw.decode(),
            object_pairs_hook=_object,
            parse_int=_int,
            parse_float=_float,
            parse_constant=_float,
        )
        if b"\\" in raw:  # only an escape can make half of a surrogate pair
            json.dumps(header, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ProtocolError("a header is nested too deep") from error
    except UnicodeError as error:
        raise ProtocolError("a header is not UTF-8, or holds half of a surrogate pair") from error
    except ValueError as error:
        raise ProtocolError(f"a header is not JSON: {error}") from error
    if type(header) is not dict:
        raise ProtocolError(f"a header is a {type(header).__name__}, expected an object")
    return header


def _object(pairs: list[tuple[str, object]]) -> dict:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ProtocolError("a header has a key twice")
    return result


def _int(text: str) -> int:
    if len(text) > 20:
        raise ProtocolError(f"a header holds an integer of {len(text)} digits")
    return int(text)


def _float(text: str) -> float:
    if len(text) > 40 or not math.isfinite(number := float(text)):
        raise ProtocolError(f"a header holds the number {text[:40]}")
    return number
