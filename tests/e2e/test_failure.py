"""A collector that only a new start can mend says so for a while, and then ends by itself: whoever runs it starts it again."""

import subprocess
import sys
import textwrap

SCRIPT = """
    import sys, threading, urllib.request, urllib.error
    from pathlib import Path
    from tailsight_cli import main
    from tailsight_collector import server

    server.FAILED_FOR_S = 2.0
    server.FAILURE_CHECK_S = 0.05
    real = server.Collector.serve

    async def serve(self, stop, on_ready):
        def ready(addresses):
            on_ready(addresses)
            self._traces.journal.failure = "the disk has gone"  # as its writing thread says before it ends
            threading.Thread(target=ask, args=[addresses.otlp_url], daemon=True).start()
        await real(self, stop, ready)

    def ask(url):
        try:
            urllib.request.urlopen(url + "/healthz")
        except urllib.error.HTTPError as error:
            print("healthz", error.code, error.read().decode()[:40], flush=True)

    server.Collector.serve = serve
    sys.exit(main.run(["collector", "--data", sys.argv[1], "--http-port", "0", "--grpc-port", "0", "--sql-port", "0"]))
"""


def test_it_ends_with_a_status_that_a_service_manager_sees(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(tmp_path / "data")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 4, done.stderr
    assert 'healthz 503 {"status":"failed"' in done.stdout
    assert "only a new start helps: the disk has gone" in done.stderr
    assert "Traceback" not in done.stderr
