"""What strangers may try at the SQL port. A file of the host holds a secret: no answer may hold it, or tell of it."""

import uuid
from pathlib import Path

import httpx
import pytest

SECRET = f"secret-{uuid.uuid4().hex}"
# Where the attacks read and write; under /tmp, so that the statements stand here as they would be typed.
FOLDER = Path(f"/tmp/tailsight-attacks-{uuid.uuid4().hex[:8]}")
READ, WRITE = str(FOLDER / "secret.csv"), str(FOLDER / "written")

SCALAR_FILE = [
    "SELECT file('$R')", "SELECT FILE('$R')", "SELECT `file`('$R')", "SELECT \"file\"('$R')", "SELECT file ('$R')",
    "SELECT file/**/('$R')", "SELECT/**/file\n(\t'$R')", "SELECT file -- x\n('$R')", "SELECT file # x\n('$R')", "SELECT `fi\\x6ce`('$R')",
    "SELECT (((file('$R'))))", "SELECT [file('$R')]", "SELECT (file('$R'), 1).1", "SELECT map('a', file('$R'))['a']",
    "SELECT concat('', file('$R'))", "SELECT if(1, file('$R'), '')", "SELECT CASE WHEN 1 THEN file('$R') END", "SELECT file('$R')::String",
    "SELECT CAST(file('$R') AS String)", "SELECT length(file('$R'))", "SELECT match(file('$R'), 'secret')", "SELECT file('$R') LIKE 'a%'",
    "SELECT NOT empty(file('$R'))", "SELECT any(file('$R'))", "SELECT countIf(file('$R') != '')", "SELECT count() FILTER (WHERE file('$R') != '')",
    "SELECT quantile(length(file('$R')) / 1e9)(number) FROM numbers(2)", "SELECT sum(number) OVER (ORDER BY file('$R')) FROM numbers(2)",
    "SELECT sum(number) OVER w FROM numbers(2) WINDOW w AS (PARTITION BY file('$R'))",
    "SELECT sum(number) OVER (ORDER BY number ROWS BETWEEN length(file('$R')) PRECEDING AND CURRENT ROW) FROM numbers(2)",
    "SELECT arrayMap(file, ['$R'])", "SELECT arrayMap(x -> file(x), ['$R'])", "SELECT arrayFilter(x -> file(x) != '', ['$R'])",
    "SELECT arrayFold((a, x) -> file(x), ['$R'], '')", "WITH x -> file(x) AS f SELECT f('$R')", "WITH file('$R') AS f SELECT f", "WITH file AS f SELECT f('$R')",
    "WITH c AS (SELECT file('$R') AS f) SELECT f FROM c", "WITH RECURSIVE c AS (SELECT 1 AS n UNION ALL SELECT n + length(file('$R')) FROM c WHERE n < 9) SELECT * FROM c",
    "SELECT (SELECT file('$R'))", "SELECT (SELECT (SELECT (SELECT file('$R'))))", "SELECT * FROM (SELECT file('$R'))", "SELECT EXISTS(SELECT file('$R'))",
    "SELECT 1 WHERE file('$R') != ''", "SELECT 1 FROM spans PREWHERE file('$R') != ''", "SELECT count() HAVING file('$R') != ''", "SELECT 1 QUALIFY file('$R') != ''",
    "SELECT 1 ORDER BY file('$R')", "SELECT count() GROUP BY file('$R')", "SELECT 1 GROUP BY GROUPING SETS ((file('$R')))", "SELECT 1 LIMIT length(file('$R'))",
    "SELECT 1 LIMIT 1 OFFSET length(file('$R'))", "SELECT number FROM numbers(2) LIMIT 1 BY file('$R')", "SELECT DISTINCT ON (file('$R')) 1",
    "SELECT number FROM numbers(2) ORDER BY number WITH FILL FROM 0 TO length(file('$R'))", "SELECT number FROM numbers(2) ORDER BY number WITH FILL STEP length(file('$R'))",
    "SELECT number, 'x' AS s FROM numbers(2) ORDER BY number WITH FILL TO 5 INTERPOLATE (s AS file('$R'))",
    "SELECT 1 FROM numbers(1) ARRAY JOIN [file('$R')] AS x", "SELECT 1 FROM numbers(1) a JOIN numbers(1) b ON file('$R') != ''", "SELECT 1 IN (file('$R'))", "SELECT '' IN (SELECT file('$R'))",
    "SELECT 1 UNION ALL SELECT length(file('$R'))", "SELECT 1 INTERSECT SELECT length(file('$R'))", "SELECT 1 EXCEPT SELECT length(file('$R'))", "(SELECT 1) UNION DISTINCT (SELECT length(file('$R')))",
    "SELECT * REPLACE(file('$R') AS name) FROM spans", "SELECT * APPLY(file) FROM (SELECT '$R')", "SELECT * APPLY file FROM (SELECT '$R')", "SELECT COLUMNS('x') APPLY(x -> file(x)) FROM (SELECT '$R' AS x)",
    "SELECT * FROM numbers(length(file('$R')))", "SELECT * FROM values('x String', file('$R'))", "SELECT * FROM generate_series(1, length(file('$R')))",
    "DESCRIBE (SELECT file('$R'))", "FROM numbers(1) SELECT file('$R')", "FROM numbers(1) |> SELECT file('$R')", "VALUES (file('$R'))", "SELECT * FROM (VALUES (file('$R')))",
]  # fmt: skip
HIDDEN_FROM_THE_TREE = [
    "SHOW TABLES WHERE file('$R') != ''", "SHOW TABLES WHERE name = 'spans' AND position(file('$R'), 'secret') > 0", "SHOW TABLES FROM system WHERE `file`('$R') != ''",
    "SHOW DATABASES WHERE file('$R') != ''", "SHOW FULL TABLES WHERE file('$R') != ''", "SHOW TABLES WHERE 1 IN (SELECT length(file('$R')))", "SHOW TABLES WHERE 1 IN system.users",
    "SHOW TABLES WHERE (SELECT count() FROM system.processes) > 0", "SHOW TABLES LIKE 'x' LIMIT length(file('$R'))", "SHOW TABLES FROM default", "SHOW TABLES FROM system",
    "SHOW TABLES FROM `default`", "SHOW DICTIONARIES WHERE file('$R') != ''", "SHOW SETTINGS LIKE 'max%'", "SHOW CLUSTERS", "SHOW CLUSTER 'default'", "SHOW MERGES",
    "SHOW FILESYSTEM CACHES", "SHOW TABLES NOT LIKE 'a' WHERE file('$R') != ''", "SHOW TABLES --\nWHERE file('$R') != ''",
]  # fmt: skip
TABLE_FUNCTIONS = [
    "SELECT * FROM file('$R')", "SELECT * FROM file('$R', 'LineAsString')", "SELECT * FROM File('$R', CSV)", "SELECT * FROM `file`('$R', CSV)", "SELECT * FROM filesystem('$D')",
    "SELECT * FROM fileCluster('default', '$R')", "SELECT * FROM url('http://127.0.0.1:1/', CSV, 'x String')", "SELECT * FROM url('file://$R', CSV, 'x String')",
    "SELECT * FROM urlCluster('c', 'http://127.0.0.1')", "SELECT * FROM s3('http://127.0.0.1/x')", "SELECT * FROM s3Cluster('c', 'http://127.0.0.1/x')", "SELECT * FROM gcs('http://127.0.0.1/x')",
    "SELECT * FROM oss('http://127.0.0.1/x')", "SELECT * FROM azureBlobStorage('x', 'y', 'z')", "SELECT * FROM hdfs('hdfs://127.0.0.1/x', 'TSV', 'x String')", "SELECT * FROM remote('127.0.0.1', system.one)",
    "SELECT * FROM remoteSecure('127.0.0.1', system.one)", "SELECT * FROM cluster('default', system.one)", "SELECT * FROM clusterAllReplicas('default', system.one)",
    "SELECT * FROM executable('id', TSV, 'x String')", "SELECT * FROM executable('cat $R', 'LineAsString', 'line String')", "SELECT * FROM python('x')", "SELECT * FROM Python(x)", "SELECT * FROM eval('1')",
    "SELECT * FROM loop(system.one)", "SELECT * FROM view(SELECT * FROM system.users)", "SELECT * FROM viewIfPermitted(SELECT 1 ELSE null('x UInt8'))", "SELECT * FROM viewExplain('EXPLAIN', '', (SELECT 1))",
    "SELECT * FROM (EXPLAIN SELECT 1)", "SELECT * FROM merge('system', '.*')", "SELECT * FROM merge('.*')", "SELECT * FROM dictionary('d')", "SELECT * FROM mysql('h:1', 'd', 't', 'u', 'p')",
    "SELECT * FROM postgresql('h:1', 'd', 't', 'u', 'p')", "SELECT * FROM sqlite('$R', 't')", "SELECT * FROM mongodb('h:1', 'd', 'c', 'u', 'p', 'x String')", "SELECT * FROM redis('h:1', 'k', 'k String')",
    "SELECT * FROM odbc('DSN=x', 'd', 't')", "SELECT * FROM jdbc('x', 'd', 't')", "SELECT * FROM iceberg('http://127.0.0.1/x')", "SELECT * FROM icebergLocal('$D')", "SELECT * FROM deltaLake('http://127.0.0.1/x')",
    "SELECT * FROM deltaLakeLocal('$D')", "SELECT * FROM hudi('http://127.0.0.1/x')", "SELECT * FROM paimonLocal('$D')", "SELECT * FROM ytsaurus('x', 'y', 'z', 'x String')", "SELECT * FROM bigquery('x')",
    "SELECT * FROM input('x String')", "SELECT * FROM format(CSV, '1')", "SELECT * FROM fuzzQuery('SELECT 1')", "SELECT * FROM fuzzJSON('x', 'y')", "SELECT * FROM generateRandom('x UInt8')",
    "SELECT * FROM mergeTreeIndex('tailsight', 'spans')", "SELECT * FROM mergeTreeProjection('tailsight', 'spans', 'p')", "SELECT * FROM null('x String')", "SELECT * FROM prometheusQuery('x', 'y', 1)",
    "SELECT * FROM timeSeriesData('x')", "SELECT * FROM arrowstream('x')", "SELECT * FROM numbers(1), url('http://127.0.0.1', CSV, 'x String')", "SELECT 1 IN (SELECT * FROM file('$R', CSV, 'x String'))",
    "DESCRIBE TABLE file('$R')", "DESCRIBE url('http://127.0.0.1')", "SELECT 1 FROM numbers(1) JOIN file('$R', CSV, 'x String') f ON 1",
]  # fmt: skip
TABLES = [
    "SELECT * FROM `$R`", "SELECT * FROM '$R'", "SELECT * FROM default.`$R`", "SELECT * FROM default.`/etc/passwd`", "SELECT * FROM \"default\".\"/etc/hostname\"", "SELECT 1 IN default.`/etc/hostname`",
    "DESCRIBE default.`/etc/passwd`", "EXISTS default.`/etc/passwd`", "SHOW CREATE TABLE default.`/etc/passwd`", "SELECT * FROM `/etc/passwd`", "SELECT * FROM tailsight.`/etc/passwd`", "SELECT * FROM default.spans2",
    "SELECT * FROM system.users", "SELECT * FROM SYSTEM.users", "SELECT * FROM `system`.`users`", "SELECT * FROM `system.users`", "SELECT * FROM system . users", "SELECT * FROM system/**/./**/users", "SELECT * FROM \"system\".users",
    "SELECT * FROM spans, system.users", "SELECT * FROM spans s JOIN system.users u ON 1", "SELECT (SELECT count() FROM system.users)", "WITH u AS (SELECT * FROM system.users) SELECT * FROM u", "SELECT 1 UNION ALL SELECT 1 FROM system.users",
    "SELECT 1 IN system.users", "SELECT 1 NOT IN system.users", "SELECT 1 GLOBAL IN system.users", "SELECT in(1, system.users)", "SELECT nullIn(1, system.users)", "SELECT globalNotNullIn(1, system.users)", "SELECT inIgnoreSet(1, system.users)",
    "SELECT * FROM system.query_log", "SELECT * FROM system.processes", "SELECT * FROM system.grants", "SELECT * FROM system.server_settings", "SELECT * FROM system.macros", "SELECT * FROM system.clusters", "SELECT * FROM system.errors",
    "SELECT * FROM system.disks", "SELECT * FROM system.named_collections", "SELECT * FROM system.stack_trace", "SELECT * FROM system.environment_variables", "SELECT * FROM system.text_log", "SELECT * FROM system.zookeeper WHERE path = '/'",
    "SELECT * FROM information_schema.tables", "SELECT * FROM INFORMATION_SCHEMA.COLUMNS", "SELECT * FROM _temporary_and_external_tables.x", "EXISTS TABLE system.users", "EXISTS system.users", "EXISTS DATABASE system", "EXISTS DICTIONARY x",
    "SHOW CREATE TABLE system.users", "SHOW CREATE system.users", "SHOW CREATE DATABASE system", "SHOW COLUMNS FROM system.users", "SHOW INDEX FROM spans", "DESCRIBE TABLE system.users", "DESC system.users", "DESCRIBE (SELECT * FROM system.users)",
]  # fmt: skip
FUNCTIONS = [
    "SELECT dictGet('a', 'b', 1)", "SELECT dictHas('a', 1)", "SELECT joinGet('a', 'b', 1)", "SELECT regionToName(1)", "SELECT catboostEvaluate('$R', 1)", "SELECT evalMLMethod(1, 2)", "SELECT naiveBayesClassifier('m', 'x')",
    "SELECT getSetting('readonly')", "SELECT getSettingOrDefault('a', 1)", "SELECT getServerSetting('max_threads')", "SELECT getMergeTreeSetting('x')", "SELECT getMacro('x')", "SELECT globalVariable('x')", "SELECT getServerPort('http')", "SELECT tcpPort()",
    "SELECT FQDN()", "SELECT fqdn()", "SELECT fullHostName()", "SELECT getOSKernelVersion()", "SELECT buildId()", "SELECT showCertificate()", "SELECT filesystemAvailable()", "SELECT filesystemCapacity()", "SELECT currentRoles()", "SELECT getClientHTTPHeader('x')",
    "SELECT addressToLine(1)", "SELECT addressToSymbol(1)", "SELECT demangle('x')", "SELECT logTrace('x')", "SELECT tid()", "SELECT sleep(3)", "SELECT sleepEachRow(1) FROM numbers(3)", "SELECT SLEEP(3)", "SELECT throwIf(1)",
    "SELECT hasColumnInTable('system', 'users', 'name')", "SELECT generateSerialID('x')", "SELECT encrypt('aes-128-ecb', 'x', '0123456789abcdef')", "SELECT decrypt('aes-128-ecb', 'x', '0123456789abcdef')", "SELECT aiGenerate('x')", "SELECT aiEmbed('x')",
    "SELECT formatRow('Template', 1)", "SELECT formatRowNoNewline('CSV', 1)", "SELECT fuzzQuery('SELECT 1')", "SELECT obfuscateQuery('SELECT 1')", "SELECT __getScalar('x')", "SELECT __actionName(1, 'x')", "SELECT tailsight_inner_json(1)",
    "SELECT initializeAggregation('any', 1)", "SELECT hasThreadFuzzer()", "SELECT transactionID()", "SELECT zookeeperSessionUptime()", "SELECT structureToProtobufSchema('x String')", "SELECT generateRandomStructure(1)",
    "SELECT arrayLevenshteinDistance(range(300000), range(1, 300001))", "SELECT arrayLevenshteinDistanceWeighted([1], [2], [1.], [1.])", "SELECT arraySimilarity([1], [2], [1.], [1.])", "SELECT arrayMap(sleep, [3])",
]  # fmt: skip
STATEMENTS = [
    "INSERT INTO spans SELECT * FROM spans", "INSERT INTO FUNCTION file('$W') SELECT 1", "INSERT INTO spans VALUES (1)", "WITH 1 AS x INSERT INTO spans SELECT x", "CREATE TABLE x (a Int8) ENGINE = Memory", "CREATE TEMPORARY TABLE x (a Int8)",
    "CREATE TABLE x ENGINE = File(CSV, '$W') AS SELECT 1", "CREATE TABLE x AS file('$R')", "CREATE VIEW v AS SELECT file('$R')", "CREATE MATERIALIZED VIEW v ENGINE = Memory AS SELECT 1", "CREATE FUNCTION f AS (x) -> file(x)", "CREATE DICTIONARY d (x UInt8) PRIMARY KEY x SOURCE(FILE(path '$R' format 'CSV')) LAYOUT(FLAT()) LIFETIME(0)",
    "CREATE DATABASE x", "CREATE USER x", "CREATE NAMED COLLECTION c AS a = 1", "CREATE WORKLOAD all", "ALTER TABLE spans DELETE WHERE 1", "ALTER TABLE spans MODIFY TTL received_at", "ALTER USER default IDENTIFIED BY 'x'", "UPDATE spans SET name = 'x' WHERE 1", "DELETE FROM spans WHERE 1",
    "DROP TABLE spans", "DROP DATABASE tailsight", "DROP VIEW otlp_traces_flat", "DETACH TABLE spans", "ATTACH TABLE spans", "TRUNCATE TABLE spans", "TRUNCATE DATABASE tailsight", "RENAME TABLE spans TO x", "EXCHANGE TABLES spans AND rejected_spans", "UNDROP TABLE spans", "OPTIMIZE TABLE spans FINAL",
    "SYSTEM FLUSH LOGS", "SYSTEM SHUTDOWN", "SYSTEM STOP MERGES", "SYSTEM RELOAD CONFIG", "SYSTEM DROP MARK CACHE", "SYSTEM ENABLE FAILPOINT x", "SET readonly = 0", "SET max_memory_usage = 0", "SET ROLE x", "SET param_x = 1", "USE system", "KILL QUERY WHERE 1", "KILL MUTATION WHERE 1",
    "GRANT ALL ON *.* TO default", "REVOKE ALL ON *.* FROM default", "BACKUP TABLE spans TO File('$W')", "BACKUP DATABASE tailsight TO Disk('d', 'x')", "RESTORE TABLE spans FROM File('$W')", "MOVE USER x TO y", "CHECK TABLE spans", "CHECK ALL TABLES", "EXECUTE AS default SELECT 1",
    "BEGIN TRANSACTION", "COMMIT", "ROLLBACK", "EXPLAIN SELECT 1", "EXPLAIN AST SELECT 1", "EXPLAIN SYNTAX SELECT 1", "EXPLAIN QUERY TREE SELECT 1", "EXPLAIN PIPELINE SELECT 1", "EXPLAIN ESTIMATE SELECT * FROM spans", "EXPLAIN PLAN SELECT file('$R')", "EXPLAIN AST optimize = 1 SELECT 1",
    "SHOW PROCESSLIST", "SHOW GRANTS", "SHOW USERS", "SHOW ACCESS", "SHOW CREATE USER default", "SHOW FUNCTIONS", "SHOW ENGINES", "SHOW SETTING readonly", "PREPARE x", "DECLARE x", "COPY spans TO '$W'", "LOAD DATA INFILE '$R'", "PARALLEL WITH DROP TABLE a PARALLEL WITH DROP TABLE b", "TABLE spans", "nonsense", "", ";",
]  # fmt: skip
# A name with a line break in it writes a line of the tree: what follows seems to stand below another node.
_NODE = "SelectWithUnionQuery (children 1"
_LINE = f"\n{_NODE}"
FORGED = [
    f"SELECT arrayMap(file, ['$R']) AS `a){_LINE}`", f"SELECT arrayMap(file, ['$R']) AS \"a){_LINE}\"", f"SELECT arrayMap(file, ['$R']) AS `a)\\n{_NODE}`",
    f"SELECT arrayMap(file, ['$R']) AS `a)\\x0A{_NODE}`", f"SELECT arrayMap(file, ['$R']) AS `a) (children 1){_LINE}`", f"SELECT arrayMap(file, ['$R']) AS `a){_LINE})\n ExpressionList (children 1`",
    f"SELECT in(tuple(1) AS `a){_LINE}`, system.users)", f"SELECT in(1 AS `a){_LINE}`, default.`$R`)", f"SELECT arrayMap(`x{_LINE}`, [file], ['$R'])", "SELECT 1 AS `a\nb`", "SELECT number AS `a)\nLiteral x` FROM numbers(1)",
    f"WITH `c{_LINE}` AS (SELECT arrayMap(file, ['$R'])) SELECT 1", f"SELECT 1 FROM numbers(1) AS `a){_LINE}` WHERE arrayMap(file, ['$R']) != []",
]  # fmt: skip
COLUMNS_AS_TEXT = [
    "SELECT y FROM values('x UInt8, y String ALIAS \\x66ile(\\'$R\\')', 1)", "SELECT y FROM values('x UInt8, y String DEFAULT \\x66ile(\\'$R\\')', 1)", "DESCRIBE values('y String ALIAS \\x66ile(\\'$R\\')', 1)",
    "SELECT * FROM values('x UInt8', 1)", "SELECT * FROM `values`('x UInt8', 1)", "SELECT arrayReduceInRanges('sum', [(1, 1)], [1])", "SELECT arrayReduce('groupFormat(\\'Template\\')', [1])", "SELECT groupFormat('CSV')(1)",
    "SELECT groupFormatIf('CSV')(1, 1)", "SELECT kolmogorovSmirnovTest('two-sided', 'exact')(number, number % 2) FROM numbers(9)",
]  # fmt: skip
OUTFILE = [
    "SELECT 1 INTO OUTFILE '$W'", "SELECT 1 into outfile '$W'", "SELECT 1 INTO/**/OUTFILE/**/'$W'", "SELECT 1 INTO OUTFILE '$W' TRUNCATE", "SELECT 1 INTO OUTFILE '$W' APPEND", "SELECT 1 INTO OUTFILE '$W' AND STDOUT", "SELECT 1 INTO OUTFILE '$W' FORMAT Native",
    "SELECT 1 INTO OUTFILE '$W' COMPRESSION 'gzip' LEVEL 1", "SELECT 1 UNION ALL SELECT 2 INTO OUTFILE '$W'", "(SELECT 1) INTO OUTFILE '$W'", "SELECT 1 INTERSECT SELECT 1 INTO OUTFILE '$W'", "SHOW TABLES INTO OUTFILE '$W'", "DESCRIBE TABLE spans INTO OUTFILE '$W'",
    "EXISTS TABLE spans INTO OUTFILE '$W'", "SHOW CREATE TABLE spans INTO OUTFILE '$W'", "SELECT * FROM (SELECT 1 INTO OUTFILE '$W')", "SELECT 1 INTO OUTFILE {w:String}", "WITH 1 AS x SELECT x INTO OUTFILE '$W'", "SELECT 1 INTO\u00a0OUTFILE '$W'", "SELECT 1 FORMAT CSV INTO OUTFILE '$W'",
]  # fmt: skip
LIMITS = [
    "SELECT 1 SETTINGS max_memory_usage = 0", "SELECT 1 SETTINGS readonly = 0", "SELECT 1 SETTINGS max_execution_time = 0", "SELECT 1 SETTINGS max_threads = 64", "SELECT * FROM (SELECT 1 SETTINGS max_threads = 64)", "SELECT 1 settings/**/max_result_rows=0", "SELECT 1 SETTINGS allow_introspection_functions = 1",
    "SELECT 1 UNION ALL SELECT 2 SETTINGS max_threads = 64", "DESCRIBE TABLE spans SETTINGS describe_include_subcolumns = 1", "SELECT 1 FORMAT CSV SETTINGS format_csv_delimiter = '|'", "SELECT 1 SETTINGS format_schema = '$R'", "SELECT 1 SETTINGS log_comment = 'x'", "SELECT 1 SETTINGS profile = 'default'",
]  # fmt: skip
SEVERAL = [
    "SELECT 1; DROP TABLE spans", "SELECT 1;\nSELECT 2", "; SELECT 1", "SELECT 1;;", "SELECT 1; -- x", "SELECT ';'", "SELECT 1 /* ; */", "SELECT 1 -- ; SELECT 2", "SELECT `;`", "SELECT $$;$$", "SELECT $a$; DROP TABLE spans$a$", "EXPLAIN AST SELECT 1; DROP TABLE spans", "SELECT 1 FORMAT Null; SELECT file('$R')",
    "SELECT 1\0; DROP TABLE spans", "SELECT 1\u037e DROP TABLE spans", "SELECT 1 DROP TABLE spans", "SELECT 1\nSELECT 2", "SELECT 1 FORMAT CSV\nDROP TABLE spans", "*/ SELECT 1", "SELECT 1 /*", "tailsight */ DROP TABLE spans /*",
]  # fmt: skip
FORMATS = [
    "SELECT 1 FORMAT Template", "SELECT 1 FORMAT Protobuf", "SELECT 1 FORMAT ProtobufSingle", "SELECT 1 FORMAT CapnProto", "SELECT 1 FORMAT MySQLWire", "SELECT 1 FORMAT PostgreSQLWire", "SELECT 1 FORMAT AvroConfluent", "SELECT 1 FORMAT PNG", "SELECT 1 FORMAT Nonsense", "SELECT 1 FORMAT `CSV; DROP`", "SELECT 1 FORMAT {f:Identifier}",
]  # fmt: skip
CLASSES = {
    "file": SCALAR_FILE, "hidden": HIDDEN_FROM_THE_TREE, "table function": TABLE_FUNCTIONS, "table": TABLES, "function": FUNCTIONS,
    "statement": STATEMENTS, "outfile": OUTFILE, "limit": LIMITS, "several": SEVERAL, "format": FORMATS,
    "forged": FORGED, "columns": COLUMNS_AS_TEXT,
}  # fmt: skip
ATTACKS = [(kind, attack) for kind, attacks in CLASSES.items() for attack in attacks]


@pytest.fixture(scope="module", autouse=True)
def host():
    FOLDER.mkdir()
    Path(READ).write_text(f"name,value\n{SECRET},1\n")
    yield
    Path(READ).unlink()
    FOLDER.rmdir()  # fails where anything was written


@pytest.fixture(scope="module")
def url(collector):
    return "http://" + collector.store.removeprefix("clickhouse://").removesuffix("/tailsight")


@pytest.fixture(scope="module")
def web(url):
    with httpx.Client(base_url=url, timeout=60) as client:
        yield client


def assert_refused(answer):
    assert answer.status_code in (400, 403, 404), answer.text
    assert "Code: " in answer.text
    assert SECRET not in answer.text
    assert sorted(path.name for path in FOLDER.iterdir()) == ["secret.csv"]


def test_the_list_is_long_and_every_attack_is_another():
    assert len({attack for _, attack in ATTACKS}) == len(ATTACKS) > 300


@pytest.mark.parametrize(("kind", "attack"), ATTACKS)
def test_an_attack_is_refused(web, kind, attack):
    text = attack.replace("$R", READ).replace("$W", WRITE).replace("$D", str(FOLDER))
    assert_refused(web.post("/", content=text.encode()))


@pytest.mark.parametrize(
    "params",
    [
        {"query": "SELECT * FROM {t:Identifier}", "param_t": "system.users"}, {"query": "SELECT * FROM {d:Identifier}.users", "param_d": "system"},
        {"query": "SELECT * FROM {d:Identifier}.{t:Identifier}", "param_d": "system", "param_t": "users"}, {"query": "SELECT {f:Identifier}('$R')", "param_f": "file"},
        {"query": "SELECT * FROM {f:Identifier}('$R')", "param_f": "file"}, {"query": "SELECT 1 IN {t:Identifier}", "param_t": "system.users"}, {"query": "DESCRIBE TABLE {t:Identifier}", "param_t": "system.users"},
        {"query": "EXISTS TABLE {t:Identifier}", "param_t": "system.users"}, {"query": "EXISTS DATABASE {t:Identifier}", "param_t": "system"}, {"query": "SELECT arrayMap({f:Identifier}, ['$R'])", "param_f": "file"},
        {"query": "SELECT y FROM values({s:String}, 1)", "param_s": "x UInt8, y String ALIAS file('$R')"}, {"query": "SELECT arrayMap(file, ['$R']) AS {n:Identifier}", "param_n": f"a){_LINE}"},
        {"query": "SELECT * FROM numbers({n:UInt64})", "param_n": "length(file('$R'))"}, {"query": "SELECT {x:String}", "param_x": "'"  , "param_a b": "1"}, {"query": "SELECT %(x)s", "param_x": "file('$R')"},
        {"query": "SELECT {x:Raw}", "param_x": "file('$R')"}, {"query": "SELECT 1", "param_": "x"}, {"query": "SELECT 1", "param_x;y": "1"}, {"query": "SELECT 1", "param_x=1; SELECT file('$R'); --": "1"},
        {"query": "SELECT * FROM users", "database": "system"}, {"query": "SELECT 1", "database": "default.`/etc`"}, {"query": "SELECT 1", "database": "tailsight; DROP TABLE spans"},
        {"query": "SELECT 1", "default_format": "Native INTO OUTFILE '$W'"}, {"query": "SELECT 1", "default_format": "Template"}, {"query": "SELECT 1", "default_format": "CSV SETTINGS readonly=0"},
        {"query": "SELECT 1", "compress": "1"}, {"query": "SELECT 1", "decompress": "1"}, {"query": "SELECT file('$R')", "readonly": "0", "max_memory_usage": "0"}, {"query": "SELECT 1 FROM x", "x_structure": "a String", "x_format": "CSV"},
    ],
)  # fmt: skip
def test_the_address_cannot_reach_around_the_guard(web, params):
    filled = {
        name.replace("$R", READ): value.replace("$R", READ).replace("$W", WRITE) for name, value in params.items()
    }
    assert_refused(web.get("/", params=filled))


@pytest.mark.parametrize(
    ("name", "value"),
    [("readonly", "0"), ("max_execution_time", "0"), ("max_memory_usage", "0"), ("max_threads", "64"), ("max_result_rows", "0"), ("allow_introspection_functions", "1"),
     ("log_queries", "1"), ("format_schema", "/etc/passwd"), ("http_response_buffer_size", "1")],
)  # fmt: skip
def test_settings_in_the_address_are_not_applied(web, name, value):
    query = {"query": "SELECT value FROM system.settings WHERE name = {name:String}", "param_name": name}
    assert web.get("/", params={**query, name: value}).text == web.get("/", params=query).text


@pytest.mark.parametrize(
    "extra",
    [{"session_id": "x", "session_check": "1"}, {"session_timeout": "9"}, {"quota_key": "x"}, {"role": "admin"}, {"stacktrace": "1"}, {"buffer_size": "0"}, {"add_http_cors_header": "1"},
     {"query_id": "a\r\nX-Evil: 1"}, {"query_id": "€"}, {"wait_end_of_query": "1"}, {"client_protocol_version": "99999999999999"}, {"client_protocol_version": "-1"}, {"client_protocol_version": "½"}],
)  # fmt: skip
def test_odd_transport_parameters_change_nothing(web, extra):
    answer = web.get("/", params={"query": "SELECT 1", **extra})
    assert (answer.status_code, answer.text) == (200, "1\n")
    assert not {"access-control-allow-origin", "x-evil"} & {name.lower() for name in answer.headers}


def test_a_session_keeps_nothing_from_one_request_to_the_next(web):
    for statement in ("CREATE TEMPORARY TABLE mine (a UInt8)", "SET max_threads = 9"):
        assert_refused(web.post("/", params={"session_id": "mine"}, content=statement))
    assert web.post("/", params={"session_id": "mine"}, content="SELECT * FROM mine").status_code == 404


@pytest.mark.parametrize(
    ("data", "files"),
    [
        ({"query": "SELECT * FROM x"}, {"x": ("x", b"1\n")}), ({"query": "SELECT file('$R')"}, {}), ({"query": "SELECT * FROM {t:Identifier}", "param_t": "system.users"}, {}),
        ({"query": "SELECT 1 INTO OUTFILE '$W'"}, {}), ({}, {"query": ("q", b"SELECT 1")}), ({"query": "INSERT INTO spans VALUES (1)"}, {}),
    ],
)  # fmt: skip
def test_a_form_is_checked_like_everything_else(web, data, files):
    fields = {name: (None, value.replace("$R", READ).replace("$W", WRITE)) for name, value in data.items()}
    assert_refused(web.post("/", files={**fields, **files}))


@pytest.mark.parametrize(
    "body", [b"--x\r\n", b"--x--", b"--x\r\n\r\nSELECT 1\r\n--x--", b"--x\r\n" * 5000 + b"--x--", b"\xff" * 100, b""]
)
def test_a_broken_form_is_refused(web, body):
    assert web.post("/", content=body, headers={"Content-Type": "multipart/form-data; boundary=x"}).status_code in (
        400,
        403,
    )


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xfe",
        b"SELECT '\xff'",
        b"\x1f\x8b\x08\x00",
        b"SELECT 1" + b" " * 2_000_000,
        b"SELECT '" + b"x" * 500_000 + b"'",
    ],
)
def test_bodies_that_are_no_statement_are_refused(web, body):
    assert_refused(web.post("/", content=body))


@pytest.mark.parametrize(
    "statement",
    ["SELECT " + "(" * 5000 + "1" + ")" * 5000, "SELECT " + "[" * 5000 + "]" * 5000, "SELECT " + "NOT " * 5000 + "1", "SELECT " + "- " * 20000 + "1", "SELECT 1" + "::UInt8" * 5000,
     "SELECT * FROM " + "(SELECT * FROM " * 400 + "numbers(1)" + ")" * 400, "SELECT CAST([] AS " + "Array(" * 900 + "UInt8" + ")" * 900 + ")",
     "WITH 1 AS a0, " + ", ".join(f"(a{i}, a{i}) AS a{i + 1}" for i in range(40)) + " SELECT a40", "a/*" * 80_000, "SELECT " + " (alias x" * 20_000],
)  # fmt: skip
def test_deep_and_growing_statements_are_refused_quickly(web, statement):
    assert_refused(web.post("/", content=statement))
    assert web.get("/", params={"query": "SELECT 1"}).text == "1\n"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example:8123"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "script"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_web_pages_are_not_answered(web, headers):
    assert web.get("/", params={"query": "SELECT 1"}, headers=headers).status_code == 403


def test_no_browser_takes_an_answer_for_a_script(web):
    for statement in ("SELECT 'leak()' FORMAT RawBLOB", "nonsense"):
        answer = web.get("/", params={"query": statement}, headers={"Sec-Fetch-Site": "none"})
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_names_and_texts_with_other_line_ends_are_only_odd(web):
    for name in ("a\u2028b", "a\x0bb", "a\x1cb", "a\tb", "a\rb", "a (alias b)"):
        assert web.post("/", content=f"SELECT 1 AS `{name}`, 'a\nb' AS c, `{name}` + 1").text == "1\ta\\nb\t2\n"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(web, method):
    assert web.request(method, "/", params={"query": "SELECT 1"}).status_code == 405


def test_everything_still_answers_afterwards(web):
    assert web.post("/", content="SELECT count() >= 0 FROM spans").text == "1\n"
