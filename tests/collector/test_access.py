"""Who may send and who may read: the file of tokens, their limits, and the doors of all ports of a real collector."""

import base64
import json
import logging
import os
import re
import socket
import subprocess
import sys
import uuid
from datetime import UTC, datetime, timedelta

import clickhouse_connect
import grpc
import httpx
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from testkit.otlp import request, span
from testkit.processes import PROTOBUF, CollectorProcess, eventually

from tailsight_collector import SettingsError
from tailsight_collector.errors import ForbiddenError, RateLimitError, UnauthenticatedError
from tailsight_collector.guard import exposure
from tailsight_collector.guard.access import ANYBODY, LOOK_AGAIN_S, Access, Bucket
from tailsight_collector.guard.tokens import (
    Token,
    add_token,
    digest_of,
    new_secret,
    parse_tokens,
    read_tokens,
    revoke_token,
)
from tailsight_storage import QueryFailedError, open_store

TRACES_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
JSON = {"Content-Type": "application/json"}


class Clock:
    now_s = 1000.0

    def __call__(self):
        return self.now_s


def bearer(secret):
    return {"authorization": f"Bearer {secret}"}


def made(path, name, *scopes, **limits):
    secret = new_secret()
    add_token(path, Token(name, frozenset(scopes), digest_of(secret), **limits))
    return secret


# As a real one, and the same in every run: it stands in the names of tests.
SECRET = "ts_" + "aB3-_" * 8 + "xyz"


@pytest.fixture
def file(tmp_path):
    return tmp_path / "tokens.txt"


# --- the file -----------------------------------------------------------------------------------------------------


def test_a_token_is_long_and_random_and_only_its_hash_is_written(file):
    secret = made(file, "edge-7", "ingest")
    assert re.fullmatch(r"ts_[\w-]{43}", secret)
    assert secret != new_secret()
    assert secret not in file.read_text()
    assert digest_of(secret).hex() in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


def test_what_is_written_is_read_again(file):
    until = datetime(2031, 1, 31, 8, tzinfo=UTC)
    made(file, "ci", "ingest", "read", requests_per_s=0.5, bytes_per_s=2e7, expires=until)
    made(file, "grafana", "read")
    [ci, grafana] = read_tokens(file)
    assert (ci.scopes, ci.requests_per_s, ci.bytes_per_s, ci.expires) == ({"ingest", "read"}, 0.5, 2e7, until)
    assert (grafana.scopes, grafana.requests_per_s, grafana.expires) == ({"read"}, None, None)


def test_revoking_keeps_every_other_line_as_it_was(file):
    made(file, "first", "ingest")
    made(file, "second", "read")
    file.write_text(file.read_text().replace("second", "# by hand\n  second") + "# the end\n")
    file.chmod(0o640)
    before = file.read_text().splitlines()
    revoke_token(file, "first")
    assert file.read_text().splitlines() == [line for line in before if not line.startswith("first")]
    assert file.stat().st_mode & 0o777 == 0o640, "whoever could read it still can"
    assert [token.name for token in read_tokens(file)] == ["second"]
    assert [path.name for path in file.parent.iterdir()] == [file.name], "nothing is left beside it"


def test_a_link_to_the_file_stays_a_link(file, tmp_path):
    made(file, "first", "read")
    link = tmp_path / "link"
    link.symlink_to(file)
    made(link, "second", "read")
    assert link.is_symlink()
    assert len(read_tokens(file)) == 2


HASH = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (f"name ingest {SECRET}", "no hash"), (f"{SECRET} ingest {HASH}", "cannot be used"), (f"name {SECRET} {HASH}", "unknown"),
        (f"name read {HASH} {SECRET}", "unknown"), (f"name read {HASH} expires={SECRET}", "no time"),
        (f"name read {HASH} bytes_per_s={SECRET}", "above 0"), (SECRET, "a line is"), (f"name ingest,{SECRET} {HASH}", "unknown"),
        (f"n write {HASH}", "scope 'write' of n is unknown; use ingest, read"), (f"n read {HASH} requests_per_s=0", "above 0"),
        (f"n read {HASH} requests_per_s=nan", "above 0"), (f"n read {HASH} requests_per_s=1 requests_per_s=2", "twice"),
        (f"n read {HASH} expires=soon", "no time"), (f"n read {HASH} expires=9999-12-31T23:00:00-14:00", "out of range"), (f"n read {HASH[:-1]}", "no hash"), ("n read", "a line is"),
        (f"n read {HASH}\nm read {HASH}", "line 2: the same hash"), (f"n read {HASH}\nn read sha256:{'cd' * 32}", "line 2: the name n"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_named_and_never_shows_a_token(line, says):
    with pytest.raises(SettingsError, match=says) as caught:
        parse_tokens(line, "tokens file x")
    assert str(caught.value).startswith("tokens file x line ")
    assert SECRET not in str(caught.value)
    assert SECRET[3:20] not in str(caught.value)


def test_names_are_unique_and_known(file):
    made(file, "edge", "read")
    before = file.read_text()
    with pytest.raises(SettingsError, match="has a token edge already"):
        made(file, "edge", "ingest")
    with pytest.raises(SettingsError, match="no token 'egde'; it has: edge"):
        revoke_token(file, "egde")
    assert file.read_text() == before


def test_a_file_that_is_missing_says_how_it_is_made(file):
    with pytest.raises(SettingsError, match=f"is not there; make it with `tailsight token create .*--file {file}`"):
        Access(file)


# --- who it is ----------------------------------------------------------------------------------------------------


def basic(user, password):
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def test_a_token_comes_as_bearer_as_basic_or_in_clickhouses_own_header(file):
    secret = made(file, "grafana", "read")
    access = Access(file)
    ways = [
        bearer(secret), {"authorization": f"bEaReR   {secret} "}, basic("", secret), basic("default", secret),
        basic("a", secret), {"x-clickhouse-key": secret}, {"x-clickhouse-user": "me", "x-clickhouse-key": secret},
    ]  # fmt: skip
    assert {access.caller(headers).name for headers in ways} == {"grafana"}


@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": ""}, {"authorization": "Bearer"}, {"authorization": "Digest x"}, {"authorization": "Basic !"},
     {"authorization": "Basic ä"}, basic("user", ""), {"x-clickhouse-key": ""}, bearer(SECRET), bearer("\udcff\x00"),
     basic("user", "\udcff".encode("utf-8", "surrogateescape").hex()), {"authorization": "Basic /////w=="}, {"x-clickhouse-user": "me"}],
)  # fmt: skip
def test_no_token_or_an_unknown_one_is_nobody_and_is_not_repeated(file, headers):
    made(file, "grafana", "read")
    with pytest.raises(UnauthenticatedError, match="token create") as caught:
        Access(file).caller(headers)
    assert "ts_" not in str(caught.value)


def test_without_a_file_everybody_may_do_everything():
    caller = Access().caller({})
    assert caller is ANYBODY
    caller.require("ingest")
    caller.require("read")
    caller.admit(10**12)


def test_the_hash_itself_opens_nothing(file):
    secret = made(file, "grafana", "read")
    for wrong in (
        digest_of(secret).hex(),
        f"sha256:{digest_of(secret).hex()}",
        secret[:-1],
        secret + "x",
        secret.lower(),
    ):
        with pytest.raises(UnauthenticatedError):
            Access(file).caller(bearer(wrong))


def test_a_scope_is_for_one_thing(file):
    secret = made(file, "edge", "ingest")
    caller = Access(file).caller(bearer(secret))
    caller.require("ingest")
    caller.require("read", "ingest")
    with pytest.raises(ForbiddenError, match="token edge is for ingest, and this needs read; make another: tailsight"):
        caller.require("read")


def test_a_token_ends_at_its_time(file):
    end = datetime(2031, 1, 31, tzinfo=UTC)
    secret = made(file, "edge", "ingest", expires=end)
    now = [end - timedelta(seconds=1)]
    access = Access(file, now=lambda: now[0])
    assert access.caller(bearer(secret)).name == "edge"
    now[0] = end
    with pytest.raises(UnauthenticatedError, match="token edge expired at 2031-01-31T00:00:00Z"):
        access.caller(bearer(secret))


# --- the file changes ---------------------------------------------------------------------------------------------


def test_a_change_is_noticed_after_a_second_and_not_looked_for_before(file):
    old, clock = made(file, "old", "read"), Clock()
    access = Access(file, clock_s=clock)
    new = made(file, "new", "read")
    revoke_token(file, "old")
    clock.now_s += LOOK_AGAIN_S / 2
    assert access.caller(bearer(old)).name == "old"
    clock.now_s += LOOK_AGAIN_S / 2
    assert access.caller(bearer(new)).name == "new"
    with pytest.raises(UnauthenticatedError):
        access.caller(bearer(old))


@pytest.mark.parametrize("broken", ["this is no token file", None, b"\xff\xfe"])
def test_a_broken_file_keeps_the_tokens_and_is_logged_once(file, caplog, broken):
    secret, clock = made(file, "old", "read"), Clock()
    access = Access(file, clock_s=clock)
    whole = file.read_text()
    if broken is None:
        file.unlink()
    else:
        file.write_bytes(broken.encode() if isinstance(broken, str) else broken)
    for _ in range(3):
        clock.now_s += LOOK_AGAIN_S
        assert access.caller(bearer(secret)).name == "old"
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "the tokens from before stay valid" in errors[0]
    file.write_text(whole.replace("old", "mended"))
    clock.now_s += LOOK_AGAIN_S
    assert access.caller(bearer(secret)).name == "mended"


def test_a_token_of_the_run_outlives_changes_of_the_file(file):
    own, clock = new_secret(), Clock()
    made(file, "one", "read")
    access = Access(file, own=[Token("up", frozenset({"read"}), digest_of(own))], clock_s=clock)
    made(file, "two", "read")
    clock.now_s += LOOK_AGAIN_S
    assert access.caller(bearer(own)).name == "up"


@pytest.mark.parametrize(
    ("mode", "says"), [(0o644, "read by everybody"), (0o666, "changed by others"), (0o660, "changed by others")]
)
def test_a_file_that_others_can_read_is_warned_of(file, caplog, mode, says):
    made(file, "one", "read")
    file.chmod(mode)
    Access(file)
    assert says in caplog.text
    assert f"chmod 600 {file}" in caplog.text


def test_a_file_of_its_owner_alone_is_no_news(file, caplog):
    made(file, "one", "read")
    Access(file)
    assert not caplog.text


# --- limits -------------------------------------------------------------------------------------------------------


def test_requests_come_in_a_burst_and_then_at_their_rate(file):
    secret, clock = made(file, "edge", "ingest", requests_per_s=2), Clock()
    caller = Access(file, clock_s=clock).caller(bearer(secret))
    for _ in range(10):
        caller.admit()
    with pytest.raises(
        RateLimitError, match="token edge has used up its requests a second; try again in 1 s"
    ) as caught:
        caller.admit()
    assert caught.value.retry_after_s == pytest.approx(0.5)
    assert caught.value.retry_after_whole_s == 1
    clock.now_s += 0.5
    caller.admit()
    with pytest.raises(RateLimitError):
        caller.admit()


def test_a_request_of_any_size_passes_and_is_owed_afterwards(file):
    secret, clock = made(file, "edge", "ingest", bytes_per_s=1000), Clock()
    caller = Access(file, clock_s=clock).caller(bearer(secret))
    caller.admit(60_000)
    with pytest.raises(RateLimitError, match="bytes a second") as caught:
        caller.admit()
    assert caught.value.retry_after_s == pytest.approx(55, abs=0.1)
    clock.now_s += caught.value.retry_after_s
    caller.admit()


def test_a_refused_request_costs_nothing(file):
    secret, clock = made(file, "edge", "ingest", requests_per_s=1, bytes_per_s=100), Clock()
    caller = Access(file, clock_s=clock).caller(bearer(secret))
    caller.admit(1000)
    for _ in range(100):
        with pytest.raises(RateLimitError):
            caller.admit(10**9)
    clock.now_s += 6
    caller.admit()


def test_a_change_of_the_file_forgives_no_limit(file):
    secret, clock = made(file, "edge", "ingest", requests_per_s=0.01), Clock()
    access = Access(file, clock_s=clock)
    access.caller(bearer(secret)).admit()
    made(file, "other", "read")
    clock.now_s += LOOK_AGAIN_S
    with pytest.raises(RateLimitError):
        access.caller(bearer(secret)).admit()


def test_what_is_not_used_is_not_saved_up_for_ever():
    clock = Clock()
    bucket = Bucket(10, clock)
    clock.now_s += 10**6
    assert bucket.wait_s() == 0
    bucket.take(50)
    assert bucket.wait_s() > 0


# --- where it listens ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("host", "is_ours"), [("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("localhost", True), ("", False),
                                               ("0.0.0.0", False), ("::", False), ("192.0.2.1", False), ("no-such-host.invalid", False)])  # fmt: skip
def test_loopback_is_told_from_what_others_reach(host, is_ours):
    assert exposure.is_loopback(host) is is_ours


@pytest.mark.parametrize("options", [(), ("--host", "0.0.0.0", "--tls-client-ca", "x")])
def test_a_public_address_without_tokens_is_refused_with_what_to_run(tmp_path, options):
    with pytest.raises(AssertionError) as caught:
        CollectorProcess(tmp_path, "--host", "0.0.0.0", *options).start()
    assert re.search(
        "tailsight token create .* add --tokens tokens.txt|TLS takes --tls-cert and --tls-key together",
        str(caught.value),
    )
    assert not (tmp_path / "journal").exists(), "it is said before anything is opened"


def test_insecure_opens_a_public_address_with_one_warning(tmp_path):
    with CollectorProcess(tmp_path, "--host", "0.0.0.0", "--insecure") as running:
        assert running.health()["journal"]["bytes"] == 0
    assert len([line for line in running.log if "everybody who reaches these ports" in line]) == 1


def test_tokens_without_tls_on_a_public_address_are_warned_of():
    assert "without TLS" in exposure.warning("0.0.0.0", has_tokens=True, asks_who=True, is_encrypted=False)
    assert not exposure.warning("0.0.0.0", has_tokens=True, asks_who=True, is_encrypted=True)
    assert not exposure.warning("127.0.0.1", has_tokens=False, asks_who=False, is_encrypted=False)


# --- a real collector ---------------------------------------------------------------------------------------------


class Guarded(CollectorProcess):
    """A collector with tokens; its own show `health` everything."""

    def __init__(self, folder):
        self.tokens = folder / "tokens.txt"
        self.secrets = {
            "sender": made(self.tokens, "sender", "ingest"),
            "reader": made(self.tokens, "reader", "read"),
            "both": made(self.tokens, "both", "ingest", "read"),
            "slow": made(self.tokens, "slow", "ingest", "read", requests_per_s=0.01),
            "narrow": made(self.tokens, "narrow", "ingest", "read", bytes_per_s=10),
            "ended": made(self.tokens, "ended", "ingest", "read", expires=datetime(2020, 1, 1, tzinfo=UTC)),
        }
        super().__init__(folder / "data", "--tokens", str(self.tokens), token=self.secrets["both"])

    def headers(self, name, encoding=PROTOBUF):
        return dict(encoding) | ({"Authorization": f"Bearer {self.secrets.get(name, name)}"} if name else {})

    def send(self, name, encoding=PROTOBUF, body=b""):
        return httpx.post(f"{self.otlp_url}/v1/traces", content=body, headers=self.headers(name, encoding), timeout=30)

    @property
    def sql_url(self):
        return "http://" + self.store.removeprefix("clickhouse://").removesuffix("/tailsight")

    def ask(self, name, statement="SELECT 1", **options):
        return httpx.post(self.sql_url, content=statement, headers=self.headers(name, {}), timeout=30, **options)

    def store_of(self, name):
        return self.store.replace("://", f"://any:{self.secrets.get(name, name)}@")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    running = Guarded(tmp_path_factory.mktemp("guarded"))
    with running:
        yield running
    log = "".join(running.log)
    assert not any(secret in log for secret in running.secrets.values()), "a token in the log"
    assert "Traceback" not in log


def test_who_may_send_sends_and_who_may_read_reads_it(guarded):
    service = f"service-{uuid.uuid4().hex[:12]}"
    body = request([span()], {"service.name": service}).SerializeToString()
    assert guarded.send("sender", body=body).status_code == 200
    assert guarded.send("both", body=body).status_code == 200
    guarded.wait_until_loaded()
    with open_store(guarded.store_of("reader")) as store:
        assert store.rows("SELECT count() FROM spans WHERE service = {s:String}", s=service) == [(2,)]


@pytest.mark.parametrize(
    ("name", "status", "code"), [("", 401, 16), (SECRET, 401, 16), ("ended", 401, 16), ("reader", 403, 7)]
)
def test_otlp_http_refuses_in_the_requests_encoding(guarded, name, status, code):
    answer = guarded.send(name)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/x-protobuf")
    assert Status.FromString(answer.content).code == code
    assert answer.headers.get("www-authenticate") == ('Bearer realm="tailsight"' if status == 401 else None)
    in_json = guarded.send(name, JSON)
    assert (in_json.status_code, in_json.json()["code"]) == (status, code)
    assert "tailsight token create" in in_json.json()["message"]
    assert "ts_" not in in_json.text


def test_a_request_over_the_limit_waits(guarded):
    before = guarded.health()["received"]
    answers = [guarded.send("slow", JSON, b"{}") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert 1 <= int(answers[1].headers["retry-after"]) <= 100
    assert answers[1].json()["code"] == 8
    refused = guarded.health()["received"]["refused_requests"]
    assert refused.get("429", 0) == before["refused_requests"].get("429", 0) + 1


def test_bytes_count_for_a_body_of_unknown_length_too(guarded):
    headers = guarded.headers("narrow", JSON)
    first = httpx.post(f"{guarded.otlp_url}/v1/traces", content=iter([b"{", b" " * 1000, b"}"]), headers=headers)
    second = httpx.post(f"{guarded.otlp_url}/v1/traces", content=b"{}", headers=headers)
    assert [first.status_code, second.status_code] == [200, 429]
    assert int(second.headers["retry-after"]) > 60


def test_the_body_of_who_may_not_send_is_not_waited_for(guarded):
    """The answer comes while the body has not; curl's way is to ask first (Expect: 100-continue)."""
    host, port = guarded.otlp_url.removeprefix("http://").split(":")
    for head, closes in (
        (b"Content-Length: 1000000\r\nExpect: 100-continue", False),
        (b"Content-Length: 99999999999", True),
        (b"Transfer-Encoding: chunked", True),
    ):
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(
                b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + head + b"\r\n\r\n"
            )
            answer = connection.recv(4096)
            assert answer.startswith(b"HTTP/1.1 401")
            assert (b"connection: close" in answer.lower()) is closes


def test_a_large_body_is_thrown_away_and_its_sender_reads_why(guarded):
    with httpx.Client(timeout=30) as client:
        for _ in range(2):
            answer = client.post(f"{guarded.otlp_url}/v1/traces", content=bytes(20_000_000), headers=PROTOBUF)
            assert answer.status_code == 401


def test_a_path_that_does_not_exist_is_closed_too(guarded):
    assert httpx.get(f"{guarded.otlp_url}/v1/secrets").status_code == 401
    assert httpx.get(f"{guarded.otlp_url}/v1/secrets", headers=guarded.headers("sender")).status_code == 404
    assert httpx.get(f"{guarded.sql_url}/play").status_code == 401


@pytest.mark.parametrize("path", ["/heal%09thz", "/%0Ahealthz", "/healthz%3Fx", "//healthz", "/healthz/"])
def test_what_is_only_like_an_open_path_is_closed(guarded, path):
    """The path alone counts: a URL made of it and of what the client calls the host may have another one."""
    for host in ("127.0.0.1", "x/healthz?", "x/healthz#", "x/ping?"):
        for url in (guarded.otlp_url, guarded.sql_url):
            assert httpx.get(f"{url}{path}", headers={"Host": host}).status_code == 401
            assert httpx.post(f"{url}/v1/traces", headers={"Host": host}).status_code == 401


@pytest.mark.parametrize("name", ["", "unknown"])
def test_health_says_no_more_than_that_it_lives_without_a_token(guarded, name):
    answer = httpx.get(f"{guarded.otlp_url}/healthz", headers=guarded.headers(name, {}))
    assert (answer.status_code, answer.json().keys()) == (200, {"status", "version"})


def test_health_tells_whoever_has_a_token(guarded):
    for name in ("reader", "sender"):
        assert "store" in httpx.get(f"{guarded.otlp_url}/healthz", headers=guarded.headers(name, {})).json()


def export(target, secret):
    metadata = (("authorization", f"Bearer {secret}"),) if secret else ()
    with grpc.insecure_channel(target) as channel:
        return channel.unary_unary(TRACES_METHOD)(b"", timeout=30, metadata=metadata)


def test_grpc_takes_the_token_as_metadata(guarded):
    assert export(guarded.grpc_target, guarded.secrets["sender"]) == b""
    for secret, code in (
        (None, "UNAUTHENTICATED"),
        (new_secret(), "UNAUTHENTICATED"),
        (guarded.secrets["reader"], "PERMISSION_DENIED"),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            export(guarded.grpc_target, secret)
        assert caught.value.code().name == code
        assert "ts_" not in caught.value.details()


def test_grpc_over_the_limit_says_when_to_come_again(guarded):
    with pytest.raises(grpc.RpcError) as caught:  # noqa: PT012 - the burst may be used up by another test
        for _ in range(2):
            export(guarded.grpc_target, guarded.secrets["slow"])
    assert caught.value.code().name == "RESOURCE_EXHAUSTED"
    trailers = dict(caught.value.trailing_metadata())
    [detail] = Status.FromString(trailers["grpc-status-details-bin"]).details
    info = RetryInfo()
    assert detail.Unpack(info)
    assert 1 <= info.retry_delay.seconds <= 100


def test_the_sql_port_takes_every_way_of_its_clients(guarded):
    secret = guarded.secrets["reader"]
    ways = [
        {"headers": {"Authorization": f"Bearer {secret}"}}, {"auth": ("whoever", secret)},
        {"headers": {"X-ClickHouse-User": "grafana", "X-ClickHouse-Key": secret}},
    ]  # fmt: skip
    for way in ways:
        answer = httpx.post(guarded.sql_url, content="SELECT 1", **way)
        assert (answer.status_code, answer.text) == (200, "1\n")
    with clickhouse_connect.get_client(dsn=guarded.store_of("reader"), autogenerate_session_id=False) as client:
        assert client.query("SELECT {n:UInt8}", parameters={"n": 7}).result_rows == [(7,)]


@pytest.mark.parametrize(
    ("name", "status", "code"), [("", 401, 516), (SECRET, 401, 516), ("ended", 401, 516), ("sender", 403, 497)]
)
def test_the_sql_port_refuses_with_clickhouses_codes(guarded, name, status, code):
    answer = guarded.ask(name, "SELECT count() FROM spans")
    assert answer.status_code == status
    assert answer.text.startswith(f"Code: {code}. DB::Exception: ")
    assert answer.headers["x-clickhouse-exception-code"] == str(code)
    assert ("Basic" in answer.headers.get("www-authenticate", "")) is (status == 401)
    assert "ts_" not in answer.text


@pytest.mark.parametrize("query", [{"password": "x"}, {"user": "default"}, {"user": "me", "password": "x"}])
def test_a_token_in_the_address_is_refused_even_beside_a_good_one(guarded, query):
    answer = guarded.ask("reader", params=query)
    assert answer.status_code == 401
    assert "addresses are logged" in answer.text


def test_a_reader_over_its_limit_waits(guarded):
    answers = [guarded.ask("narrow", "SELECT repeat('x', 10000)") for _ in range(3)]
    assert answers[-1].status_code == 429
    assert answers[-1].text.startswith("Code: 201.")
    assert int(answers[-1].headers["retry-after"]) > 0


def test_ping_is_open_as_clickhouses_is(guarded):
    assert httpx.get(f"{guarded.sql_url}/ping").text == "Ok.\n"


def test_the_port_may_be_asked_by_a_name_when_tokens_guard_it_but_not_by_a_web_page(guarded):
    headers = guarded.headers("reader", {}) | {"Host": "collector.example"}
    assert httpx.post(guarded.sql_url, content="SELECT 1", headers=headers).status_code == 200
    assert httpx.post(guarded.sql_url, content="SELECT 1", headers=headers | {"Origin": "https://x"}).status_code == 403


def test_a_store_that_refuses_says_why(guarded):
    with pytest.raises(QueryFailedError) as caught:
        open_store(guarded.store_of("wrong"))
    assert caught.value.code == 516
    with pytest.raises(DatabaseError, match="516"):
        clickhouse_connect.get_client(dsn=guarded.store_of("wrong"))
    # who may only send is greeted, as a collector that inserts must be, and reads nothing
    with open_store(guarded.store_of("sender")) as store, pytest.raises(QueryFailedError) as caught:
        store.rows("SELECT name FROM spans")
    assert caught.value.code == 497
    assert guarded.secrets["sender"] not in str(caught.value)


@pytest.mark.parametrize(
    "statement",
    ["SELECT * FROM spans", "SELECT 1 UNION ALL SELECT count() FROM tailsight.spans", "SELECT (SELECT count() FROM spans)",
     "WITH x AS (SELECT * FROM spans) SELECT * FROM x", "SELECT * FROM rejected_spans", "DESCRIBE (SELECT * FROM spans)",
     "SELECT name FROM system.tables WHERE (SELECT count() FROM spans) > 0", "EXPLAIN SELECT * FROM spans",
     "SELECT dictGet('x', 'y', 1)", "SELECT * FROM merge('tailsight', '.*')", "SELECT joinGet('spans', 'name', 1)"],
)  # fmt: skip
def test_who_may_only_send_reads_no_row_of_any_table(guarded, statement):
    assert guarded.ask("sender", statement).status_code == 403


def test_a_revoked_token_is_refused_without_a_restart(guarded):
    secret = made(guarded.tokens, "passing", "ingest")
    eventually(lambda: guarded.send(secret, JSON, b"{}").status_code == 200, "the new token is known")
    revoke_token(guarded.tokens, "passing")
    eventually(lambda: guarded.send(secret, JSON, b"{}").status_code == 401, "the token is revoked")
    assert guarded.send("both", JSON, json.dumps({}).encode()).status_code == 200


def test_the_sdk_sends_a_token_by_its_sidecar(guarded, tmp_path):
    service = f"sdk-{uuid.uuid4().hex[:12]}"
    run_sdk(
        guarded.otlp_url,
        service,
        tmp_path,
        OTEL_EXPORTER_OTLP_HEADERS=f"Authorization=Bearer%20{guarded.secrets['sender']}",
    )
    guarded.wait_until_loaded()
    assert count_of(guarded, service) == 1


def test_the_sdk_sends_a_token_over_grpc(guarded, tmp_path):
    service = f"sdk-{uuid.uuid4().hex[:12]}"
    headers = f"authorization=Bearer {guarded.secrets['sender']}"
    run_sdk(f"http://{guarded.grpc_target}", service, tmp_path, TAILSIGHT_HEADERS=headers, TAILSIGHT_PROTOCOL="grpc")
    guarded.wait_until_loaded()
    assert count_of(guarded, service) == 1


def count_of(guarded, service):
    return int(guarded.ask("reader", f"SELECT count() FROM spans WHERE service = '{service}'").text)


def run_sdk(endpoint, service, folder, **environment):
    program = (
        "import tailsight\n"
        f"tailsight.configure(service={service!r}, endpoint={endpoint!r}, transport='sidecar', device_interval_s=0)\n"
        "with tailsight.request('work'):\n    pass\n"
        "assert tailsight.flush(30), tailsight.stats()\n"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TAILSIGHT_", "OTEL_"))}
    clean |= {"TAILSIGHT_SPOOL_DIR": str(folder / "spool"), **environment}
    done = subprocess.run(
        [sys.executable, "-c", program], env=clean, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr
