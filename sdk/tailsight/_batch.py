"""Batches: one execution serves many requests, and each request's trace has it.

The `with` block runs in a part of a trace of its own, a Fan. What is recorded in it, the batch's span and the stages
inside, is handed on once for each request: with ids of its own, below the span that was current when the item was put
into its queue. The first of these copies keeps the original ids. It is *the* batch span, to which the others link, and
whose context goes out with calls to other services: there is no trace for the batch alone, which would count as a
request. Where the worker is in a span of its own, the batch span is that one's child, and all requests link to it.
"""

from collections import deque
from collections.abc import Iterable, Sequence, Set
from contextvars import Token
from types import TracebackType
from typing import Any, Self

from opentelemetry.context import Context
from opentelemetry.trace.span import DEFAULT_TRACE_STATE

from . import _taken
from . import attributes as keys
from ._carry import CarriedContext, Carrier, carrier_of
from ._emit import emit, trace_of
from ._guard import caught, warn_once
from ._otel import SPAN_KEY, attach, detach, get_current, with_span
from ._queue import QUEUE_STAGE
from ._record import FIELDS, Extra, LinkRecord
from ._recorder import current
from ._span import Span, new_span
from ._trace import WAITING_VALUES, Trace
from ._values import text

_MAX_NAME_LENGTH = 1024
WAIT_NAME = "batch"
"""The name of the span of the time that an item waited for its batch to fill."""


class _Place:
    """Where one request's copies go."""

    __slots__ = ("ids", "parent_id", "trace")

    def __init__(self, trace: Trace, parent_id: int) -> None:
        self.trace = trace
        self.parent_id = parent_id
        self.ids: dict[int, int] = {}  # from the originals' ids to this copy's


class Fan(Trace):
    """A part of a trace whose spans are handed on to several traces."""

    __slots__ = ("_link_to_original", "_links_to_copies", "_places", "_top_id")

    def __init__(self, places: list[_Place]) -> None:
        first = places[0].trace
        super().__init__(first.recorder, first.trace_id, first.flags, first.state)
        self._places = places
        self._top_id = 0
        self._link_to_original: tuple[Any, ...] = ()
        self._links_to_copies: tuple[Any, ...] = ()

    def begin(self, top_id: int) -> None:
        """Take the batch span's id. Each copy of it gets its own, which the links name."""
        self.entry_id = self._top_id = top_id
        for place in self._places[1:]:
            place.ids[top_id] = self.new_span_id()
        self._link_to_original = _link(self, top_id)
        some = self._places[1 : 1 + self.recorder.limits.events]
        self._links_to_copies = tuple(_link(place.trace, place.ids[top_id]) for place in some)

    def entry_ended(self, name: str, duration_ns: int, deadline_ms: object) -> None:  # noqa: ARG002  Trace's signature
        """Hand on. Whether a request is kept is decided where the request ends."""
        self.ended = True
        self.hand_on()

    def hand_on(self) -> None:
        """Copy the finished spans into each request's trace. Those that end late, on a device say, come here too."""
        if self.records is None:
            return
        fresh: list[object] = []
        batch, self.records = self.records, fresh
        for place in self._places:
            try:
                self._copy(batch, place)
            except Exception as error:
                caught("handing on a batch", error)

    def _copy(self, batch: list[Any], place: _Place) -> None:
        trace, original = place.trace, place is self._places[0]
        copies: list[object] = []
        for at in range(0, len(batch), FIELDS):
            name, stage, span_id, parent_id, start_ns, end_ns, thread_id, attributes, extra = batch[at : at + FIELDS]
            top = span_id == self._top_id
            if top:
                extra = self._linked(extra, self._links_to_copies if original else (self._link_to_original,))
                parent_id = place.parent_id
            elif not original:
                parent_id = self._id_in(place, parent_id)
            if not original:
                span_id = self._id_in(place, span_id)
            copies += (name, stage, span_id, parent_id, start_ns, end_ns, thread_id, attributes.copy(), extra)
            if top and not trace.entry_id:  # below a span of another process or library: a part of its own
                trace.entry_id, trace.ended = span_id, True
        if self.failed:
            trace.failed = True
        if trace.records is not None:
            trace.records.extend(copies)  # no call between this line and the one above, see Trace.hand_on()
            if trace.ended or len(trace.records) >= WAITING_VALUES:
                trace.hand_on()

    def _id_in(self, place: _Place, span_id: int) -> int:
        found = place.ids.get(span_id)
        if found is None:
            found = place.ids[span_id] = self.new_span_id()
        return found

    def _linked(self, extra: Any, links: tuple[Any, ...]) -> Any:
        if not links:
            return extra
        whole = Extra() if extra is None else Extra._make(extra)
        joined, limit = (*whole.links, *links), self.recorder.limits.events
        return tuple(whole._replace(links=joined[:limit], dropped_links=whole.dropped_links + len(joined[limit:])))


def _link(trace: Trace, span_id: int) -> tuple[Any, ...]:
    state = "" if trace.state is DEFAULT_TRACE_STATE else trace.state.to_header()
    return tuple(LinkRecord(trace.trace_id, span_id, state, trace.flags, {}))


class Batch:
    """One execution for many requests. Made by batch(), used in one `with`. No method raises."""

    __slots__ = ("_items", "_name", "_requests", "_size", "_span", "_stage", "_token", "requests")

    requests: list[Carrier | None]
    """Each item's request, for carried(); None where it is not known. Set when the batch begins."""

    def __init__(self, items: object, stage: str, requests: Iterable[object] | None, name: str | None) -> None:
        self._items = items
        self._requests = requests
        self._stage = stage
        self._name = name
        self._size = 0
        self._span: Span | None = None
        self._token: Token[Context] | None = None
        self.requests = []

    def __enter__(self) -> Self:
        try:
            self._begin()
        except Exception as error:
            caught("beginning a batch", error)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        span, self._span = self._span, None
        token, self._token = self._token, None
        if span is not None:
            span.__exit__(exc_type, exc, tb)
        try:
            if token is not None:
                detach(token)
            begun_ns = getattr(span, "_start", None)  # a span that was not recorded has none
            if begun_ns is not None:
                self._emit_waits(begun_ns)
        except Exception as error:
            caught("ending a batch", error)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.__exit__(exc_type, exc, tb)

    def set(self, key: str, value: object) -> None:
        """Set an attribute, on each request's span."""
        if self._span is not None:
            self._span.set(key, value)

    def _begin(self) -> None:
        recorder = current.recorder or current.get()
        if recorder is None or not recorder.enabled:
            return
        self._find_requests()
        here = get_current()
        if type(here) is CarriedContext:  # the last item's request is not the whole batch's
            here = here.base
            attach(here)
        places = self._places(here)
        known = next((carrier for carrier in self.requests if carrier is not None), None)
        if places:
            fan = Fan(places)
            above = new_span(None, None)
            above._trace, above._id = fan, places[0].parent_id
            self._token = attach(with_span(here, above))
        elif known is not None and SPAN_KEY not in here:  # not sampled, none of them: nor is what happens inside
            self._token = attach(known.context)
        elif known is None and SPAN_KEY not in here and self._requests is None and self._size:
            warn_once(
                "batch without requests",
                "batch(): none of the %d items has a known request. Take them from a tailsight queue in this thread or "
                "task, all that were taken, or pass requests=[…] made by tailsight.carrier()",
                self._size,
            )
        span = self._span = new_span(self._stage, self._name)
        span.__enter__()
        span.set(keys.BATCH_SIZE, self._size)
        if places:
            fan.begin(span._id)

    def _find_requests(self) -> None:
        # Iterated over only where that surely does no work: not a generator, not a tensor.
        items = list(self._items) if isinstance(self._items, Sequence | Set | deque) else []
        given = self._requests
        self.requests = _taken.find_all(items)
        if given is not None:
            self.requests = [None if source is None else carrier_of(source) for source in given]
        try:
            self._size = len(self._items)  # type: ignore[arg-type]  # if it has none, TypeError is raised
        except TypeError:
            self._size = len(self.requests)

    def _places(self, here: Context) -> list[_Place]:
        """Find where the batch's spans go: below the worker's own span, if it is in one, and to each request."""
        places: dict[int, _Place] = {}
        contexts = [here, *(carrier.context for carrier in self.requests if carrier is not None)]
        for context in contexts:
            place = trace_of(context) if SPAN_KEY in context else None
            if place is not None:
                places.setdefault(place[0].trace_id, _Place(*place))
        return list(places.values())

    def _emit_waits(self, begun_ns: int) -> None:
        """Emit the time from when an item was taken until the batch began; once for a request with several items."""
        waits: dict[int, tuple[Carrier, int]] = {}
        for carrier in self.requests:
            if carrier is None or carrier.taken_ns is None:
                continue
            taken_ns, carrier.taken_ns = carrier.taken_ns, None  # in a second batch it did not wait since then
            place = trace_of(carrier.context) if SPAN_KEY in carrier.context else None
            if place is not None:
                first = waits.get(place[0].trace_id)
                if first is None or taken_ns < first[1]:
                    waits[place[0].trace_id] = carrier, taken_ns
        for carrier, taken_ns in waits.values():
            emit(
                carrier.context,
                stage=QUEUE_STAGE,
                name=WAIT_NAME,
                start_ns=taken_ns,
                end_ns=begun_ns,
                attributes={keys.BATCH_SIZE: self._size},
            )


def batch(
    items: object, *, stage: str = "compute", requests: Iterable[object] | None = None, name: str | None = None
) -> Batch:
    """Measure one execution that serves many requests: `with` or `async with`.

        items = [queue.get() for _ in range(8)]
        with tailsight.batch(items, stage="compute") as b:
            ys = model(items)
        for request, y in zip(b.requests, ys):
            with tailsight.carried(request):
                respond(y)

    Each request's trace gets a span of its own, with what is measured inside, and a `queue` span from when the item was
    taken until the batch began. The requests are found by the items, which must be the objects that came from a
    tailsight queue. Otherwise say them: `requests` are, item by item, what carrier() returned, spans, or contexts.
    """
    try:
        known = stage if type(stage) is str else text(stage, _MAX_NAME_LENGTH)
        named = name if name is None or type(name) is str else text(name, _MAX_NAME_LENGTH)
    except Exception as error:
        caught("batch", error)
        known, named = "compute", None
    return Batch(items, known, requests, named)
