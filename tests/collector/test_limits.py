import resource
import subprocess
import sys

import pytest

from tailsight_collector import SettingsError
from tailsight_collector.receive.limits import HttpLimits, connections_for


@pytest.mark.parametrize(
    ("open_files", "wanted", "found"),
    [(1024, 12_000, 64), (4096, 12_000, 3072), (1 << 20, 12_000, 12_000), (0, 70, 64)],
)
def test_connections_leave_files_for_the_rest(open_files, wanted, found):
    assert connections_for(open_files, wanted) == found


@pytest.mark.parametrize("wrong", [{"connections": 63}, {"header_s": 0}, {"body_s": -1.0}, {"idle_s": 3601}])
def test_limits_that_cannot_be_are_named(wrong):
    [name] = wrong
    with pytest.raises(SettingsError, match=name):
        HttpLimits(**wrong)


def test_as_many_files_as_may_be_are_opened():
    """In a process of its own, whose limit is this test's to change."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    program = (
        "import resource\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, (256, {hard}))\n"
        "from tailsight_collector.receive.limits import raise_open_files_limit\n"
        "print(raise_open_files_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == [str(hard)] * 3
