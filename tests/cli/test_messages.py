"""What the analysis says is read in a terminal and in a browser: it must not speak of a command's options."""

import ast
import re
from pathlib import Path

import pytest

import tailsight_analysis
from tailsight_analysis import NotEnoughDataError
from tailsight_cli._errors import WAYS_OUT, explain

PACKAGE = Path(tailsight_analysis.__file__).parent
# what `tailsight gate` and `tailsight record` ask is asked nowhere but on a command line
MODULES = [module for module in sorted(PACKAGE.rglob("*.py")) if "gating" not in module.parts]
OPTION = re.compile(r"(?<![\w-])--[a-z]")


def texts(module: Path) -> list[str]:
    """All strings of a module but its docstrings."""
    tree = ast.parse(module.read_text())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, documented)}
    strings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [text for text in strings if text not in docstrings]


def test_no_message_names_an_option_of_the_command():
    found = {module.name: [text for text in texts(module) if OPTION.search(text)] for module in MODULES}
    assert {name: named for name, named in found.items() if named} == {}


@pytest.mark.parametrize("parameter", sorted(WAYS_OUT))
def test_the_command_says_which_option_helps(parameter):
    code, line = explain(NotEnoughDataError("no request carries it", choose=parameter))
    assert code == 3
    assert line.startswith("no request carries it; ")
    assert f"--{parameter}" in line
