"""Which statements does the SQL port run? Reading ones, over tailsight's tables, with functions known by name.

`readonly=1` alone is not enough in the embedded engine: the scalar function `file()` still reads any file of the host,
and `INTO OUTFILE` writes one. So a statement is parsed by the engine itself (`EXPLAIN AST` does not run it), and every
node of the tree must be known here: statement kinds, node types, functions, table functions and tables are allowed by
name, never forbidden by name. What the tree does not show is refused as a whole: a second statement (the engine would
run it, even behind EXPLAIN AST), `APPLY`, whose function has no node, and `SHOW` with a condition, which has none.

A second net hangs below the tree, for the next thing that it may not show: the text itself must not call a function
that is closed, and not name OUTFILE. Every step here takes time in proportion to the text, whatever it says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tailsight_collector.errors import RefusedQueryError

ROOTS = frozenset({"SelectWithUnionQuery", "SelectIntersectExceptQuery", "DescribeQuery", "ShowTables",
                   "ExistsDatabaseQuery", "ExistsTableQuery", "ShowCreateTableQuery"})  # fmt: skip
# Of these, an identifier directly below the root is the answer's format.
_WITH_FORMAT = frozenset({"SelectWithUnionQuery", "SelectIntersectExceptQuery", "DescribeQuery"})
NODES = ROOTS | {
    "ArrayJoin", "Asterisk", "ColumnsExceptTransformer", "ColumnsListMatcher", "ColumnsRegexpMatcher",
    "ColumnsReplaceTransformer", "ColumnsReplaceTransformer::Replacement", "ColumnsTransformerList", "ExpressionList",
    "Function", "Identifier", "InterpolateElement", "Literal", "OrderByElement", "QualifiedAsterisk",
    "QualifiedColumnsListMatcher", "QualifiedColumnsRegexpMatcher", "SampleRatio", "SelectQuery", "Subquery",
    "TableExpression", "TableIdentifier", "TableJoin", "TablesInSelectQuery", "TablesInSelectQueryElement",
    "WindowDefinition", "WindowListElement", "WithElement",
}  # fmt: skip
# Not `values`: its text of columns may hold an ALIAS, and whatever that calls.
TABLE_FUNCTIONS = frozenset({"numbers", "numbers_mt", "zeros", "generateseries", "generate_series"})
SYSTEM_TABLES = frozenset({
    "aggregate_function_combinators", "build_options", "collations", "columns", "contributors", "data_type_families",
    "databases", "formats", "functions", "keywords", "numbers", "one", "parts", "parts_columns", "settings",
    "table_functions", "tables", "time_zones",
})  # fmt: skip
# How answers may be written: what needs a schema, another system or a client of another protocol is left out.
FORMATS = frozenset({
    "Arrow", "ArrowStream", "Avro", "BSONEachRow", "CSV", "CSVWithNames", "CSVWithNamesAndTypes", "JSON", "JSONColumns",
    "JSONColumnsWithMetadata", "JSONCompact", "JSONCompactColumns", "JSONCompactEachRow", "JSONCompactEachRowWithNames",
    "JSONCompactEachRowWithNamesAndTypes", "JSONCompactStrings", "JSONCompactStringsEachRow",
    "JSONCompactStringsEachRowWithNames", "JSONCompactStringsEachRowWithNamesAndTypes", "JSONEachRow", "JSONL",
    "JSONLines", "JSONObjectEachRow", "JSONStrings", "JSONStringsEachRow", "LineAsString", "Markdown", "MD", "MsgPack",
    "Native", "NDJSON", "Npy", "Null", "ORC", "Parquet", "Pretty", "PrettyCompact", "PrettyCompactMonoBlock",
    "PrettyCompactNoEscapes", "PrettyCompactNoEscapesMonoBlock", "PrettyJSONEachRow", "PrettyMonoBlock",
    "PrettyNDJSON", "PrettyNoEscapes", "PrettyNoEscapesMonoBlock", "PrettySpace", "PrettySpaceMonoBlock",
    "PrettySpaceNoEscapes", "PrettySpaceNoEscapesMonoBlock", "Raw", "RawBLOB", "RowBinary", "RowBinaryWithNames",
    "RowBinaryWithNamesAndTypes", "SQLInsert", "TabSeparated", "TabSeparatedRaw", "TabSeparatedRawWithNames",
    "TabSeparatedRawWithNamesAndTypes", "TabSeparatedWithNames", "TabSeparatedWithNamesAndTypes", "TSKV", "TSV",
    "TSVRaw", "TSVRawWithNames", "TSVRawWithNamesAndTypes", "TSVWithNames", "TSVWithNamesAndTypes", "Values",
    "Vertical", "XML",
})  # fmt: skip
# Scalar functions come in the engine's own categories; these reach beyond the row: only what is named here is let in.
CLOSED_CATEGORIES = frozenset(
    {
        "",
        "AI",
        "Dictionary",
        "Embedded Dictionary",
        "Encryption",
        "Internal",
        "Introspection",
        "Machine Learning",
        "Other",
    }
)
# Of open categories: no time limit ends these (quadratic, within one row), these take a format's name, and these any
# aggregate's, in a text.
CLOSED_FUNCTIONS = frozenset({
    "arrayLevenshteinDistance", "arrayLevenshteinDistanceWeighted", "arrayReduce", "arrayReduceInRanges",
    "arraySimilarity", "formatRow", "formatRowNoNewline", "groupFormat", "kolmogorovSmirnovTest",
})  # fmt: skip
OPEN_FUNCTIONS = frozenset({
    "bar", "byteSize", "countDigits", "currentDatabase", "currentUser", "displayName", "finalizeAggregation",
    "formatReadableDecimalSize", "formatReadableQuantity", "formatReadableSize", "formatReadableTimeDelta",
    "getSizeOfEnumType", "getSubcolumn", "hostName", "identity", "ignore", "indexHint", "isConstant",
    "lowCardinalityIndices", "lowCardinalityKeys", "materialize", "neighbor", "parseReadableSize", "parseTimeDelta",
    "revision", "rowNumberInAllBlocks", "rowNumberInBlock", "runningAccumulate", "runningDifference", "serverUUID",
    "timezone", "toColumnTypeName", "toTypeName", "transform", "uptime", "variantElement", "variantType", "version",
    "visibleWidth",
})  # fmt: skip
# Parsed as functions, but part of the language.
SYNTAX = frozenset({"lambda", "tuple", "array", "cast", "in", "notin", "globalin", "globalnotin", "exists", "and", "or",
                    "interval", "grouping", "casewithexpression", "_cast", "nested"})  # fmt: skip
COMBINATORS = ("If", "Array", "Map", "State", "Merge", "MergeState", "SimpleState", "ForEach", "Distinct", "OrDefault",
               "OrNull", "Resample", "ArgMin", "ArgMax")  # fmt: skip
MEMBERSHIP = frozenset(
    f"{scope}{negated}{null}in{sets}"
    for scope in ("", "global") for negated in ("", "not") for null in ("", "null") for sets in ("", "ignoreset")
)  # fmt: skip
# `default` is the embedded engine's own: it reads files of the host as tables.
OTHER_DATABASES = frozenset({"system", "information_schema", "default"})
MAX_QUERY_BYTES = 256 * 1024
_NODE = re.compile(r"( *)(\S+)(?: (.*))?")
_CHILDREN = re.compile(r" \(children (\d{1,9})\)$", re.ASCII)
_ALIAS = " (alias "
# The only forms of SHOW with a list: their conditions are nowhere in the tree.
_SHOW = re.compile(
    r"SHOW\s+(FULL\s+)?(TABLES|DATABASES)(\s+(FROM|IN)\s+[`\"]?(?P<database>\w+)[`\"]?)?"
    r"(\s+(NOT\s+)?I?LIKE\s+'[^'\\]*')?(\s+LIMIT\s+\d+)?(\s+FORMAT\s+\w+)?",
    re.IGNORECASE | re.ASCII,
)
# A name before an opening bracket; an unclosed comment ends with the text.
_CALL = re.compile(r"\b(\w++)[`\"]?+\s*+\(", re.ASCII)
_COMMENT = re.compile(r"/\*(?:.*?\*/|.*)|(?:--|#)[^\n]*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class EngineFunction:
    """A row of `system.functions`."""

    name: str
    is_aggregate: bool
    case_insensitive: bool
    alias_to: str
    category: str


class SqlGuard:
    """Decides about statements, given the engine's functions and the one database that is served.

    With `tables`, only these and `system.settings` may be read: for who may send, and not read what others sent.
    """

    def __init__(
        self,
        functions: Iterable[EngineFunction],
        table_functions: Iterable[str],
        *,
        database: str,
        tables: frozenset[str] | None = None,
    ) -> None:
        self._database = database.lower()
        self._tables = tables
        self._system_tables = SYSTEM_TABLES if tables is None else frozenset({"settings", "one"})
        self._table_functions = TABLE_FUNCTIONS if tables is None else frozenset()
        self._scalars, self._aggregates, self._known = _names(list(functions))
        self._known_table_functions = frozenset(name.lower() for name in table_functions)

    def check(self, statement: str, explain: Callable[[str], str]) -> str:
        """Return the statement as it may run; raises RefusedQueryError with what is not allowed.

        `explain` gives the text of `EXPLAIN AST <statement>`, from a read-only connection.
        """
        text = _single_statement(statement)
        self._check_text(text)
        # by \n alone: any other line end stands in a name
        nodes = [_parsed(line) for line in explain(text).split("\n") if line.strip()]
        if not nodes or nodes[0].kind not in ROOTS:
            kind = nodes[0].kind if nodes else "nothing"
            raise RefusedQueryError(f"only reading statements run here (SELECT, SHOW, DESCRIBE, EXISTS), not {kind}")
        _check_shape(nodes)
        ancestors: list[_Node] = []
        for node in nodes:
            del ancestors[node.depth :]
            self._check_node(node, ancestors)
            ancestors.append(node)
        if nodes[0].kind == "ShowTables":
            self._check_show(text)
        for node in nodes:
            if node.depth == 1 and node.kind == "Literal":
                raise RefusedQueryError("INTO OUTFILE is not allowed here")
            if node.depth == 1 and node.kind == "Identifier" and nodes[0].kind in _WITH_FORMAT:
                check_format(node.name)
        return text

    def _check_text(self, text: str) -> None:
        """Refuse what the text says without looking at what it means: the net below the tree."""
        if "outfile" in text.lower():
            raise RefusedQueryError("INTO OUTFILE is not allowed here; bind a value that holds the word as a parameter")
        # with comments as well as without: what looks like one may stand in a string
        for name in {*_CALL.findall(text), *_CALL.findall(_COMMENT.sub(" ", text))}:
            lowered = name.lower()
            if self._is_open(name) or lowered in self._table_functions:
                continue
            if lowered in self._known or lowered in self._known_table_functions:
                raise RefusedQueryError(f"function {name} is not allowed here")

    def _check_show(self, text: str) -> None:
        shown = _SHOW.fullmatch(text)
        if self._tables is not None or not shown or (shown["database"] or self._database).lower() != self._database:
            raise RefusedQueryError(
                f"of SHOW with a list, SHOW TABLES and SHOW DATABASES with LIKE run here, over {self._database}; "
                "for conditions select from system.tables"
            )

    def _check_node(self, node: _Node, ancestors: list[_Node]) -> None:
        if node.kind == "Set":
            raise RefusedQueryError("a SETTINGS clause is not allowed here")
        if node.kind == "ColumnsApplyTransformer":
            raise RefusedQueryError("APPLY is not allowed here; name the columns and their functions")
        if node.kind not in NODES:
            raise RefusedQueryError(f"{node.kind} is not allowed here")
        parent = ancestors[-1].kind if ancestors else ""
        if node.kind == "Function":
            if parent == "TableExpression":
                if node.name.lower() not in self._table_functions:
                    raise RefusedQueryError(f"table function {node.name} is not allowed here; tailsight's tables are")
            elif not self._is_open(node.name):
                raise RefusedQueryError(f"function {node.name} is not allowed here")
        elif node.kind == "TableIdentifier":
            self._check_table(node.name)
        elif node.kind == "Identifier":
            self._check_identifier(node, ancestors)
        elif node.kind in ("ExistsTableQuery", "ShowCreateTableQuery"):
            self._check_table(".".join(node.name.split()))  # shown as "database table"
        elif node.kind == "ExistsDatabaseQuery" and node.name.lower() != self._database:
            raise RefusedQueryError(f"database {node.name[:64]} is not served here; {self._database} is")

    def _check_table(self, name: str) -> None:
        database, dot, table = name.rpartition(".")
        if not dot or database.lower() == self._database:  # unqualified names are looked up there
            if self._tables is None or table in self._tables:
                return
            raise RefusedQueryError(
                f"table {name} is not for this token: it may send, and reading takes the scope `read`"
            )
        if database.lower() == "system" and table.lower() in self._system_tables:
            return
        raise RefusedQueryError(f"table {name} is not allowed here; tables of {self._database} are")

    def _check_identifier(self, node: _Node, ancestors: list[_Node]) -> None:
        """Refuse tables on the right of IN, and functions that are given by their bare name (`arrayMap(file, …)`)."""
        first = node.name.partition(".")[0].lower()
        functions = [ancestor.name.lower() for ancestor in ancestors[-2:] if ancestor.kind == "Function"]
        if first in OTHER_DATABASES and (ancestors[0].kind != "SelectWithUnionQuery" or any(
            name in MEMBERSHIP for name in functions
        )):  # fmt: skip
            self._check_table(node.name)
        if self._tables is not None and any(name in MEMBERSHIP for name in functions):
            self._check_table(node.name)  # any name there may be a table's
        if functions and node.name.lower() in self._known and not self._is_open(node.name):
            raise RefusedQueryError(
                f"{node.name} is the name of a function that is not allowed here; rename the column"
            )

    def _is_open(self, name: str) -> bool:
        lowered = name.lower()
        if lowered in SYNTAX or name in self._scalars or lowered in self._scalars:
            return True
        base, stripped = name, True
        while stripped:
            if base in self._aggregates or base.lower() in self._aggregates:
                return True
            stripped = False
            for combinator in COMBINATORS:
                if base.endswith(combinator) and len(base) > len(combinator):
                    base, stripped = base.removesuffix(combinator), True
                    break
        return False


@dataclass(frozen=True, slots=True)
class _Node:
    depth: int
    kind: str
    name: str
    children: int


def check_format(name: str) -> None:
    """Refuse a format that answers are not written in."""
    if name not in FORMATS:
        raise RefusedQueryError(
            f"format {name[:64]!r} is not served here; JSON, CSV, TSV, Native, Parquet and others are"
        )


def _parsed(line: str) -> _Node:
    children = _CHILDREN.search(line)
    match = _NODE.fullmatch(line[: children.start()] if children else line)
    if match is None:
        raise RefusedQueryError("the statement has a part that is not known here")
    name = match[3] or ""
    name = (name.partition(_ALIAS)[0] if name.endswith(")") else name).strip()
    return _Node(len(match[1]), match[2], name, int(children[1]) if children else 0)


def _check_shape(nodes: list[_Node]) -> None:
    """Refuse lines that are no tree with one root: a name with a line break in it may write lines of its own.

    Each node says how many children follow. A forged line that is to become the parent of what really stands below
    another leaves some node with more of them than it said, in the end the root.
    """
    missing: list[int] = []  # of each node above, how many children are still to come
    for number, node in enumerate(nodes):
        if node.depth != len(missing) or (number and not missing):
            break
        missing.append(node.children)
        while missing and not missing[-1]:
            missing.pop()
            if missing:
                missing[-1] -= 1
    else:
        if not missing:
            return
    raise RefusedQueryError("a name holds lines that look like a part of the statement; rename it")


def _single_statement(statement: str) -> str:
    """Cut one `;` at the end off; any other is refused, in a string too, because the engine runs what follows it."""
    if len(statement.encode()) > MAX_QUERY_BYTES:
        raise RefusedQueryError(f"the statement is longer than {MAX_QUERY_BYTES} bytes; bind long values as parameters")
    text = statement.strip().removesuffix(";").rstrip()
    if not text:
        raise RefusedQueryError("the statement is empty; send one as the parameter `query` or as the body")
    if ";" in text:
        raise RefusedQueryError(
            "one statement at a time, and no ';' inside it: bind values that hold one as parameters ({name:String})"
        )
    if "\0" in text:
        raise RefusedQueryError("the statement holds a zero byte")
    return text


def _names(functions: list[EngineFunction]) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Sort the engine's functions into allowed scalars, aggregates, and all known names (lower case)."""
    categories = {function.name: function.category for function in functions}
    scalars: set[str] = set()
    aggregates: set[str] = set()
    for function in functions:
        target = function.alias_to or function.name
        spellings = {function.name} | ({function.name.lower()} if function.case_insensitive else set())
        if target in CLOSED_FUNCTIONS:
            continue
        if function.is_aggregate:
            aggregates |= spellings
        elif categories.get(target, "") not in CLOSED_CATEGORIES or target in OPEN_FUNCTIONS:
            scalars |= spellings
    return frozenset(scalars), frozenset(aggregates), frozenset(function.name.lower() for function in functions)
