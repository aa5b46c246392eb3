"""Recording which code runs, from the sidecar: py-spy beside the service, whose samples the collector joins to stages.

    tailsight.profiling.start()                    # ten seconds, now
    tailsight.profiling.start(on_tail=True)        # whenever the tail is above what is usual
    tailsight.profiling.start(every_s=900)         # every quarter of an hour
    tailsight.profiling.stop()

Takes `tailsight[profile]` and `transport=sidecar`. Nothing here waits, or raises into the application: what is wrong is
logged, once. docs/profiles.md says what comes of it.
"""

from . import _runtime
from ._guard import guarded, warn
from ._profile_ask import line_for, read_ask
from ._profile_asking import Lasts
from ._recorder import current
from ._sidecar import Sidecar

__all__ = ["start", "stop"]


@guarded("profiling.start", lambda: False)
def start(
    *,
    rate_hz: int = 100,
    duration_s: float = 10.0,
    every_s: float | None = None,
    on_tail: bool = False,
    factor: float = 1.5,
    pause_s: float = 300.0,
    max_per_hour: int = 6,
    blocking: bool = False,
    idle: bool = True,
    gil: bool = True,
) -> bool:
    """Ask the sidecar to record which code this process runs. Returns at once; False where it cannot be asked.

    Without `every_s` and `on_tail`: one recording of `duration_s` seconds (1 to 300) at `rate_hz` (1 to 1000), now, or
    once the sidecar is there, which the first finished request starts. `every_s`: one each so many seconds (at least
    10), shifted at random. `on_tail`: one when the p99 of the last minute is above `factor` times the usual one,
    `pause_s` seconds apart at least. Both may be given; a further call takes their place. One recording runs at a time,
    `max_per_hour` begin in an hour. `blocking` holds the process still for each sample; `idle` records threads that
    wait, too; `gil` tells who waits for the interpreter's lock.
    """
    asked = dict(locals())
    try:
        ask = read_ask(asked)
    except ValueError as error:
        warn("profiling.start() is ignored: %s", error)
        return False
    if current.get() is None:
        return False
    return _say(line_for(ask), Lasts.FROM_NOW_ON if ask.is_standing else Lasts.ONCE)


@guarded("profiling.stop", lambda: False)
def stop() -> bool:
    """End what start() or the option `profile` began. What a recording has seen so far is kept."""
    return _say(line_for(None), Lasts.NO_MORE)


def _say(line: bytes, lasts: Lasts) -> bool:
    transport, settings = _runtime._runtime.transport, _runtime._runtime.settings
    if settings is None or not settings.enabled:
        problem = "tailsight is switched off"
    elif settings.transport == "file":
        problem = "transport=file sends nothing to a collector, which joins the samples to stages"
    elif not isinstance(transport, Sidecar):
        problem = "the sidecar records, and transport=thread has none; leave out TAILSIGHT_TRANSPORT"
    elif transport.name == "thread":
        problem = "the sidecar records, and none can be started here"
    else:
        return transport.profile(line, lasts)
    if lasts is not Lasts.NO_MORE:
        warn("profiling.start() is ignored: %s. `tailsight profile` records from outside", problem)
    return False
