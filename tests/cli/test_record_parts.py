"""The parts of recording that need no process: order, command line, environment, messages."""

import dataclasses
import re
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from deploy.words import ROOT
from hypothesis import given
from hypothesis import strategies as st

from tailsight_cli.recording.command_line import without_secrets
from tailsight_cli.recording.environment import environment, with_recording
from tailsight_cli.recording.folders import PREFIX, Folder, private_folder, recording_folder
from tailsight_cli.recording.header import Device, Git, Header, Lost, Machine, Run, Service
from tailsight_cli.recording.messages import TornError, messages_in
from tailsight_cli.recording.order import order_of
from tailsight_collector.keep.records import encode_varint


@given(st.integers(1, 5), st.integers(1, 12), st.integers())
def test_each_variant_runs_once_a_round_and_every_second_round_is_the_one_before_backwards(variants, rounds, seed):
    order = order_of(variants, rounds, Random(seed))
    assert Counter(order) == dict.fromkeys(range(variants), rounds)
    for first in range(0, rounds - 1, 2):
        pair = order[first * variants : (first + 2) * variants]
        assert pair == pair[::-1]
        assert sorted(pair[:variants]) == list(range(variants))


@given(st.integers(2, 4), st.integers(1, 10), st.integers())
def test_a_linear_drift_takes_as_much_from_each_variant(variants, pairs, seed):
    order = order_of(variants, 2 * pairs, Random(seed))
    drift = Counter()
    for moment, variant in enumerate(order):
        drift[variant] += moment
    assert len(set(drift.values())) == 1


def test_who_begins_is_drawn():
    begins = Counter(order_of(2, 2, Random(seed))[0] for seed in range(100))
    assert min(begins[0], begins[1]) > 30


@pytest.mark.parametrize(
    ("command", "kept"),
    [
        pytest.param(["b", "--token", "x"], ("b", "--token", "…"), id="next word"),
        pytest.param(["b", "--api-key=x"], ("b", "--api-key=…"), id="same word"),
        pytest.param(["env", "DB_PASSWORD=x", "b"], ("env", "DB_PASSWORD=…", "b"), id="variable"),
        pytest.param(["b", "https://me:x@host/p?q=1"], ("b", "https://me:…@host/p?q=1"), id="URL"),
        pytest.param(["b", "https://u:p@ss@host/x"], ("b", "https://u:…@host/x"), id="URL with two @"),
        pytest.param(["b", "https://0123456789abcdef@host/x"], ("b", "https://…@host/x"), id="URL with a token"),
        pytest.param(["b", "https://me@host:8/x@y"], ("b", "https://me@host:8/x@y"), id="URL with a name"),
        pytest.param(["b", "-H", "Authorization: Bearer x"], ("b", "-H", "Authorization: …"), id="HTTP header"),
        pytest.param(["b", '{"password": "x"}'], ("b", '{"password": …'), id="JSON"),
        pytest.param(["sh", "-c", "b --token x && c"], ("sh", "-c", "b --token …"), id="shell"),
        pytest.param(["b", "ghp_0123456789abcdefghij"], ("b", "ghp_…"), id="known beginning"),
        pytest.param(["b", "test_token.py::test_it[a: b]"], ("b", "test_token.py::test_it[a: b]"), id="node id"),
        pytest.param(["b", "--token", "--fast"], ("b", "--token", "--fast"), id="no value"),
        pytest.param(["b", "--requests", "7", "tokens"], ("b", "--requests", "7", "tokens"), id="nothing secret"),
    ],
)
def test_what_looks_like_a_secret_is_not_kept(command, kept):
    assert without_secrets(command) == kept


@pytest.mark.parametrize("word", ["a", "token", "--token ", "://a:", "token: "])
def test_long_words_are_looked_through_at_once(word):
    """128 kB, the longest word that Linux takes: in a time that grows with its square this would take hours."""
    assert len(without_secrets(["b", word * (128_000 // len(word))])) == 2


def test_the_recording_wins_over_the_shell_and_the_rest_stays():
    shell = {
        "PATH": "/bin",
        "OTEL_SDK_DISABLED": "true",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://elsewhere",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=secret",
        "OTEL_SERVICE_NAME": "ranker",
        "no_proxy": "internal",
    }
    folder = Folder(Path("/r"), Path("/rings"))
    whole = with_recording(shell, environment(folder, "base#1", "http://127.0.0.1:7"))
    assert whole == {
        "PATH": "/bin",
        "OTEL_SERVICE_NAME": "ranker",
        "TAILSIGHT_RECORDING": "/r",
        "TAILSIGHT_ENABLED": "true",
        "TAILSIGHT_TRANSPORT": "file",
        "TAILSIGHT_FILE": "/r/spans/{pid}.otlp",
        "TAILSIGHT_RUNTIME_DIR": "/rings",
        "TAILSIGHT_SPOOL_DIR": "/r/spool",
        "TAILSIGHT_RUN": "base#1",
        "TAILSIGHT_PROTOCOL": "http/protobuf",
        "TAILSIGHT_ENDPOINT": "http://127.0.0.1:7",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:7",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_TRACES_EXPORTER": "otlp",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "internal,127.0.0.1,localhost",
    }


def test_a_recordings_folders_are_this_users_only_and_go_at_its_end():
    with recording_folder() as folder:
        assert [path.stat().st_mode & 0o777 for path in (folder.path, folder.rings)] == [0o700, 0o700]
    assert not folder.path.exists()
    assert not folder.rings.exists()


@given(st.lists(st.binary(max_size=300)), st.integers(1, 50))
def test_messages_are_the_same_in_whatever_pieces_they_come(messages, size):
    data = b"".join(encode_varint(len(message)) + message for message in messages)
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    assert list(messages_in(pieces)) == messages
    if data:
        with pytest.raises(TornError) as torn:
            list(messages_in([*pieces, b"\x05abc"]))
        assert torn.value.left_bytes == 4


def test_a_message_that_nobody_writes_fills_no_memory():
    with pytest.raises(TornError, match="a message of 34359738367 bytes") as torn:
        list(messages_in([b"\x01a\xff\xff\xff\xff\x7f" + bytes(1000)]))
    assert torn.value.left_bytes == 1005


def test_what_a_killed_recorder_left_goes_and_what_others_use_stays(tmp_path):
    with private_folder(tmp_path) as used:
        (killed := tmp_path / f"{PREFIX}killed").mkdir()
        (killed / "recorder.lock").touch()
        (begins := tmp_path / f"{PREFIX}begins").mkdir()
        with private_folder(tmp_path) as mine:
            assert set(tmp_path.iterdir()) == {used, begins, mine}
    assert set(tmp_path.iterdir()) == {begins}


def test_the_document_names_every_key_of_the_header():
    text = (ROOT / "docs" / "record.md").read_text()
    named = {
        word for row in re.findall(r"^\| .*$", text, flags=re.MULTILINE) for word in re.findall(r"`([\w.\[\]]+)`", row)
    }
    kinds = (Header, Machine, Device, Service, Git, Run, Lost)
    assert {field.name for kind in kinds for field in dataclasses.fields(kind)} <= named
