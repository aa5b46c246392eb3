"""The pytest plugin: sessions of every kind, those that go wrong among them."""

import pytest
from testkit.pytest_sessions import session
from testkit.recordings import spans_in

from tailsight_cli.recording.run_file import read_header

PLAIN = "import sys\ndef test_nothing_of_ours_is_loaded():\n    assert 'tailsight' not in sys.modules\n"
INTERRUPTS = "import pytest\n@pytest.mark.tailsight\ndef test_it():\n    raise KeyboardInterrupt\n"
NOTHING_CAN_BE_NOTED = """
import os, pytest, shutil
@pytest.mark.tailsight
def test_it():
    shutil.rmtree(os.environ["TAILSIGHT_RECORDING"])
@pytest.mark.tailsight
def test_next():
    pass
"""


def test_without_the_option_nothing_of_ours_is_loaded_but_the_marker_is_known(tmp_path):
    done = session(tmp_path, "--markers")
    assert "@pytest.mark.tailsight(rounds=1): record this test" in done.stdout
    done = session(tmp_path, test=PLAIN)
    assert done.returncode == 0, done.stdout
    assert "tailsight -" not in done.stdout


def test_the_files_of_xdists_workers_become_one(tmp_path):
    tests = "import pytest\n@pytest.mark.tailsight\n@pytest.mark.parametrize('n', range(8))\ndef test_it(n): pass\n"
    done = session(tmp_path, "-n", "2", "--tailsight-record", "a.otlp.zst", test=tests)
    assert done.returncode == 0, done.stdout
    spans = list(spans_in(tmp_path / "a.otlp.zst"))
    assert sorted(span.name for span in spans) == [f"test_it.py::test_it[{n}]" for n in range(8)]
    assert len({span.resource["process.pid"] for span in spans}) == 2


def test_an_interrupted_session_leaves_no_file_nor_an_earlier_one(tmp_path):
    (tmp_path / "a.otlp.zst").write_bytes(b"earlier")
    done = session(tmp_path, "--tailsight-record", "a.otlp.zst", test=INTERRUPTS)
    assert done.returncode == 2
    assert "a.otlp.zst is not written: the session did not come to its end" in done.stdout
    assert not (tmp_path / "a.otlp.zst").exists()


@pytest.mark.parametrize(
    ("options", "code"), [pytest.param([], 0, id="none marked"), pytest.param(["-k", "no"], 5, id="none at all")]
)
def test_a_session_without_marked_tests_says_so(tmp_path, options, code):
    done = session(tmp_path, "--tailsight-record", "a.otlp.zst", *options, test="def test_it(): pass\n")
    assert done.returncode == code
    assert "a.otlp.zst is not written: no test ran that is marked with @pytest.mark.tailsight" in done.stdout


def test_what_goes_wrong_in_the_plugin_breaks_no_test(tmp_path):
    done = session(tmp_path, "--tailsight-record", "a.otlp.zst", test=NOTHING_CAN_BE_NOTED)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
    assert "tailsight records not everything: FileNotFoundError" in done.stdout


@pytest.mark.parametrize(
    "said",
    ["rounds=0", "rounds=-1", "rounds='x'", "rounds=2.5", "7", "round=7"],
    ids=lambda said: said.replace("'", ""),
)
def test_a_marker_that_is_not_understood_is_said(tmp_path, said):
    test = f"import pytest\n@pytest.mark.tailsight({said})\ndef test_it(): pass\n"
    done = session(tmp_path, "--tailsight-record", "a.otlp.zst", test=test)
    assert done.returncode == 0, done.stdout
    assert f"test_it.py::test_it: tailsight({said}) is not understood: rounds=N says how often" in done.stdout


def test_without_a_terminal_plugin_the_file_says_how_the_session_ended(tmp_path):
    test = "import pytest\n@pytest.mark.tailsight\ndef test_it(): assert 0\n"
    done = session(tmp_path, "-p", "no:terminal", "--tailsight-record", "a.otlp.zst", test=test)
    assert (done.returncode, done.stdout) == (1, "")
    header = read_header(tmp_path / "a.otlp.zst")
    assert [(run.exit_code, run.spans) for run in header.runs] == [(1, 1)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param(["--tailsight-record", "a.txt"], "--tailsight-record a.txt must end with .otlp.zst", id="suffix"),
        pytest.param(["--tailsight-record", "no/a.otlp.zst"], "there is no folder", id="no folder"),
        pytest.param(["--tailsight-record", "is.otlp.zst"], "is.otlp.zst is a folder", id="a folder"),
        pytest.param(
            ["-p", "without", "--tailsight-record", "a.otlp.zst"], "pip install 'tailsight[collector]'", id="extra"
        ),
    ],
)
def test_wrong_use_is_said_at_the_start(tmp_path, options, words):
    (tmp_path / "is.otlp.zst").mkdir()
    (tmp_path / "without.py").write_text("import sys\nsys.modules['zstandard'] = None\n")
    done = session(tmp_path, *options, test=PLAIN)
    assert done.returncode == 4
    assert words in done.stderr
    assert list(tmp_path.glob("*.otlp.zst")) == [tmp_path / "is.otlp.zst"]
