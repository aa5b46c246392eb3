"""`tailsight flame` where recordings are not alike: of other rates, or two of one process at once."""

import json

import pytest
from testkit.profiles import BASE_NS, place, profile

from tailsight_cli import main
from tailsight_storage import open_store
from tailsight_storage.profiles import checked_profile, insert_profile

TAIL, TYPICAL = range(1, 21), range(101, 141)


def recording(first, rate_hz, per_request, *, process=77, run="", started_s=0):
    """20 tail and 40 typical requests; each has samples in `fast`, and those of the tail as many in `slow` too."""
    places = [place(first + number, kind="tail", run=run, process=process) for number in TAIL]
    places += [place(first + number, run=run, process=process) for number in TYPICAL]
    samples = [(number, 0, per_request) for number in range(60)] + [(number, 1, per_request) for number in range(20)]
    started_ns = BASE_NS + started_s * 10**9
    plain = profile(places, samples, rate_hz=rate_hz, process=process, started_ns=started_ns, duration_ms=5000.0)
    plain["samples"]["time_ns"] = [started_ns + number * 10_000_000 for number in range(len(samples))]
    return plain


@pytest.fixture
def flame(tmp_path, capfd):
    def call(plains, *arguments):
        folder = f"chdb://{tmp_path / 'store'}"
        with open_store(folder, create=True) as store:
            for plain in plains:
                assert insert_profile(store, checked_profile(plain))
        code = main.run(["flame", "--store", folder, "--all-time", *arguments])
        out, err = capfd.readouterr()
        assert code == 0, err
        return out

    return call


def test_samples_of_each_recording_stand_for_its_own_rate(flame):
    """100 Hz: 10 ms each; 400 Hz: 2.5 ms each. The same 20 ms per function and request in both."""
    both = [recording(0, 100.0, 2), recording(10_000, 400.0, 8, process=78)]
    answer = json.loads(flame(both, "--json"))
    assert answer["samples"] == 80 * 2 + 80 * 8
    assert answer["ms"] == pytest.approx(2 * 80 * 20.0)
    found = {each["function"]: (each["total_ms"], each["total_samples"]) for each in answer["functions"]}
    assert found["slow"] == (pytest.approx(2 * 20 * 20.0), 20 * 2 + 20 * 8)
    assert found["fast"][0] == pytest.approx(2 * 60 * 20.0)
    assert answer["root"]["total_ms"] == pytest.approx(answer["ms"])


def test_a_difference_is_in_the_times_that_samples_stand_for(flame):
    both = [recording(0, 100.0, 2), recording(10_000, 400.0, 8, process=78)]
    first = json.loads(flame(both, "--diff", "tail:typical", "--json"))["functions"][0]
    assert (first["function"], first["certain"]) == ("slow", True)
    assert first["a"]["ms"] == pytest.approx(20.0)
    assert first["difference_ms"] == pytest.approx(20.0)
    assert first["a"]["share"] == pytest.approx(0.5)
    assert 0 < first["low_ms"] < 20.0 < first["high_ms"]


def test_the_table_says_all_rates(flame):
    said = " ".join(flame([recording(0, 100.0, 2), recording(10_000, 400.0, 8, process=78)]).split())
    assert "800 samples of 120 requests, 3,200 ms at 100 and 400 Hz." in said


@pytest.mark.parametrize("rate_hz", [100.0, 200.0], ids=["the same rate", "another rate"])
def test_two_recordings_of_a_process_at_once_share_its_time(flame, rate_hz):
    """Each saw the same requests for the same 20 ms: that is 20 ms, and not 40."""
    twice = [recording(0, 100.0, 2), recording(0, rate_hz, round(rate_hz / 50), started_s=0) | {"notes": []}]
    del twice[1]["notes"]
    twice[1]["profile"]["notes"] = ["the other one"]
    answer = json.loads(flame(twice, "--json"))
    assert answer["requests"] == 60
    assert answer["ms"] == pytest.approx(80 * 20.0)
    first = json.loads(flame([], "--diff", "tail:typical", "--json"))["functions"][0]
    assert first["difference_ms"] == pytest.approx(20.0)


def test_recordings_of_a_process_after_each_other_do_not_share_it(flame):
    after = [recording(0, 100.0, 2), recording(10_000, 100.0, 2, started_s=60)]
    assert json.loads(flame(after, "--json"))["ms"] == pytest.approx(2 * 80 * 20.0)
