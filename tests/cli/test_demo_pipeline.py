"""The sample pipeline: its parts, and the two processes end to end against an OTLP sink of our own."""

import ast
import asyncio
import http.server
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtlpSpan

from tailsight import attributes as keys
from tailsight.testing import capture
from tailsight_cli import demo
from tailsight_cli.demo import pipeline
from tailsight_cli.demo.app import Service, length_class
from tailsight_cli.demo.batcher import Batch, Batcher, QueueFullError
from tailsight_cli.demo.client import main as client_main
from tailsight_cli.demo.gc_watch import GcWatch
from tailsight_cli.demo.model import Model, ModelConfig
from tailsight_cli.demo.names import CLIENT_NAME, INFER_PATH, MODEL_NAME, SERVICE_NAME
from tailsight_cli.demo.pipeline import DemoError, PipelineResult, Progress, run_pipeline
from tailsight_cli.demo.tokenizer import DocumentCache, Tokenizer
from tailsight_cli.demo.workload import calls
from tailsight_cli.processes import Child

SMALL = ModelConfig(vocabulary=256, width=16, heads=2, layers=2, answers=32, max_tokens=64)
PATIENCE_S = 30.0

# --- the model ------------------------------------------------------------------------------------------------------


def test_model_gives_the_same_bits_for_the_same_batch() -> None:
    batch = [[1, 2, 3], [4, 5, 6, 7]]
    for first, second in zip(Model(SMALL).run(batch), Model(SMALL).run(batch), strict=True):
        assert first.scores.tobytes() == second.scores.tobytes()
        assert first.saliency.tobytes() == second.saliency.tobytes()


def test_model_does_not_let_padding_change_an_answer() -> None:
    model = Model(SMALL)
    (alone,) = model.run([[1, 2, 3]])
    padded, _longer = model.run([[1, 2, 3], list(range(60))])
    assert padded.scores == pytest.approx(alone.scores, rel=1e-3)
    assert padded.saliency == pytest.approx(alone.saliency, rel=1e-3)
    assert padded.saliency.shape == (3,)
    assert padded.saliency.sum() == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("length", [0, 65])
def test_model_names_the_input_that_it_cannot_take(length: int) -> None:
    with pytest.raises(ValueError, match=rf"input 1 of the batch has {length} tokens: give it 1 to 64"):
        Model(SMALL).run([[1], [1] * length])


# --- the batcher ----------------------------------------------------------------------------------------------------


def batching(
    scenario: Callable[[Batcher[int, int]], Any],
    run: Callable[[Sequence[int]], Sequence[int]] = lambda items: [item * 2 for item in items],
    **options: Any,
) -> Any:
    """Run a coroutine function beside a batcher that serves."""

    async def main() -> Any:
        batcher: Batcher[int, int] = Batcher(run, **options)
        serving = asyncio.create_task(batcher.serve())
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await scenario(batcher)
        finally:
            serving.cancel()

    return asyncio.run(main())


def test_batcher_refuses_when_its_queue_is_full() -> None:
    async def scenario(batcher: Batcher[int, int]) -> None:
        batcher.submit(1)
        assert batcher.submit(2).depth == 1
        with pytest.raises(QueueFullError, match="the queue holds 2 requests and takes no more"):
            batcher.submit(3)

    batching(scenario, max_queue=2)


def test_batcher_gives_each_item_its_own_result_in_batches_within_the_bound() -> None:
    async def scenario(batcher: Batcher[int, int]) -> tuple[list[int], list[Batch[int]]]:
        jobs = [batcher.submit(item) for item in range(10)]
        return [await job.finished for job in jobs], [await job.started for job in jobs]

    results, batches = batching(scenario, max_batch=4, max_wait_s=0.001)
    assert results == [item * 2 for item in range(10)]
    assert [batch.items for batch in dict.fromkeys(batches)] == [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9)]


def test_batcher_starts_a_full_batch_at_once() -> None:
    async def scenario(batcher: Batcher[int, int]) -> None:
        jobs = [batcher.submit(item) for item in range(2)]
        assert [await job.finished for job in jobs] == [0, 2]

    batching(scenario, max_batch=2, max_wait_s=10 * PATIENCE_S)  # waiting for the third would be seen


def test_batcher_lets_a_lone_item_wait_for_others_only_so_long() -> None:
    async def scenario(batcher: Batcher[int, int]) -> float:
        begun = time.monotonic()
        batch = await batcher.submit(1).started
        assert batch.items == (1,)
        return time.monotonic() - begun

    # The event loop's clock may be a millisecond coarse.
    assert 0.049 <= batching(scenario, max_batch=8, max_wait_s=0.05) < PATIENCE_S / 2


def test_batcher_gathers_while_the_model_works() -> None:
    model_may_go_on = threading.Event()

    def run(items: Sequence[int]) -> list[int]:
        assert model_may_go_on.wait(PATIENCE_S)
        return list(items)

    async def scenario(batcher: Batcher[int, int]) -> tuple[int, ...]:
        first = batcher.submit(1)
        await first.started
        later = [batcher.submit(item) for item in (2, 3, 4)]
        model_may_go_on.set()
        batch = await later[0].started
        assert first.finished.done()
        await later[-1].finished
        return batch.items

    assert batching(scenario, run, max_wait_s=0) == (2, 3, 4)


def test_batcher_tells_everyone_in_a_batch_that_it_failed_and_goes_on() -> None:
    def run(items: Sequence[int]) -> list[int]:
        if 1 in items:
            raise ArithmeticError("the model broke")
        return list(items)

    async def scenario(batcher: Batcher[int, int]) -> None:
        jobs = [batcher.submit(item) for item in (1, 2)]
        for job in jobs:
            with pytest.raises(ArithmeticError):
                await job.finished
        assert await batcher.submit(3).finished == 3

    batching(scenario, run, max_batch=2)


def test_batcher_skips_items_whose_caller_has_left() -> None:
    async def scenario(batcher: Batcher[int, int]) -> tuple[int, ...]:
        left, stayed = batcher.submit(1), batcher.submit(2)
        left.finished.cancel()
        return (await stayed.started).items

    assert batching(scenario) == (2,)


@pytest.mark.parametrize("options", [{"max_batch": 0}, {"max_queue": 0}, {"max_wait_s": -1}])
def test_batcher_checks_its_bounds(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="at least"):
        Batcher(list, **options)


# --- text, lengths, garbage, workload -------------------------------------------------------------------------------


def test_tokenizer_cuts_into_pieces_and_puts_them_together_again() -> None:
    document = Tokenizer(vocabulary=100, max_tokens=50).document("Unmistakable words. Two!")
    assert [token.text for token in document.tokens] == ["unmis", "##takab", "##le", "words", ".", "two", "!"]
    assert document.sentences[0].text == "unmistakable words ."
    assert all(0 <= token.id < 100 for token in document.tokens)
    assert not document.truncated


def test_tokenizer_cuts_off_what_the_model_cannot_take() -> None:
    document = Tokenizer(vocabulary=100, max_tokens=3).document("a b c. d e f")
    assert [token.text for token in document.tokens] == ["a", "b", "c"]
    assert document.truncated


def test_cache_keeps_the_most_recently_used() -> None:
    cache = DocumentCache(Tokenizer(vocabulary=100, max_tokens=9), capacity=2)
    seen = [cache.get(text)[1] for text in ("a", "b", "a", "c", "a", "b")]
    assert seen == [False, False, True, False, True, False]


@pytest.mark.parametrize(
    ("tokens", "expected"), [(1, "1-32"), (32, "1-32"), (33, "33-64"), (512, "257-512"), (513, ">512")]
)
def test_length_class(tokens: int, expected: str) -> None:
    assert length_class(tokens) == expected


def test_gc_watch_sees_collections_only_while_entered() -> None:
    import gc

    with GcWatch() as watch:
        gc.collect()
    seen = watch.paused_ns
    assert seen > 0
    assert watch.full_collections == 1
    gc.collect()
    assert watch.paused_ns == seen


def test_workload_is_repeatable_heavy_tailed_and_at_its_rate() -> None:
    plan = list(islice(calls(rate=50, seed=3), 2000))
    assert plan[:100] == list(islice(calls(rate=50, seed=3), 100))
    assert plan[7].prompt() == plan[7].prompt()
    assert plan[-1].at_s == pytest.approx(40, rel=0.15)
    words = quantiles([call.words for call in plan], n=100)
    assert words[98] > 4 * words[49]
    popular = [call for call in plan if call.popular]
    assert len({call.prompt() for call in popular}) <= 64 < len(popular)


def test_workload_refuses_a_rate_that_is_none() -> None:
    with pytest.raises(ValueError, match="rate=0 is not a number of requests a second"):
        calls(rate=0)


def test_nothing_in_the_demo_sleeps() -> None:
    modules = sorted(Path(demo.__file__).parent.glob("*.py"))
    assert len(modules) > 10
    for module in modules:
        for node in ast.walk(ast.parse(module.read_text())):
            name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
            imported = [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) else []
            assert "sleep" not in name, f"{module.name}:{node.lineno}"
            assert "sleep" not in imported, f"{module.name}:{node.lineno}"


# --- the endpoint ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body", [b"\xff", b"not json", b"[]", b"7", b"{}", b'{"text": 7}', b'{"text": ""}', b'{"text": "a", "top_k": 0}']
)
def test_endpoint_says_what_a_body_should_look_like(body: bytes) -> None:
    async def main() -> httpx.Response:
        transport = httpx.ASGITransport(Service(Model(SMALL)).app())
        async with httpx.AsyncClient(transport=transport, base_url="http://demo") as client:
            return await client.post(INFER_PATH, content=body)

    with capture() as captured:
        response = asyncio.run(main())
    assert response.status_code == 400
    assert set(response.json()) == {"error"}
    assert captured.one(stage=None, name=f"POST {INFER_PATH}").attributes["http.response.status_code"] == 400


def test_endpoint_refuses_with_503_and_retry_after_when_the_queue_is_full() -> None:
    async def main() -> httpx.Response:
        # Without its lifespan nothing takes from the queue: the first request stays in it.
        transport = httpx.ASGITransport(Service(Model(SMALL), max_queue=1).app())
        async with httpx.AsyncClient(transport=transport, base_url="http://demo") as client:
            posts = [asyncio.create_task(client.post(INFER_PATH, json={"text": "hello"})) for _ in range(2)]
            done, pending = await asyncio.wait(posts, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
            (answered,) = done
            return answered.result()

    with capture() as captured:
        response = asyncio.run(main())
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert "takes no more" in response.json()["error"]
    assert [span.status for span in captured.spans if span.stage is None].count("ERROR") == 1


# --- the two processes ----------------------------------------------------------------------------------------------


class Sink(http.server.ThreadingHTTPServer):
    """Takes OTLP over HTTP and keeps it."""

    daemon_threads = True

    def __init__(self) -> None:
        bodies = self.bodies = []  # type: list[bytes]

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.path == "/v1/traces":
                    bodies.append(body)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@dataclass(frozen=True)
class Seen:
    """A span as it came over the wire."""

    service: str
    span: OtlpSpan
    attributes: dict[str, Any]
    resource: dict[str, Any]

    @property
    def stage(self) -> str:
        return str(self.attributes.get(keys.STAGE, "request"))

    @property
    def ms(self) -> float:
        return float(self.span.end_time_unix_nano - self.span.start_time_unix_nano) / 1e6


Trace = dict[tuple[str, str], Seen]
"""The spans of one request, by service and stage."""


def values(attributes: Any) -> dict[str, Any]:
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in attributes}


def spans_of(bodies: Sequence[bytes]) -> Iterator[Seen]:
    for body in bodies:
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = values(of_resource.resource.attributes)
            for scope in of_resource.scope_spans:
                for span in scope.spans:
                    yield Seen(resource[keys.SERVICE_NAME], span, values(span.attributes), resource)


@pytest.fixture
def sink() -> Iterator[Sink]:
    yield from serving()


def serving() -> Iterator[Sink]:
    with Sink() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Remembering(Child):
    """A child that the test can find."""

    made: list["Remembering"] = []  # noqa: RUF012  one list for all

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.made.append(self)


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[Remembering]:
    monkeypatch.setattr(Remembering, "made", [])
    monkeypatch.setattr(pipeline, "Child", Remembering)
    return Remembering.made


def assert_gone(children: Sequence[Child], *, count: int = 2) -> None:
    assert len(children) == count
    for child in children:
        with pytest.raises(ProcessLookupError):
            os.kill(child.pid, 0)
    assert not [thread for thread in threading.enumerate() if "_read_" in thread.name]


@dataclass(frozen=True)
class Recorded:
    result: PipelineResult
    progress: list[Progress]
    spans: list[Seen]
    traces: list[Trace]  # in the order of the workload


REQUESTS = 240
SEED = 5


@pytest.fixture(scope="module")
def recorded() -> Iterator[Recorded]:
    progress: list[Progress] = []
    for sink in serving():
        result = run_pipeline(
            sink.url, requests=REQUESTS, run="a test", on_progress=progress.append, stop=None, rate=120, seed=SEED
        )
        spans = list(spans_of(sink.bodies))
        by_trace: dict[bytes, Trace] = defaultdict(dict)
        for seen in spans:
            key = seen.service, seen.stage
            assert key not in by_trace[seen.span.trace_id], "a stage of a service occurs once in a request"
            by_trace[seen.span.trace_id][key] = seen
        traces = sorted(
            by_trace.values(), key=lambda trace: trace[CLIENT_NAME, "request"].attributes[keys.INTENDED_START_UNIX_NANO]
        )
        yield Recorded(result, progress, spans, traces)


def test_run_reports_what_it_did(recorded: Recorded) -> None:
    result, last = recorded.result, recorded.progress[-1]
    assert (result.run, result.sent, result.done, result.errors) == ("a test", REQUESTS, REQUESTS, 0)
    assert (last.sent, last.done, last.total) == (REQUESTS, REQUESTS, REQUESTS)
    assert len(recorded.progress) >= 4  # two seconds, four times a second, on a busy machine
    assert [step.sent for step in recorded.progress] == sorted(step.sent for step in recorded.progress)
    assert 1 < result.elapsed_s < PATIENCE_S


def test_every_request_has_all_stages_with_the_right_parents_across_both_processes(recorded: Recorded) -> None:
    parents = {
        (CLIENT_NAME, "request"): None,
        (CLIENT_NAME, "preprocess"): (CLIENT_NAME, "request"),
        (CLIENT_NAME, "serialize"): (CLIENT_NAME, "request"),
        (CLIENT_NAME, "network"): (CLIENT_NAME, "request"),
        (CLIENT_NAME, "postprocess"): (CLIENT_NAME, "request"),
        (SERVICE_NAME, "request"): (CLIENT_NAME, "network"),
        (SERVICE_NAME, "preprocess"): (SERVICE_NAME, "request"),
        (SERVICE_NAME, "queue"): (SERVICE_NAME, "request"),
        (SERVICE_NAME, "compute"): (SERVICE_NAME, "request"),
        (SERVICE_NAME, "postprocess"): (SERVICE_NAME, "request"),
        (SERVICE_NAME, "serialize"): (SERVICE_NAME, "request"),
    }
    assert len(recorded.traces) == REQUESTS
    for trace in recorded.traces:
        assert trace.keys() == parents.keys()
        for key, parent in parents.items():
            assert trace[key].span.parent_span_id == (b"" if parent is None else trace[parent].span.span_id), key
        assert trace[SERVICE_NAME, "request"].span.kind == OtlpSpan.SPAN_KIND_SERVER
        assert trace[SERVICE_NAME, "request"].ms < trace[CLIENT_NAME, "network"].ms < trace[CLIENT_NAME, "request"].ms


def test_stages_follow_each_other_in_time(recorded: Recorded) -> None:
    order = ["preprocess", "queue", "compute", "postprocess", "serialize"]
    for trace in recorded.traces:
        stages = [trace[SERVICE_NAME, stage].span for stage in order]
        for before, after in pairwise(stages):
            assert before.end_time_unix_nano <= after.start_time_unix_nano
        assert sum(trace[SERVICE_NAME, stage].ms for stage in order) <= trace[SERVICE_NAME, "request"].ms


def test_each_trace_tells_of_its_own_request(recorded: Recorded) -> None:
    """What the service saw under a trace id is what the workload sent under it: nothing crossed over in the batcher."""
    tokenizer = Tokenizer(vocabulary=10, max_tokens=ModelConfig().max_tokens)
    for call, trace in zip(calls(rate=120, seed=SEED), recorded.traces, strict=False):
        tokens = len(tokenizer.document(call.prompt()).tokens)
        assert trace[SERVICE_NAME, "request"].attributes["tokens"] == tokens
        assert trace[SERVICE_NAME, "compute"].attributes["batch.longest"] >= tokens
        assert trace[CLIENT_NAME, "request"].attributes["question.popular"] == call.popular


def test_requests_of_a_batch_have_its_size_and_wait_in_the_queue(recorded: Recorded) -> None:
    sizes = [trace[SERVICE_NAME, "compute"].attributes[keys.BATCH_SIZE] for trace in recorded.traces]
    assert 1 <= min(sizes) < max(sizes) <= 4
    queues = [trace[SERVICE_NAME, "queue"] for trace in recorded.traces]
    assert min(seen.attributes[keys.QUEUE_DEPTH] for seen in queues) == 0
    alone = [queue.ms for queue, size in zip(queues, sizes, strict=True) if size == 1]
    assert median(alone) > 2  # a batch that does not fill waits for its 3 ms


def test_long_inputs_compute_longer(recorded: Recorded) -> None:
    short, long = compute_ms(recorded, 1, 80), compute_ms(recorded, 200, 384)
    assert min(len(short), len(long)) >= 10
    assert median(long) > 2 * median(short)


def test_one_long_input_makes_its_whole_batch_slow(recorded: Recorded) -> None:
    beside_short, beside_long = compute_ms(recorded, 1, 80, own=80), compute_ms(recorded, 200, 384, own=80)
    assert min(len(beside_short), len(beside_long)) >= 5
    assert median(beside_long) > 2 * median(beside_short)


def compute_ms(recorded: Recorded, least: int, most: int, *, own: int = 384) -> list[float]:
    """Return compute's durations: the batch's longest input of `least` to `most` tokens, one's own of `own` at most."""
    return [
        trace[SERVICE_NAME, "compute"].ms
        for trace in recorded.traces
        if least <= trace[SERVICE_NAME, "compute"].attributes["batch.longest"] <= most
        and trace[SERVICE_NAME, "request"].attributes["tokens"] <= own
    ]


def test_spans_say_who_they_are(recorded: Recorded) -> None:
    for seen in recorded.spans:
        assert seen.resource[keys.RUN] == "a test"
        assert seen.resource[keys.SERVICE_VERSION] == "1.0.0"
        assert seen.resource[keys.HARDWARE]
        assert (seen.attributes.get(keys.MODEL) == MODEL_NAME) == (seen.service == SERVICE_NAME)
    entry = recorded.traces[0][SERVICE_NAME, "request"]
    assert entry.attributes["gc.pause_ms"] >= 0
    assert entry.attributes["gc.full"] in {True, False}


def test_an_endless_run_ends_when_it_is_told_to(sink: Sink, children: list[Remembering]) -> None:
    stop = threading.Event()

    def stop_after_some(progress: Progress) -> None:
        assert progress.total is None
        if progress.done >= 20:
            stop.set()

    result = run_pipeline(sink.url, requests=None, run="x", on_progress=stop_after_some, stop=stop)
    assert 20 <= result.done == result.sent
    assert_gone(children)
    roots = [seen for seen in spans_of(sink.bodies) if not seen.span.parent_span_id]
    assert len(roots) == result.done  # nothing was lost on the way out


def test_ctrl_c_leaves_nothing_running(sink: Sink, children: list[Remembering]) -> None:
    def interrupt(_: Progress) -> None:
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_pipeline(sink.url, requests=None, run="x", on_progress=interrupt)
    assert_gone(children)


def test_a_service_that_dies_is_one_clear_error(sink: Sink, children: list[Remembering]) -> None:
    def kill_service(_: Progress) -> None:
        os.kill(children[0].pid, signal.SIGKILL)

    with pytest.raises(DemoError, match=r"^demo-inference ended with status -9: it said nothing on stderr$"):
        run_pipeline(sink.url, requests=None, run="x", on_progress=kill_service)
    assert_gone(children)


def test_a_client_that_fails_says_why_in_one_line(sink: Sink, children: list[Remembering]) -> None:
    with pytest.raises(DemoError, match=r"^demo-client ended with status 2: rate=-1\.0 is not a number of requests"):
        run_pipeline(sink.url, requests=5, run="x", on_progress=lambda _: None, rate=-1)
    assert_gone(children)


def test_no_requests_are_refused_before_anything_starts(children: list[Remembering]) -> None:
    with pytest.raises(DemoError, match="0 requests cannot be sent"):
        run_pipeline("http://127.0.0.1:1", requests=0, run="x", on_progress=lambda _: None)
    assert_gone(children, count=0)


def test_client_gives_up_when_nobody_answers() -> None:
    command = ["--url", "http://127.0.0.1:1/v1/infer", "--rate", "1000", "--endpoint", "http://127.0.0.1:1"]
    client = subprocess.run(
        [sys.executable, "-m", "tailsight_cli.demo.client", *command],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert client.returncode == 1
    assert "is the service at http://127.0.0.1:1/v1/infer running?" in client.stderr.splitlines()[-1]


def test_client_refuses_an_address_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert client_main(["--url", "ftp://x"]) == 2
    assert "give one like http://" in capsys.readouterr().err


def test_children_end_when_their_parent_is_killed(sink: Sink) -> None:
    """Kill -9 gives the parent no chance to clean up: the children notice by themselves."""
    program = f"""
import os
from tailsight_cli.demo import pipeline
class Telling(pipeline.Child):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        print(self.pid, flush=True)
pipeline.Child = Telling
pipeline.run_pipeline({sink.url!r}, requests=None, run="x", on_progress=lambda _: None)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(parent.stdout.readline()) for _ in range(2)]
        handles = [os.pidfd_open(pid) for pid in pids]
        parent.kill()
    for handle in handles:
        poll = select.poll()
        poll.register(handle, select.POLLIN)  # readable when the process has ended
        assert poll.poll(PATIENCE_S * 1000)
        os.close(handle)
