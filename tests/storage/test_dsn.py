from pathlib import Path

import pytest

from tailsight_storage import ChdbDsn, InvalidDsnError, ServerDsn, StoreUnavailableError, open_store, parse_dsn


def test_chdb_names_a_folder():
    dsn = parse_dsn("chdb:///var/lib/tailsight")
    assert dsn == ChdbDsn(Path("/var/lib/tailsight"))
    assert str(dsn) == "chdb:///var/lib/tailsight"


def test_server_has_defaults():
    assert parse_dsn("clickhouse://db") == ServerDsn("db", 8123, "tailsight")
    assert parse_dsn("clickhouses://db") == ServerDsn("db", 8443, "tailsight", secure=True)


def test_server_reads_user_password_port_and_database():
    dsn = parse_dsn("clickhouse://me:p%40ss@db.example:9000/traces?secure=1")
    assert dsn == ServerDsn("db.example", 9000, "traces", "me", "p@ss", secure=True)


def test_password_is_never_shown():
    dsn = parse_dsn("clickhouse://me:secret@db/traces")
    assert "secret" not in str(dsn)
    assert "secret" not in repr(dsn)
    with pytest.raises(InvalidDsnError) as caught:
        parse_dsn("mysql://me:secret@db/traces")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "chdb://", "clickhouse:///db", "file:///x", "clickhouse://h:notaport/x"])
def test_wrong_names_say_which_ways_exist(text):
    with pytest.raises(InvalidDsnError, match="chdb:///folder"):
        parse_dsn(text)


def test_a_server_that_is_away_is_said_in_a_few_words():
    with pytest.raises(StoreUnavailableError) as caught:
        open_store("clickhouse://me:secret@127.0.0.1:1/tailsight")
    assert str(caught.value).startswith(
        "store clickhouse://me@127.0.0.1:1/tailsight does not answer: Connection refused;"
    )


def test_a_ca_and_a_certificate_are_named_in_the_address(tmp_path):
    files = {name: tmp_path / f"{name}.pem" for name in ("ca", "cert", "key")}
    for file in files.values():
        file.touch()
    query = "&".join(f"{name}={file}" for name, file in files.items())
    dsn = parse_dsn(f"clickhouses://me:secret@db/traces?{query}")
    assert (dsn.ca, dsn.cert, dsn.key) == tuple(str(file) for file in files.values())
    assert str(dsn) == "clickhouses://me@db:8443/traces"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("clickhouse://me:secret@db?ca={there}", "ca are for TLS; write clickhouses://"),
        ("clickhouses://me:secret@db?ca=/not/there.pem", "ca /not/there.pem is no file"),
        ("clickhouses://me:secret@db?key={there}", "key is of no use without cert"),
    ],
)
def test_files_of_tls_that_cannot_be_used_are_named(text, says, tmp_path):
    there = tmp_path / "there.pem"
    there.touch()
    with pytest.raises(InvalidDsnError, match=says) as caught:
        parse_dsn(text.format(there=there))
    assert "secret" not in str(caught.value)
