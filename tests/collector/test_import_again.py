"""The same file twice adds nothing: through a real collector, after its restart, after a cut-off import, and in a store."""

import json
import signal
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from testkit.importing import DATA
from testkit.processes import CollectorProcess
from testkit.senders import Sidecar

from tailsight_collector.errors import CollectorError
from tailsight_collector.importer import CollectorTarget, StoreTarget, import_files
from tailsight_collector.importing import targets
from tailsight_collector.importing.spool import Batch
from tailsight_collector.keep.records import encode_varint
from tailsight_storage import open_store

BASE_US = 1_790_000_000 * 1_000_000
SPANS = 12_000  # three batches


def zipkin_file(folder: Path, service: str, spans: int = SPANS) -> Path:
    path = folder / f"{service}.json"
    records = [
        {
            "traceId": f"{number + 1:032x}", "id": f"{number + 1:016x}", "name": "get", "kind": "SERVER",
            "timestamp": BASE_US + number * 1000, "duration": 500 + number % 100,
            "localEndpoint": {"serviceName": service}, "tags": {"n": str(number)},
        }
        for number in range(spans)
    ]  # fmt: skip
    path.write_text(json.dumps(records))
    return path


def stored(collector: CollectorProcess, service: str) -> tuple[int, int]:
    """Spans of a service, and how many of them are distinct."""
    collector.wait_until_loaded()
    with open_store(collector.store) as reader:
        [found] = reader.rows(
            "SELECT count(), uniqExact(trace_id, span_id) FROM spans WHERE service = {service:String}", service=service
        )
    return found


class CutOffError(Exception):
    """What a user's Ctrl-C is."""


class CutOffAfter(CollectorTarget):
    """An import that is stopped after some batches."""

    def __init__(self, endpoint: str, batches: int) -> None:
        super().__init__(endpoint)
        self._left = batches

    def _post(self, client, body):
        if not self._left:
            raise CutOffError
        self._left -= 1
        super()._post(client, body)


def test_a_collector_stores_a_file_once_however_often_it_comes(collector, tmp_path):
    path = zipkin_file(tmp_path, "import-twice")
    for _ in range(3):
        assert import_files([path], CollectorTarget(collector.otlp_url)).accepted_spans == SPANS
    assert stored(collector, "import-twice") == (SPANS, SPANS)


def test_packed_or_not_it_is_the_same_content(collector, tmp_path):
    import gzip

    path = zipkin_file(tmp_path, "import-packed", 10)
    packed = tmp_path / "packed.json.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    for each in (path, packed):
        import_files([each], CollectorTarget(collector.otlp_url))
    assert stored(collector, "import-packed") == (10, 10)
    both = import_files([path, packed], CollectorTarget(collector.otlp_url))
    assert [each.same_as for each in both.reports] == ["", str(path)]
    assert (both.spans, both.already) == (20, 10)


def test_with_another_label_it_is_another_content(collector, tmp_path):
    path = zipkin_file(tmp_path, "import-labels", 10)
    for run in ("a", "b", "a"):
        import_files([path], CollectorTarget(collector.otlp_url), run=run)
    assert stored(collector, "import-labels") == (20, 10)


@pytest.mark.parametrize("native", ["1", "0"])
def test_an_import_that_was_cut_off_goes_on_though_the_collector_was_killed(tmp_path, monkeypatch, native):
    monkeypatch.setenv("TAILSIGHT_NATIVE", native)
    path = zipkin_file(tmp_path, "import-cut-off")
    with CollectorProcess(tmp_path / "data") as collector:
        with suppress(CutOffError):
            import_files([path], CutOffAfter(collector.otlp_url, 2))
        first, _ = stored(collector, "import-cut-off")
        assert 0 < first < SPANS
        collector.kill()
        collector.start()
        import_files([path], CollectorTarget(collector.otlp_url))
        assert stored(collector, "import-cut-off") == (SPANS, SPANS)
        collector.stop()
        collector.start()
        import_files([path], CollectorTarget(collector.otlp_url))
        assert stored(collector, "import-cut-off") == (SPANS, SPANS)


def test_two_imports_of_one_file_at_once_store_it_once(collector, tmp_path):
    """Two processes' worth: each sends all batches, and both are told that all is well."""
    path = zipkin_file(tmp_path, "import-at-once")
    barrier = threading.Barrier(2)

    def run(_: int) -> int:
        barrier.wait(60)
        return import_files([path], CollectorTarget(collector.otlp_url)).accepted_spans

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, range(2))) == [SPANS, SPANS]
    assert stored(collector, "import-at-once") == (SPANS, SPANS)


def test_ctrl_c_in_the_middle_and_the_same_again_store_it_once(collector, tmp_path):
    """A process of its own, stopped while its second batch is on the way and not yet acknowledged."""
    path = zipkin_file(tmp_path, "import-ctrl-c")
    second, release = threading.Event(), threading.Event()
    bodies = []

    class Between(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            bodies.append(body)
            answer = collector.post(body)
            if len(bodies) == 2:
                second.set()
                release.wait(60)
                return
            self.send_response(answer.status_code)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Between) as between:
        threading.Thread(target=between.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{between.server_port}"
        command = [sys.executable, "-m", "tailsight_cli.main", "import", str(path), "--endpoint", url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert second.wait(60)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        release.set()
        between.shutdown()
    assert (process.returncode, out) == (130, "")
    assert err.strip() == "interrupted; what was stored stays, and the same command goes on from there"
    assert stored(collector, "import-ctrl-c") == (10_000, 10_000)
    import_files([path], CollectorTarget(collector.otlp_url))
    assert stored(collector, "import-ctrl-c") == (SPANS, SPANS)


def test_what_the_sdk_wrote_to_a_file_and_sent_too_is_stored_once(collector, tmp_path):
    sidecar = Sidecar(service="import-sdk-file")
    bodies = [sidecar.batch(5).SerializeToString() for _ in range(3)]
    path = tmp_path / "sdk.otlp"
    path.write_bytes(b"".join(encode_varint(len(body)) + body for body in bodies))
    assert collector.post(bodies[1]).status_code == 200
    for _ in range(2):
        import_files([path], CollectorTarget(collector.otlp_url))
    assert stored(collector, "import-sdk-file")[0] == 15
    import_files([path], CollectorTarget(collector.otlp_url), run="again")
    import_files([path], CollectorTarget(collector.otlp_url), run="again")
    assert stored(collector, "import-sdk-file")[0] == 30


def test_an_import_is_no_sender_of_whom_loss_is_told(store, tmp_path):
    import_files([zipkin_file(tmp_path, "import-no-sender", 10)], StoreTarget(store))
    [(rows,)] = store.rows("SELECT count() FROM sender_batches WHERE startsWith(sender, 'import-')")
    assert rows == 1
    from tailsight_storage import load_query

    [heard] = store.ask(load_query("tailsight_analysis", "senders_heard"))
    assert heard["batches"] == 0


def test_a_store_knows_what_it_has_by_the_numbers_and_not_by_the_day(store, tmp_path, monkeypatch):
    path = zipkin_file(tmp_path, "import-store", SPANS)
    assert import_files([path], StoreTarget(store)).already == 0
    inserted = []
    monkeypatch.setattr(store, "insert_otlp_traces", lambda *given, **_: inserted.append(given))
    again = import_files([path], StoreTarget(store))
    assert inserted == []
    assert (again.already, again.accepted_spans) == (SPANS, SPANS)
    assert store.rows("SELECT count() FROM spans") == [(SPANS,)]


def test_a_store_takes_a_file_again_whose_spans_were_deleted(store, tmp_path):
    path = zipkin_file(tmp_path, "import-deleted", 10)
    import_files([path], StoreTarget(store))
    store.run("TRUNCATE TABLE spans")
    again = import_files([path], StoreTarget(store))
    assert again.already == 0


def test_a_store_that_was_cut_off_between_spans_and_numbers_has_them_once(store, tmp_path, monkeypatch):
    path = zipkin_file(tmp_path, "import-between", SPANS)
    insert = store.insert_otlp_traces

    def cut_off(segment, token, **options):
        if token.endswith("-numbers"):
            raise CutOffError
        insert(segment, token, **options)

    monkeypatch.setattr(store, "insert_otlp_traces", cut_off)
    with suppress(CutOffError):
        import_files([path], StoreTarget(store))
    assert store.rows("SELECT count() FROM spans") == [(SPANS,)]
    monkeypatch.undo()
    import_files([path], StoreTarget(store))
    assert store.rows("SELECT count() FROM spans") == [(SPANS,)]


def test_a_broken_file_adds_nothing_and_the_others_are_read(store, tmp_path):
    whole = zipkin_file(tmp_path, "import-whole", 10)
    broken = zipkin_file(tmp_path, "import-broken", 5_000)
    broken.write_text(broken.read_text()[:-20])
    imported = import_files([broken, whole], StoreTarget(store))
    assert (imported.files, len(imported.failed)) == (1, 1)
    assert "it is not JSON at character" in imported.failed[0]
    assert store.rows("SELECT service, count() FROM spans GROUP BY service") == [("import-whole", 10)]


def test_a_collector_that_is_gone_ends_the_import_with_what_is_stored(collector, tmp_path):
    path = zipkin_file(tmp_path, "import-gone")

    class Gone(CollectorTarget):
        sent = 0

        def _post(self, client, body):
            self.sent += 1
            if self.sent > 1:
                raise CollectorError("collector is gone")
            super()._post(client, body)

    with pytest.raises(CollectorError, match=r"collector is gone \(5,000 of the 12,000 spans of .* are stored\)"):
        import_files([path], Gone(collector.otlp_url))


@pytest.mark.shared_data
@pytest.mark.skipif(not DATA.exists(), reason="../shared/data is not on this machine")
def test_the_spans_of_real_files_are_those_of_the_store(store):
    paths = [*sorted((DATA / "zipkin").iterdir()), DATA / "jaeger_ui" / "testTraceNormal.json"]
    for _ in range(2):
        imported = import_files(paths, StoreTarget(store))
        assert imported.rejected == Counter()
        # and one that the rules of sources make: from the producer's end until the consumer's start
        assert store.rows("SELECT count() FROM spans") == [(imported.accepted_spans + 1,)]
    halves = store.rows(
        "SELECT kind FROM spans WHERE attributes['zipkin.span_id'] != '' AND parent_span_id IN (SELECT span_id FROM spans)"
    )
    assert halves == [("SERVER",)] * 3


def test_batches_are_as_small_as_a_collector_wants_them(tmp_path):
    taken: list[Batch] = []

    class Taking:
        def send(self, batches, on_sent):
            taken.extend(batches)

    import_files([zipkin_file(tmp_path, "import-sizes")], Taking())
    assert [batch.spans for batch in taken] == [5_000, 5_000, 2_000]
    assert max(len(batch.body) for batch in taken) < targets.INSERT_BYTES
