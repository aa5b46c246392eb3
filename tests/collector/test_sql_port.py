"""The read-only ClickHouse HTTP interface of a real collector process."""

import uuid
from pathlib import Path

import clickhouse_connect
import httpx
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError
from testkit.otlp import request, span
from testkit.processes import CollectorProcess


@pytest.fixture(scope="module")
def url(collector):
    return "http://" + collector.store.removeprefix("clickhouse://").removesuffix("/tailsight")


@pytest.fixture(scope="module")
def client(collector):
    with clickhouse_connect.get_client(dsn=collector.store, autogenerate_session_id=False) as opened:
        yield opened


@pytest.fixture(scope="module")
def service(collector):
    name = f"sql-{uuid.uuid4().hex[:8]}"
    spans = [span(attributes={"tailsight.stage": stage}) for stage in ("queue", "queue", "compute")]
    assert collector.post(request(spans, {"service.name": name}).SerializeToString()).status_code == 200
    collector.wait_until_loaded()
    return name


def test_clickhouse_connect_reads_rows_and_frames_with_bound_parameters(client, service):
    query = (
        "SELECT stage, count() AS spans FROM spans WHERE service = {service:String} AND stage IN {stages:Array(String)} "
        "GROUP BY stage ORDER BY stage"
    )
    parameters = {"service": service, "stages": ["queue", "compute", "it's; \\ odd\n"]}
    assert client.query(query, parameters=parameters).result_rows == [("compute", 1), ("queue", 2)]
    assert client.query_df(query, parameters=parameters)["spans"].tolist() == [1, 2]


@pytest.mark.parametrize("value", ["plain", "it's", 'a"b', "back\\slash", "tab\tand\nline", "semi;colon", "ü€😀", ""])
def test_text_parameters_come_through_unchanged(client, value):
    assert client.query("SELECT {value:String}", parameters={"value": value}).result_rows == [(value,)]
    assert client.query("SELECT {value:Array(String)}", parameters={"value": [value]}).result_rows == [([value],)]


def test_rows_can_be_streamed(client, service):
    query = "SELECT name FROM spans WHERE service = {service:String}"
    with client.query_rows_stream(query, parameters={"service": service}) as rows:
        assert len(list(rows)) == 3


def test_curl_asks_in_the_address_or_in_the_body(url, service):
    query = f"SELECT count() AS n FROM spans WHERE service = '{service}'"
    assert httpx.get(url, params={"query": query}).text == "3\n"
    assert httpx.post(url, content=query + ";").text == "3\n"
    assert httpx.post(url, content=query, params={"default_format": "JSONEachRow"}).json() == {"n": 3}
    assert httpx.post(url, content=query + " FORMAT JSONEachRow").json() == {"n": 3}
    assert httpx.get(f"{url}/ping").text == "Ok.\n"


@pytest.mark.parametrize(
    "query",
    ["SHOW TABLES", "SHOW DATABASES", "DESCRIBE TABLE spans", "EXISTS TABLE spans", "SHOW CREATE TABLE spans",
     "SELECT version(), currentDatabase(), now(), toTypeName(1)", "SELECT * FROM numbers(3) ORDER BY number",
     "WITH recent AS (SELECT * FROM tailsight.spans) SELECT stage, quantilesDD(0.01, 0.5)(duration_ns) FROM recent GROUP BY ALL",
     "SELECT name FROM system.tables WHERE database = 'tailsight'", "SELECT 1 UNION ALL SELECT 2",
     "SELECT countIf(status = 'ERROR'), sumMap(map('a', 1)), uniqExactIf(trace_id, 1) FROM spans",
     "SELECT arrayMap(x -> x + 1, [1, 2]), row_number() OVER (ORDER BY start_time) FROM spans LIMIT 1",
     "SELECT a.name FROM spans a JOIN spans b ON a.span_id = b.parent_span_id", "SELECT * EXCEPT (attributes) FROM spans LIMIT 1"],
)  # fmt: skip
def test_reading_statements_run(url, query):
    answer = httpx.post(url, content=query)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "query",
    [
        "SELECT file('/etc/passwd')", "SELECT FILE('/etc/passwd')", "SELECT `file`('/etc/passwd')", 'SELECT "file"(\'x\')',
        "SELECT /* x */ file /* y */ ('/etc/passwd')", "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT arrayMap(file, ['/etc/passwd'])", "SELECT arrayMap(x -> file(x), ['/etc/passwd'])",
        "SELECT * APPLY(file) FROM spans", "SELECT * REPLACE(file('/etc/passwd') AS name) FROM spans",
        "SELECT 1 ORDER BY file('/etc/passwd')", "SELECT 1 LIMIT (SELECT length(file('/etc/passwd')))",
        "SELECT 1 UNION ALL SELECT length(file('/etc/passwd'))", "DESCRIBE (SELECT file('/etc/passwd'))",
        "SELECT 1 INTO OUTFILE '/tmp/out'", "SELECT 1 INTO OUTFILE '/tmp/out' FORMAT Native", "SELECT 1 UNION ALL SELECT 2 INTO OUTFILE '/tmp/o'",
        "SELECT * FROM url('http://127.0.0.1')", "SELECT * FROM s3('http://127.0.0.1/x')", "SELECT * FROM remote('127.0.0.1', system.one)",
        "SELECT * FROM executable('id', 'TSV', 'x String')", "SELECT * FROM python('x')", "SELECT * FROM merge('system', '.*')",
        "SELECT * FROM view(SELECT 1)", "SELECT * FROM loop(system.one)", "SELECT * FROM cluster('default', system.one)",
        "SELECT * FROM system.users", "SELECT * FROM system.query_log", "SELECT 1 IN system.users", "SELECT * FROM information_schema.tables",
        "SELECT * FROM system.processes", "EXISTS TABLE system.users", "SHOW CREATE TABLE system.users", "DESCRIBE TABLE system.users",
        "INSERT INTO spans SELECT * FROM spans", "DROP TABLE spans", "ALTER TABLE spans DELETE WHERE 1", "TRUNCATE TABLE spans",
        "CREATE TABLE x (a Int8) ENGINE = Memory", "SYSTEM FLUSH LOGS", "OPTIMIZE TABLE spans", "KILL QUERY WHERE 1", "SET readonly = 0",
        "USE system", "ATTACH TABLE x", "RENAME TABLE spans TO x", "GRANT ALL ON *.* TO x", "BACKUP TABLE spans TO Disk('x', 'y')",
        "SELECT 1 SETTINGS max_memory_usage = 0", "SELECT 1 SETTINGS readonly = 0", "SELECT 1; DROP TABLE spans", "SELECT 1;\nSELECT 2",
        "; SELECT 1", "EXPLAIN SELECT 1", "EXPLAIN AST SELECT 1; DROP TABLE spans", "SELECT dictGet('a', 'b', 1)", "SELECT getMacro('x')",
        "SELECT sleep(3)", "SELECT addressToLine(1)", "SELECT getServerSetting('max_threads')", "SELECT joinGet('a', 'b', 1)",
        "SELECT showCertificate()", "SELECT filesystemAvailable()", "SELECT catboostEvaluate('x', 1)", "", "nonsense",
        "SELECT * FROM nowhere", "SELECT * FROM default.spans2",
    ],
)  # fmt: skip
def test_everything_else_is_refused(url, query):
    answer = httpx.post(url, content=query)
    assert answer.status_code in (400, 403, 404), answer.text
    assert answer.text.startswith("Code: ") or "Code: " in answer.text
    assert "root:" not in answer.text


def test_nothing_was_written(url, tmp_path):
    target = tmp_path / "out"
    assert httpx.post(url, content=f"SELECT 1 INTO OUTFILE '{target}'").status_code == 403
    assert not target.exists()


def test_identifiers_as_parameters_are_checked_too(url):
    answer = httpx.get(url, params={"query": "SELECT * FROM {t:Identifier}", "param_t": "system.users"})
    assert answer.status_code == 403
    answer = httpx.get(url, params={"query": "SELECT {f:Identifier}('/etc/passwd')", "param_f": "file"})
    assert answer.status_code in (400, 403)


@pytest.mark.parametrize("parameters", [{"database": "system"}, {"default_format": "Native INTO OUTFILE 'x'"}])
def test_the_address_cannot_reach_around_the_guard(url, parameters):
    assert httpx.get(url, params={"query": "SELECT * FROM users", **parameters}).status_code in (403, 404)


def test_settings_in_the_address_are_not_applied(url):
    query = "SELECT value FROM system.settings WHERE name = 'readonly'"
    assert httpx.get(url, params={"query": query, "readonly": "0"}).text == "1\n"


def test_an_error_has_clickhouses_code(client, url):
    assert httpx.post(url, content="SELECT nothing FROM spans").headers["x-clickhouse-exception-code"] == "47"
    with pytest.raises(DatabaseError, match="UNKNOWN_IDENTIFIER"):
        client.query("SELECT nothing FROM spans")


@pytest.mark.parametrize(
    "hidden",
    [
        "1; SELECT file('/etc/passwd')",
        "1; USE system",
        "1; SELECT 1 INTO OUTFILE '/tmp/tailsight-attack'",
        "file('/etc/passwd')",
    ],
)
def test_parameters_never_become_statement_text(url, hidden):
    """clickhouse-connect puts parameters into a text without {name:Type} by %: the SQL port must not."""
    answer = httpx.get(url, params={"query": "SELECT %(x)s", "param_x": hidden})
    assert answer.status_code in (400, 403, 404)
    assert "root:" not in answer.text
    assert not Path("/tmp/tailsight-attack").exists()
    assert httpx.get(url, params={"query": "SELECT 5 % 2 AS rest, 'a' LIKE '%a%'", "param_x": "1"}).text == "1\t1\n"
    assert httpx.get(url, params={"query": "SELECT count() >= 0 FROM spans"}).text == "1\n"


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"Host": "evil.example"}, {"Host": "evil.example:8123"}]
)
def test_web_pages_are_not_answered(url, headers):
    assert httpx.get(url, params={"query": "SELECT 1"}, headers=headers).status_code == 403


def test_odd_query_ids_and_parameter_names_are_harmless(url):
    assert httpx.get(url, params={"query": "SELECT 1", "query_id": "€"}).text == "1\n"
    assert httpx.get(url, params={"query": "SELECT 1", "query_id": "a\r\nX: 1"}).status_code == 200
    assert httpx.get(url, params={"query": "SELECT 1", "param_a b": "1"}).status_code == 400


def test_slow_queries_end_when_their_clients_leave_and_hold_up_nothing_else(tmp_path):
    slow = "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1"
    with CollectorProcess(tmp_path) as collector:
        port = "http://" + collector.store.removeprefix("clickhouse://").removesuffix("/tailsight")
        for _ in range(4):  # more than there are readers, each leaves after a moment
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(port, content=slow, timeout=0.3)
        large = request([span(attributes={"text": "x" * 400_000})]).SerializeToString()
        assert collector.post(large).status_code == 200
        assert httpx.post(port, content="SELECT 1", timeout=20).text == "1\n"
        running = "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 2"
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(port, content=running, timeout=0.3)
        assert collector.stop() == 0
