"""Reading option values. Each function takes text from the environment, or a value from configure().

Each returns the value or raises ValueError with what it expected.
"""

import math
import os
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from ._values import Value, clean
from ._values import text as to_text

EMPTY: Mapping[str, str] = MappingProxyType({})

_TRUE, _FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_MAX_RESOURCE_VALUE_LENGTH = 16_384

MAX_SECONDS = 1_000_000
"""Eleven days. Windows waits for 49 at most, and the sender thread must not die of a wait."""


def shown(value: object) -> str:
    """Show a value in a message, in one short line."""
    return to_text(repr(value), 200)


def text(value: object) -> str:
    """Read a non-empty text. Numbers are welcome: version=3 is clear enough."""
    if isinstance(value, str | int | float) and (result := str(value).strip()):
        return result
    raise ValueError("expected a non-empty text")


def path(value: object) -> str:
    """Read a path, and make it absolute: the sidecar works in another folder than the service."""
    return os.path.abspath(value if isinstance(value, os.PathLike) else text(value))  # noqa: PTH100  it keeps {pid}


def boolean(value: object) -> bool:
    """Read yes or no."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError("expected true or false")


def positive(value: object) -> float:
    """Read a number greater than 0."""
    result = not_negative(value)
    if result == 0:
        raise ValueError("expected a number greater than 0")
    return result


def not_negative(value: object) -> float:
    """Read a number of at least 0."""
    try:
        result = float(value)  # type: ignore[arg-type]  # what it cannot read is told below
    except (TypeError, ValueError):
        result = math.nan
    if not 0 <= result < math.inf or isinstance(value, bool):
        raise ValueError("expected a number of at least 0")
    return result


def seconds(value: object) -> float:
    """Read seconds to wait, more than 0. Platforms refuse to wait for very long."""
    result = seconds_or_none_at_all(value)
    if result == 0:
        raise ValueError("expected a number greater than 0")
    return result


def seconds_or_none_at_all(value: object) -> float:
    """Read seconds to wait, 0 for not at all."""
    result = not_negative(value)
    if result > MAX_SECONDS:
        raise ValueError(f"expected at most {MAX_SECONDS} seconds")
    return result


def positive_int(value: object) -> int:
    """Read a whole number greater than 0."""
    result = positive(value)
    if result != int(result):
        raise ValueError("expected a whole number")
    return int(result)


def waitable(seconds: float) -> float:
    """Return `seconds` within what platforms can wait for."""
    return max(0.0, min(seconds, MAX_SECONDS))


def not_negative_int(value: object) -> int:
    """Read a whole number of at least 0."""
    result = not_negative(value)
    if result != int(result):
        raise ValueError("expected a whole number")
    return int(result)


def fraction(value: object) -> float:
    """Read a number between 0 and 1."""
    result = not_negative(value)
    if result > 1:
        raise ValueError("expected a number between 0 and 1")
    return result


def one_of(*choices: str) -> Callable[[object], str]:
    """Make a reader for one of a few words."""

    def read(value: object) -> str:
        word = str(value).strip().lower()
        if word not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}")
        return word

    return read


def endpoint(value: object, path: str) -> str:
    """Read an http(s) address and append `path`, unless the address already ends with it."""
    parts = _address(value, "http://127.0.0.1:4318")
    base = parts.path.rstrip("/")
    # Without a path to append, the address is meant as it is.
    full = (base if base.endswith(path) else base + path) if path else parts.path
    return urlunsplit((parts.scheme, parts.netloc, full or "/", parts.query, ""))


def grpc_endpoint(value: object) -> str:
    """Read an address for gRPC: http(s), or host and port alone, which is http. A path means nothing there."""
    address = value.strip() if isinstance(value, str) else value
    bare = isinstance(address, str) and "/" not in address
    parts = _address(f"http://{address}" if bare else address, "http://127.0.0.1:4317")
    port = ":4317" if bare and parts.port is None else ""
    return f"{parts.scheme}://{parts.netloc}{port}"


def _address(value: object, example: str) -> SplitResult:
    """Read an http(s) address."""
    if not isinstance(value, str):
        raise ValueError(f"expected an address such as {example}")
    address = value.strip()
    parts = urlsplit(address)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"expected an address such as {example}")
    if not address.isascii() or any(character <= " " for character in address):
        raise ValueError("expected an address of printable ASCII characters")
    try:
        parts.hostname.encode("idna")
    except UnicodeError:
        raise ValueError("expected a host name whose parts have 1 to 63 characters") from None
    _ = parts.port  # raises ValueError itself: "Port out of range 0-65535"
    if parts.username is not None:
        raise ValueError("an address with user and password is not supported, use headers for credentials")
    return parts


def headers(value: object) -> Mapping[str, str]:
    """Read HTTP headers; names become lower case."""
    result = {name.strip().lower(): to_text(content, 8192).strip() for name, content in _pairs(value).items()}
    for name, content in result.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"header name {shown(name)} has characters that HTTP does not allow")
        if any(character in content for character in "\r\n\0") or not content.isascii():
            # Never show the content: it may be a password.
            raise ValueError(f"the value of header {shown(name)} has characters that HTTP does not allow")
    return MappingProxyType(result)


def resource_attributes(value: object) -> Mapping[str, Value]:
    """Read attributes of the resource."""
    return MappingProxyType({key: clean(item, _MAX_RESOURCE_VALUE_LENGTH) for key, item in _pairs(value).items()})


def _pairs(value: object) -> Mapping[str, object]:
    """Read a mapping, or `key=value,key=value` with percent-encoding, as the W3C baggage format has it."""
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    if not isinstance(value, str):
        raise ValueError("expected a mapping or key=value,key=value")
    pairs: dict[str, object] = {}
    for member in value.split(","):
        if not member.strip():
            continue
        key, equals, item = member.partition("=")
        if not equals or not key.strip():
            raise ValueError("expected key=value,key=value")
        pairs[unquote(key.strip())] = unquote(item.strip())
    return pairs
