"""The host's signal handlers: what they raise is the host's, wherever in our code it surfaces.

Python runs a signal handler between any two instructions of the main thread, ours included. A handler that raises (a
deadline with SIGALRM, say) must be able to end the host's work, so it must not be swallowed as an error of ours.
"""

import functools
import signal
import threading
from types import CodeType


def raise_if_host_signal(error: BaseException) -> None:
    """Raise `error` again if a signal handler of the host raised it."""
    if threading.current_thread() is not threading.main_thread():  # signal handlers run there only
        return
    handlers: set[CodeType] | None = None
    step = error.__traceback__
    while step is not None:
        if handlers is None:
            handlers = _handlers()
        if step.tb_frame.f_code in handlers:
            raise error
        step = step.tb_next


def _handlers() -> set[CodeType]:
    found: set[CodeType] = set()
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        if handler is None or not callable(handler):  # not Python's, or none
            continue
        function: object = handler
        while isinstance(function, functools.partial):
            function = function.func
        function = getattr(function, "__func__", function)  # of a method
        if not hasattr(function, "__code__"):
            function = getattr(type(function), "__call__", None)  # noqa: B004  the function behind a callable object
        code = getattr(function, "__code__", None)
        if isinstance(code, CodeType):
            found.add(code)
    return found
