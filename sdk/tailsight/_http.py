"""One HTTP POST to the collector, over a connection that is kept open. The standard library's client, nothing else."""

# Looking up a host needs this codec, which Python imports when it is first used: a process that forks while the sender
# is in the midst of that import gets a child that can never look up a host ("unknown encoding: idna").
import encodings.idna  # noqa: F401
import gzip
import http.client
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from ._resource import SDK_NAME, sdk_version

RETRYABLE_STATUS = frozenset({429, 502, 503, 504})
MAX_ANSWER_BYTES = 64 * 1024

# Low: it costs processor time in the service that is being measured.
_GZIP_LEVEL = 1


class Unreachable(Exception):  # noqa: N818  it says what is the case
    """The collector did not answer. The cause is the exception behind it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the collector said."""

    status: int
    retry_after_s: float | None
    body: bytes

    @property
    def accepted(self) -> bool:
        """Whether the collector took the batch, or most of it."""
        return 200 <= self.status < 300

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later: the only statuses for which OTLP allows another attempt."""
        return self.status in RETRYABLE_STATUS


class Collector:
    """The collector's traces endpoint. Used by one thread at a time."""

    def __init__(self, url: str, *, headers: Mapping[str, str], compression: str, timeout_s: float) -> None:
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
            "content-type": "application/x-protobuf",
            "user-agent": f"{SDK_NAME}-python/{sdk_version()}",
        }
        if self._gzip:
            self._headers["content-encoding"] = "gzip"
        self._connection: http.client.HTTPConnection | None = None

    def post(self, body: bytes, *, timeout_s: float | None = None) -> Answer:
        """Send an encoded ExportTraceServiceRequest. Raises Unreachable where there was no answer.

        `timeout_s` shortens the wait for this request.
        """
        content = gzip.compress(body, _GZIP_LEVEL) if self._gzip else body
        timeout = self._timeout_s if timeout_s is None else max(0.001, min(timeout_s, self._timeout_s))
        kept = self._connection is not None
        try:
            return self._exchange(content, timeout)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            # A collector may close a connection that was idle. That is no failure: try once on a new one.
            idle_closed = kept and isinstance(error, ConnectionError)  # RemoteDisconnected is one
            if not idle_closed:
                raise Unreachable(str(error) or type(error).__name__) from error
        try:
            return self._exchange(content, timeout)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unreachable(str(error) or type(error).__name__) from error

    def close(self) -> None:
        """Close the connection; the next post() opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _exchange(self, content: bytes, timeout: float) -> Answer:
        connection = self._connection
        if connection is None:
            kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
            connection = self._connection = kind(self._host, self._port, timeout=timeout)
        connection.timeout = timeout
        if connection.sock is not None:
            connection.sock.settimeout(timeout)
        connection.request("POST", self._target, body=content, headers=self._headers)
        response = connection.getresponse()
        body = response.read(MAX_ANSWER_BYTES)
        answer = Answer(response.status, _retry_after(response.getheader("Retry-After")), body)
        if response.will_close or not response.isclosed():  # the rest of a longer answer is nobody's business
            self.close()
        return answer


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
