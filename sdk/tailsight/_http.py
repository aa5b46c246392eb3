"""One HTTP POST to the collector, over a connection that is kept open. The standard library's client, nothing else.

A request has one deadline for everything, from the connect to the answer's last byte: sockets know a timeout for each
operation only, and a collector that answers a byte at a time would keep the sidecar from its work for ever. The one
thing that is not bounded is the lookup of the host's name, which the system's resolver bounds itself.
"""

# Looking up a host needs this codec, which Python imports when it is first used: a process that forks while the sender
# is in the midst of that import gets a child that can never look up a host ("unknown encoding: idna").
import encodings.idna  # noqa: F401
import gzip
import http.client
import io
import socket
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from ._answer import Answer, Unreachable
from ._resource import SDK_NAME, sdk_version
from ._signals import raise_if_host_signal

RETRYABLE_STATUS = frozenset({429, 502, 503, 504})
MAX_ANSWER_BYTES = 64 * 1024

_MAX_READ_BYTES = 4 * MAX_ANSWER_BYTES  # headers and interim answers included
_MAX_INTERIM_ANSWERS = 16

# Low: it costs processor time in the service that is being measured.
_GZIP_LEVEL = 1


class Collector:
    """The collector's traces endpoint. Used by one thread at a time."""

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        compression: str,
        timeout_s: float,
        content_type: str = "application/x-protobuf",
    ) -> None:
        parts = urlsplit(url)
        self.url = url
        self._secure = parts.scheme == "https"
        # Said in any case: http.client would read the end of an IPv6 address as its port.
        self._host, self._port = parts.hostname or "", parts.port or (443 if self._secure else 80)
        self._target = parts.path + ("?" + parts.query if parts.query else "")
        self._timeout_s = timeout_s
        self._gzip = compression == "gzip"
        self._headers = {
            **headers,
            "content-type": content_type,
            "user-agent": f"{SDK_NAME}-python/{sdk_version()}",
        }
        if self._gzip:
            self._headers["content-encoding"] = "gzip"
        self._connection: _Connection | None = None

    def post(self, body: bytes, *, timeout_s: float | None = None) -> Answer:
        """Send an encoded ExportTraceServiceRequest. Raises Unreachable where there was no answer.

        `timeout_s` shortens the wait for this request.
        """
        content = gzip.compress(body, _GZIP_LEVEL) if self._gzip else body
        timeout = self._timeout_s if timeout_s is None else max(0.001, min(timeout_s, self._timeout_s))
        until = time.monotonic() + timeout
        kept = self._connection is not None
        try:
            return self._exchange(content, until)
        except Exception as error:  # http.client raises more than it documents: ValueError for an odd chunk, say
            self.close()
            raise_if_host_signal(error)
            # A collector may close a connection that was idle. That is no failure: try once on a new one.
            idle_closed = kept and isinstance(error, ConnectionError)  # RemoteDisconnected is one
            if not idle_closed:
                raise Unreachable(str(error) or type(error).__name__) from error
        try:
            return self._exchange(content, until)
        except Exception as error:
            self.close()
            raise_if_host_signal(error)
            raise Unreachable(str(error) or type(error).__name__) from error

    def close(self) -> None:
        """Close the connection; the next post() opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _exchange(self, content: bytes, until: float) -> Answer:
        connection = self._connection
        if connection is None:
            kind = _SecureConnection if self._secure else _Connection
            connection = self._connection = kind(self._host, self._port)
            connection.response_class = _FinalResponse
        connection.begin(until)
        connection.request("POST", self._target, body=content, headers=self._headers)
        response = connection.getresponse()
        body = response.read(MAX_ANSWER_BYTES)
        answer = Answer(
            status=str(response.status),
            accepted=200 <= response.status < 300,
            retryable=response.status in RETRYABLE_STATUS,
            retry_after_s=_retry_after(response.getheader("Retry-After")),
            body=body,
        )
        if response.will_close or not response.isclosed():  # the rest of a longer answer is nobody's business
            self.close()
        return answer


class _Deadline:
    """When a request must be over. Each of its connection's operations gets what is left."""

    def __init__(self) -> None:
        self.until = 0.0
        self.may_read_bytes = 0

    def left_s(self) -> float:
        """Return the seconds that are left. Raises TimeoutError if there are none."""
        left_s = self.until - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        return left_s


class _Connection(http.client.HTTPConnection):
    """A connection that keeps a deadline."""

    sock: Any

    def begin(self, until: float) -> None:
        """Begin a request that must be over then, and connect where that has not been done."""
        if self.sock is None:
            self._deadline = _Deadline()
            self._deadline.until = until
            self.connect()
            connected: Any = self.sock
            self.sock = _Socket(connected, self._deadline)
        self._deadline.until = until
        self._deadline.may_read_bytes = _MAX_READ_BYTES

    def connect(self) -> None:
        """Connect to the first of the host's addresses that answers. Each gets its share of the time."""
        problem: OSError | None = None
        found = socket.getaddrinfo(self.host, self.port, 0, socket.SOCK_STREAM)
        for tried, (family, kind, protocol, _, address) in enumerate(found):
            left_s = self._deadline.left_s() / (len(found) - tried)
            try:
                connected = socket.socket(family, kind, protocol)
            except OSError as error:  # no IPv6 here, say
                problem = error
                continue
            try:
                connected.settimeout(left_s)
                connected.connect(address)
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connected.settimeout(self._deadline.left_s())  # for a handshake, which comes next
            except OSError as error:
                connected.close()
                problem = error
                continue
            except BaseException:
                connected.close()
                raise
            self.sock = connected
            return
        raise problem or OSError(f"no address found for {self.host}")


class _SecureConnection(http.client.HTTPSConnection, _Connection):
    """The same with TLS: http.client's connect() calls the one above, and then shakes hands."""


class _Socket:
    """A socket as http.client sees it, each of whose operations gets the time that is left of the request's."""

    def __init__(self, wrapped: socket.socket, deadline: _Deadline) -> None:
        self._wrapped = wrapped
        self._deadline = deadline
        self.close = wrapped.close

    def sendall(self, content: bytes) -> None:
        """Send everything."""
        unsent = memoryview(content)
        while unsent:
            self._wrapped.settimeout(self._deadline.left_s())
            unsent = unsent[self._wrapped.send(unsent) :]

    def makefile(self, mode: str) -> io.BufferedReader:  # noqa: ARG002  "rb" is all that http.client asks for
        """Return what an answer is read from. As with a socket, it stays open when the socket is closed."""
        return io.BufferedReader(_Incoming(self._wrapped, self._deadline))


class _Incoming(io.RawIOBase):
    """What comes in, in the time that is left, and no more of it than an answer may have."""

    def __init__(self, wrapped: socket.socket, deadline: _Deadline) -> None:
        self._wrapped = wrapped
        self._deadline = deadline
        self._file = wrapped.makefile("rb", buffering=0)

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read what there is, or wait for it."""
        deadline = self._deadline
        if deadline.may_read_bytes <= 0:
            raise http.client.HTTPException("the answer does not end")
        self._wrapped.settimeout(deadline.left_s())
        count: int | None = self._file.readinto(buffer)
        deadline.may_read_bytes -= count or 0
        return count

    def close(self) -> None:
        """Let go of the socket."""
        if not self.closed:
            self._file.close()
        super().close()


class _FinalResponse(http.client.HTTPResponse):
    """An answer without the interim ones before it: http.client passes over 100 alone, as often as it comes."""

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(_MAX_INTERIM_ANSWERS):
            found: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]  # tests would notice
            if not 100 <= found[1] < 200:
                return found
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException("one interim answer after the other")


def _retry_after(header: str | None) -> float | None:
    """Read Retry-After: seconds, or a date. None if it is missing or cannot be read."""
    if header is None:
        return None
    try:
        return max(0.0, float(int(header)))
    except (ValueError, OverflowError):
        pass
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, OverflowError, TypeError, IndexError):  # not everything that it does is documented
        return None
