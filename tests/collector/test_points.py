import pytest
from testkit.metrics import metric, metrics_request, point

from tailsight_collector import BadRequestError
from tailsight_collector.receive.checks import DAY_NS, MAX_UNFOLDED_BYTES, YEAR_2000_NS
from tailsight_collector.receive.points import POINT_REASONS, check_points

RECEIVED_NS = 1_790_000_000 * 10**9


def good(value=1.0, **fields):
    return point(value, time_unix_nano=RECEIVED_NS, **fields)


@pytest.mark.parametrize(
    ("name", "one", "reason"),
    [
        ("hw.power", good(), ""),
        ("hw.power", good(3), ""),
        ("hw.power", point(1.0, time_unix_nano=YEAR_2000_NS), ""),
        ("hw.power", point(1.0, time_unix_nano=RECEIVED_NS + DAY_NS), ""),
        ("http.server.request.duration", good(), "not_a_device_metric"),
        ("hw.power", good(None), "no_value"),
        ("hw.power", good(flags=1), "no_value"),
        ("hw.power", good(float("nan")), "not_finite"),
        ("hw.power", good(float("-inf")), "not_finite"),
        ("hw.power", point(1.0, time_unix_nano=0), "before_2000"),
        ("hw.power", point(1.0, time_unix_nano=YEAR_2000_NS - 1), "before_2000"),
        ("hw.power", point(1.0, time_unix_nano=RECEIVED_NS + DAY_NS + 1), "in_the_future"),
    ],
)
@pytest.mark.parametrize("kind", ["gauge", "sum"])
def test_why_a_point_is_not_stored(name, one, reason, kind):
    checked = check_points(metrics_request([metric(name, [one], kind=kind)]), RECEIVED_NS)
    assert (checked.total, dict(checked.rejected)) == (1, {reason: 1} if reason else {})
    assert checked.is_worth_storing == (not reason)
    assert checked.message == (
        f"did not store 1 of 1 data points: 1 × {POINT_REASONS[reason]}" if reason else ""
    )  # fmt: skip


def test_histograms_and_summaries_are_counted():
    request = metrics_request([metric("hw.a", [good()])])
    metrics = request.resource_metrics[0].scope_metrics[0].metrics
    for _ in range(2):
        metrics.add(name="hw.h").histogram.data_points.add(count=3)
    metrics.add(name="hw.e").exponential_histogram.data_points.add(count=3)
    metrics.add(name="hw.s").summary.data_points.add(count=3)
    metrics.add(name="hw.empty").summary.SetInParent()
    metrics.add(name="hw.nothing")
    checked = check_points(request, RECEIVED_NS)
    assert (checked.total, dict(checked.rejected)) == (5, {"not_a_number": 4})


def test_an_empty_histogram_rejects_nothing():
    request = metrics_request([])
    request.resource_metrics[0].scope_metrics[0].metrics.add(name="hw.h").histogram.SetInParent()
    assert check_points(request, RECEIVED_NS).message == ""


def test_what_unfolds_with_every_point_is_bounded():
    size = 1_000_000
    points = [good()] * (MAX_UNFOLDED_BYTES // size + 1)
    with pytest.raises(BadRequestError, match="unfold") as caught:
        check_points(metrics_request([metric("hw.a", points)], {"big": "x" * size}), RECEIVED_NS)
    assert caught.value.status == 413
    assert check_points(metrics_request([metric("hw.a", points[:200])], {"big": "x" * size}), RECEIVED_NS).total == 200
