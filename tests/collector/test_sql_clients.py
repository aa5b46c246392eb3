"""Clients of the SQL port as they are: clickhouse-connect, `curl`, and the requests of Grafana's ClickHouse data source.

The data source speaks HTTP through clickhouse-go. What that sends and how it reads the answer is written down here
from its source (conn_http.go, conn_http_query.go, lib/proto/block.go, v2.40): no Go is at hand to run it.
"""

import gzip
import io
import shutil
import subprocess
import time
import uuid

import clickhouse_connect
import httpx
import pytest
import zstandard
from clickhouse_connect.driver.exceptions import DatabaseError
from clickhouse_connect.driver.transform import NativeTransform
from testkit.otlp import request, span

CLIENT_REVISION = 54483  # clickhouse-go's ClientTCPProtocolVersion
CUSTOM_SERIALIZATION = 54454
HELLO = "SELECT displayName(), version(), revision(), timezone()"


@pytest.fixture(scope="module")
def url(collector):
    return "http://" + collector.store.removeprefix("clickhouse://").removesuffix("/tailsight")


@pytest.fixture(scope="module")
def client(collector):
    with clickhouse_connect.get_client(dsn=collector.store) as opened:
        yield opened


@pytest.fixture(scope="module")
def service(collector):
    name = f"clients-{uuid.uuid4().hex[:8]}"
    spans = [span(name=f"s{number}", attributes={"tailsight.stage": "queue"}) for number in range(500)]
    assert collector.post(request(spans, {"service.name": name}).SerializeToString()).status_code == 200
    collector.wait_until_loaded()
    return name


# --- clickhouse-connect ---------------------------------------------------------------------------------------------


def test_a_frame_with_every_kind_of_parameter(client, service):
    query = (
        "SELECT name, stage, start_time, attributes, resource, duration_ns, trace_id FROM spans WHERE service = {service:String} "
        "AND start_time > {since:DateTime64(3)} AND stage IN {stages:Array(String)} AND duration_ns > {least:UInt64} ORDER BY name"
    )
    since = time.gmtime(time.time() - 3600)
    frame = client.query_df(
        query,
        parameters={
            "service": service,
            "since": time.strftime("%Y-%m-%d %H:%M:%S", since),
            "stages": ["queue"],
            "least": 1,
        },
    )
    assert len(frame) == 500
    assert set(frame["resource"].map(lambda each: each["service.name"])) == {service}


def test_blocks_frames_and_rows_can_be_streamed(client, service):
    query = "SELECT name FROM spans WHERE service = {service:String}"
    for stream in (client.query_row_block_stream, client.query_df_stream):
        with stream(query, parameters={"service": service}) as blocks:
            assert sum(len(block) for block in blocks) == 500
    with client.raw_stream(query, parameters={"service": service}, fmt="TSV") as lines:
        assert len(lines.read().splitlines()) == 500


def test_large_parameters_come_in_a_form(collector):
    with clickhouse_connect.get_client(dsn=collector.store, form_encode_query_params=True) as client:
        names = [f"name-{number:06}" for number in range(20_000)]
        query = "SELECT length({names:Array(String)}), {text:String}"
        assert client.query(query, parameters={"names": names, "text": "a;b\r\n--x"}).result_rows == [
            (20_000, "a;b\r\n--x")
        ]


def test_an_empty_answer_is_no_error(client):
    assert client.query("SELECT name, duration_ns FROM spans WHERE 0").result_rows == []
    assert client.query("SELECT name FROM spans LIMIT 0").column_names == ("name",)
    assert client.query_df("SELECT name FROM spans WHERE 0").empty


def test_an_error_is_one_of_clickhouse(client):
    with pytest.raises(DatabaseError, match="UNKNOWN_IDENTIFIER"):
        client.query("SELECT nothing FROM spans")


# --- curl -----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not here")
def test_curl(url, service):
    def curl(*arguments, given=None):
        return subprocess.run(
            ["curl", "-sS", *arguments], input=given, capture_output=True, text=True, timeout=30, check=True
        ).stdout

    query = "SELECT count() FROM spans WHERE service = {service:String}"
    assert curl(f"{url}/ping") == "Ok.\n"
    assert curl(url, "-d", query.replace("{service:String}", f"'{service}'")) == "500\n"
    assert curl(f"{url}/?param_service={service}", "--data-binary", "@-", given=query) == "500\n"
    assert (
        curl(
            "-G",
            url,
            "--data-urlencode",
            f"query={query} FORMAT JSONEachRow",
            "--data-urlencode",
            f"param_service={service}",
        )
        == '{"count()":500}\n'
    )
    assert curl(url, "-F", f"query={query}", "-F", f"param_service={service}") == "500\n"
    assert "Code: 497" in curl(url, "-d", "DROP TABLE spans")


# --- Grafana: clickhouse-go over HTTP -------------------------------------------------------------------------------


class Reader(io.BytesIO):
    def varint(self):
        value, shift = 0, 0
        while True:
            byte = self.read(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def text(self):
        return self.read(self.varint()).decode()


def block_header(data, revision):
    """Read what precedes the values of a block's first column, as clickhouse-go's Block.Decode does."""
    if revision > 0:
        assert (data.varint(), data.read(1)) == (1, b"\0")  # overflows
        assert (data.varint(), int.from_bytes(data.read(4), "little", signed=True)) == (2, -1)  # bucket
        assert data.varint() == 0
    return data.varint(), data.varint()


def column_header(data, revision):
    name, kind = data.text(), data.text()
    if revision >= CUSTOM_SERIALIZATION:
        assert data.read(1) == b"\0", "clickhouse-go knows no custom serialization"
    return name, kind


class GoClient:
    """clickhouse-go's httpConnect: the same address, headers and body; Grafana sets gzip and its own User-Agent."""

    def __init__(self, url, **settings):
        self.url = url
        self.address = {
            "database": "tailsight",
            **settings,
            "default_format": "Native",
            "client_protocol_version": str(CLIENT_REVISION),
        }
        self.revision = CLIENT_REVISION
        data = Reader(self.query(HELLO))
        columns, rows = block_header(data, self.revision)
        assert (columns, rows) == (4, 1)
        self.hello = {}
        for _ in range(columns):
            name, kind = column_header(data, self.revision)
            self.hello[name] = data.text() if kind == "String" else int.from_bytes(data.read(4), "little")
        assert data.read() == b""
        self.revision = self.hello["revision()"]

    def query(self, statement, **parameters):
        answer = httpx.post(
            self.url,
            params={**self.address, **{f"param_{name}": value for name, value in parameters.items()}},
            content=statement,
            headers={
                "Accept-Encoding": "gzip",
                "User-Agent": "grafana/12.1.0 clickhouse-datasource/4.10.2 clickhouse-go/2.40.1",
            },
            timeout=30,
        )
        assert answer.status_code == 200, answer.text
        return answer.content

    def rows(self, statement, **parameters):
        """Read the answer as the revision of the handshake says; the values by clickhouse-connect's own parser."""
        content = self.query(statement, **parameters)
        assert self.revision == 0, "with a later revision a block has a header that Native has not"
        from clickhouse_connect.driver.ctypes import RespBuffCls
        from clickhouse_connect.driver.query import QueryContext

        class Source:
            gen = iter([content])

            def close(self):
                pass

        return NativeTransform.parse_response(RespBuffCls(Source()), QueryContext(statement)).result_rows


def test_grafana_shakes_hands(url):
    go = GoClient(url)
    assert go.hello["timezone()"] == "UTC"
    assert go.hello["displayName()"] == "tailsight"
    assert [int(part) for part in go.hello["version()"].split(".")] >= [25, 1]
    older = GoClient.__new__(GoClient)
    older.url, older.address = url, {"default_format": "Native", "client_protocol_version": "54450"}
    data = Reader(older.query(HELLO))
    assert block_header(data, 54450) == (4, 1)
    assert column_header(data, 54450) == ("displayName()", "String")


def test_grafana_pings_and_asks(url, service):
    go = GoClient(url, max_execution_time=60, readonly=1)
    assert go.rows("SELECT 1") == [(1,)]
    series = (
        "SELECT toStartOfInterval(start_time, INTERVAL 1 minute) AS time, stage, count() AS spans, quantile(0.99)(duration_ns) / 1e6 AS p99 "
        'FROM "tailsight"."spans" WHERE ( start_time >= toDateTime64({since:Int64}, 3) ) AND service = {service:String} '
        "GROUP BY time, stage ORDER BY time ASC LIMIT 1000"
    )
    rows = go.rows(series, since=str(int(time.time()) - 3600), service=service)
    assert sum(row[2] for row in rows) == 500
    assert {row[1] for row in rows} == {"queue"}


@pytest.mark.parametrize(
    "statement",
    ["SHOW DATABASES", "SHOW TABLES FROM tailsight", "SHOW TABLES FROM \"tailsight\"", "DESC TABLE \"tailsight\".\"spans\"", "DESCRIBE TABLE tailsight.spans", "SELECT name FROM system.databases",
     "SELECT version()", "SELECT timezone()", "SELECT DISTINCT arrayJoin(mapKeys(attributes)) AS keys FROM spans LIMIT 1000",
     "SELECT name, type FROM system.columns WHERE database = 'tailsight' AND table = 'spans'", "SELECT name FROM system.functions LIMIT 10000"],
)  # fmt: skip
def test_grafanas_editor_finds_its_lists(url, statement):
    assert GoClient(url).rows(statement)


def test_answers_are_packed_where_the_address_asks_for_it(url):
    query = {"query": "SELECT number FROM numbers(100000)"}
    plain = httpx.get(url, params=query, headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in plain.headers, "as ClickHouse: only with enable_http_compression"
    for coding, unpack in (("gzip", gzip.decompress), ("zstd", zstandard.ZstdDecompressor().decompress)):
        with httpx.stream(
            "GET", url, params={**query, "enable_http_compression": "1"}, headers={"Accept-Encoding": coding}
        ) as answer:
            raw = b"".join(answer.iter_raw())
        assert answer.headers["content-encoding"] == coding
        content = zstandard.ZstdDecompressor().decompressobj().decompress(raw) if coding == "zstd" else unpack(raw)
        assert content == plain.content
    with httpx.stream(
        "GET", url, params={**query, "enable_http_compression": "1"}, headers={"Accept-Encoding": "br, deflate"}
    ) as answer:
        assert "content-encoding" not in answer.headers


def test_clickhouses_own_compression_is_refused_in_words(url):
    """clickhouse-go asks for it where somebody sets LZ4 over HTTP."""
    answer = httpx.post(url, params={"compress": "1"}, content=HELLO)
    assert answer.status_code == 403
    assert "enable_http_compression" in answer.text
