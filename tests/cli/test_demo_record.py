"""The recorder of the sample traces."""

import threading

import httpx

from tailsight_cli.demo.record import _Sink


def test_a_recording_holds_traces_alone_also_where_the_sdk_sends_metrics_too():
    sink = _Sink()
    server = threading.Thread(target=sink.serve_forever, kwargs={"poll_interval": 0.01})
    server.start()
    try:
        url = f"http://127.0.0.1:{sink.server_port}"
        assert httpx.post(f"{url}/v1/metrics", content=b"metrics").status_code == 404
        assert httpx.post(f"{url}/v1/traces", content=b"spans").status_code == 200
    finally:
        sink.shutdown()
        server.join()
        sink.server_close()
    assert sink.bodies == [b"spans"]
