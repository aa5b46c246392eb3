"""What the beginning of a JSON document holds, though it is cut off: its keys, as paths."""

from __future__ import annotations

import json
import re
from functools import lru_cache

# A string (whole, or cut off), a sign, or anything else; nothing of it is looked at twice, however hostile.
_TOKEN = re.compile(r'("(?:[^"\\]++|\\.)*+(?:"|\Z)?)|([\[\]{},:])|([^\s\[\]{},:"]++)', re.DOTALL)
_MAX_DEPTH = 40
_MAX_TOKENS = 20_000


@lru_cache(maxsize=4)
def paths(head: bytes) -> frozenset[str]:
    """Return the paths of all keys in a beginning: "data", "data[].traceID", "[].id"; {} or [] alone give "".

    Of several documents behind each other only the first is looked at. What is no JSON gives nothing, or little.
    """
    text = head.decode("utf-8-sig", "ignore")
    if text.lstrip()[:1] not in ("{", "["):
        return frozenset()
    found = {""}
    stack: list[str] = []  # the path of each open object or list
    closers: list[str] = []
    key = ""  # of the value that comes next, in an object
    expects_key = False
    for count, token in enumerate(_TOKEN.finditer(text)):
        if count >= _MAX_TOKENS:
            break
        string, sign, _ = token.groups()
        inside_list = bool(closers) and closers[-1] == "]"
        if sign in ("{", "["):
            if len(stack) >= _MAX_DEPTH:
                break
            parent = stack[-1] if stack else ""
            path = f"{parent}[]" if inside_list else key if not parent else f"{parent}.{key}"
            stack.append(path if stack else "")
            closers.append("}" if sign == "{" else "]")
            expects_key = sign == "{"
        elif sign in ("}", "]"):
            if not closers or closers.pop() != sign:
                break
            stack.pop()
            if not stack:
                break
            expects_key = False
        elif sign == ",":
            expects_key = closers[-1] == "}" if closers else False
        elif string is not None and expects_key:
            try:
                key = str(json.loads(string))
            except ValueError:
                break
            expects_key = False
            found.add(f"{stack[-1]}.{key}" if stack[-1] else key)
    return frozenset(found)


def has(head: bytes, *wanted: str) -> bool:
    """Whether the beginning of a JSON document has all of these paths."""
    return set(wanted) <= paths(head)


def in_words(head: bytes) -> str:
    """Say what a file begins with, for whoever gave the wrong one."""
    if not head.strip():
        return "only white space" if head else "nothing"
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    found = paths(head)
    if found:
        is_list = head.decode("utf-8-sig", "ignore").lstrip()[:1] == "["
        keys = sorted(path.removeprefix("[].") for path in found if re.fullmatch(r"(\[\]\.)?[^.\[\]]+", path))
        shown = ", ".join(keys[:6]) + (", …" if len(keys) > 6 else "")
        kind = "a JSON list" if is_list else "a JSON object"
        return f"{kind} with the keys {shown}" if keys else f"{kind} without keys"
    text = head[:60].split(b"\n")[0]
    try:
        shown = text.decode("utf-8-sig")
    except UnicodeDecodeError:
        shown = ""
    if shown and shown.isprintable():
        return f"the text {shown[:40]!r}"
    return f"the bytes {head[:12].hex(' ')}"


_MAGIC = (
    (b"\x1f\x8b", "a gzip file inside the packed one (unpack it once)"),
    (b"\x28\xb5\x2f\xfd", "a zstd file inside the packed one (unpack it once)"),
    (b"PK\x03\x04", "a zip archive"),
    (b"PAR1", "a Parquet file"),
    (b"\x7fELF", "an ELF program"),
    (b"%PDF", "a PDF"),
    (b"\x89PNG", "a PNG picture"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"SQLite format 3", "an SQLite database"),
    (b"\xff\xfe", "UTF-16 text"),
    (b"\xfe\xff", "UTF-16 text"),
)
