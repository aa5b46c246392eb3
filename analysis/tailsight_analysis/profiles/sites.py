"""Where a stage stands in the source: the lines of `with tailsight.stage("x")`, the body under `@tailsight.stage("x")`.

Read from the source files by their syntax tree, so that the frames of a stack name their stages, with no work in the
service and for coroutines as well: each frame on a stack tells the line that it is at.
"""

from __future__ import annotations

import ast
import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tailsight_analysis.profiles.model import Frame, Stack

MAX_SOURCE_CHARACTERS = 4_000_000
_STAGE = "stage"
_BATCH = "batch"


@dataclass(frozen=True, slots=True)
class Site:
    """Lines `first_line` to `last_line` of `function` in `file` run inside this stage.

    `file` is spelt as the profiler's frames spell it, `function` without the classes and functions around it.
    """

    file: str
    function: str
    stage: str
    first_line: int
    last_line: int


class Sites:
    """Many sites, asked frame by frame."""

    def __init__(self, sites: Iterable[Site]) -> None:
        self._by_function: defaultdict[tuple[str, str], list[Site]] = defaultdict(list)
        for site in sites:
            self._by_function[site.file, site.function].append(site)
        for each in self._by_function.values():  # the outer ones first
            each.sort(key=lambda site: (site.first_line, -site.last_line))

    def __bool__(self) -> bool:
        return bool(self._by_function)

    def stages_of(self, stack: Stack) -> tuple[str, ...]:
        """Return the stages that the stack is in, the outermost first."""
        return tuple(stage for frame in stack for stage in self._at(frame))

    def _at(self, frame: Frame) -> Sequence[str]:
        sites = self._by_function.get((frame.file, frame.function.rpartition(".")[2]))
        if sites is None:
            return ()
        return [site.stage for site in sites if site.first_line <= frame.line <= site.last_line]


def find_sites(source: str, file: str) -> tuple[Site, ...]:
    """Find the stages whose names are written out, or are constants of the module. Source that does not parse has none.

    The line of the `with` itself is not inside: the stage begins and ends on it.
    """
    if len(source) > MAX_SOURCE_CHARACTERS or _STAGE not in source:
        return ()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the service's source: no matter of ours
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    finder = _Finder(file, tree)
    try:
        finder.visit(tree)
    except RecursionError:
        return ()
    return tuple(finder.sites)


class _Finder(ast.NodeVisitor):
    def __init__(self, file: str, tree: ast.Module) -> None:
        self.sites: list[Site] = []
        self._file = file
        self._function = "<module>"
        self._names = {_STAGE}
        self._constants: dict[str, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "tailsight":
                self._names |= {name.asname for name in node.names if name.name == _STAGE and name.asname}
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
                value = node.value.value
                for target in node.targets:
                    if isinstance(target, ast.Name) and isinstance(value, str):
                        self._constants[target.id] = value

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._visit_function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._visit_function(node)

    def visit_With(self, node: ast.With) -> None:
        self._visit_with(node)

    def visit_AsyncWith(self, node: ast.AsyncWith) -> None:
        self._visit_with(node)

    def _visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for decorator in node.decorator_list:
            stage = self._stage_of(decorator)
            if (
                stage is None
                and isinstance(decorator, ast.Name | ast.Attribute)
                and _last_name(decorator) in self._names
            ):
                stage = node.name  # @tailsight.stage without parentheses: the function's name is the stage
            if stage is not None:
                self._add(stage, node.name, node.body)
        outer, self._function = self._function, node.name
        self.generic_visit(node)
        self._function = outer

    def _visit_with(self, node: ast.With | ast.AsyncWith) -> None:
        for item in node.items:
            stage = self._stage_of(item.context_expr)
            if stage is not None:
                self._add(stage, self._function, node.body)
        self.generic_visit(node)

    def _add(self, stage: str, function: str, body: list[ast.stmt]) -> None:
        last = body[-1].end_lineno or body[-1].lineno
        self.sites.append(Site(self._file, function, stage, body[0].lineno, last))

    def _stage_of(self, call: ast.expr) -> str | None:
        if not isinstance(call, ast.Call):
            return None
        name = _last_name(call.func)
        named: ast.expr | None = None
        if name in self._names:
            named = call.args[0] if call.args else _keyword(call, _STAGE)
        elif name == _BATCH:
            named = _keyword(call, _STAGE)
        if isinstance(named, ast.Constant) and isinstance(named.value, str):
            return named.value
        return self._constants.get(named.id) if isinstance(named, ast.Name) else None


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)
