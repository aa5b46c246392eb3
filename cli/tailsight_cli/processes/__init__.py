"""Child processes of a command: bonds in both directions, so that none outlives its parent.

child      one of them, seen from the parent
lifeline   the parent, seen from the child
"""

from tailsight_cli.processes.child import Child, Event, ProcessError
from tailsight_cli.processes.lifeline import say, when_stdin_closes

__all__ = ["Child", "Event", "ProcessError", "say", "when_stdin_closes"]
