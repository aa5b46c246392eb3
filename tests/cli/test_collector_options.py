"""Options of `tailsight collector` that no test elsewhere gives."""

from testkit.processes import CollectorProcess


def test_the_journals_limit_is_what_was_asked_for(tmp_path):
    with CollectorProcess(tmp_path, "--max-journal-bytes", str(1 << 30)) as collector:
        health = collector.health()
    assert health["journal"]["max_bytes"] == 1 << 30
    assert health["metrics"]["journal"]["max_bytes"] == 1 << 27
