"""The run file: what is written is read again, and what is damaged is found out."""

import dataclasses
import io
import json
import os
import struct
from pathlib import Path

import pytest
import zstandard
from testkit import otlp

from tailsight_cli import main
from tailsight_cli.recording.header import Device, Git, Header, HeaderError, Lost, Machine, Run, Service
from tailsight_cli.recording.run_file import read_header, read_run_file, write_run_file
from tailsight_collector.errors import UnreadableFileError
from tailsight_collector.importer import read_requests
from tailsight_collector.keep.records import encode_varint
from tailsight_collector.zstd_frames import unpacked

RUNS = (
    Run("a#1", 1, 2, 0, 3, 1, 0.5, Lost()),
    Run("a#2", 3, 4, 7, 0, 0, 1.5, Lost({"buffer_full": 9}, 1, 2, 3, 4, 5)),
)
HEADER = Header(
    created="2026-11-22T20:00:00Z",
    name="a",
    source="record",
    command=("python", "bench.py"),
    order="mirrored",
    machine=Machine("0123456789abcdef", "AMD EPYC 9575F", 2, 1 << 34, "x86_64", "Linux 6.18"),
    hardware=Device("gpu", "NVIDIA H100 80GB HBM3", "NVIDIA"),
    versions={"python": "3.11.7"},
    services=(Service("ranker", "7", "NVIDIA L4", "tailsight python 0.1.0"),),
    git=Git("0" * 40, "main", True),
    runs=RUNS,
    body_bytes=0,
)
RUN = json.loads(json.dumps(HEADER.to_json()))["runs"][0]
MESSAGES = [otlp.request([otlp.span(name=f"span {number}")]).SerializeToString() for number in range(200)]


def frame(messages: list[bytes]) -> bytes:
    plain = b"".join(encode_varint(len(message)) + message for message in messages)
    return zstandard.ZstdCompressor(write_checksum=True).compress(plain)


@pytest.fixture
def run_file(tmp_path) -> Path:
    """A file of two runs."""
    parts = [tmp_path / "1", tmp_path / "2"]
    for part, messages in zip(parts, (MESSAGES[:150], MESSAGES[150:]), strict=True):
        part.write_bytes(frame(messages))
    path = tmp_path / "a.otlp.zst"
    header = dataclasses.replace(HEADER, body_bytes=sum(part.stat().st_size for part in parts))
    assert write_run_file(path, header, parts) == path.stat().st_size
    return path


def test_header_and_messages_come_back_as_they_were_written(run_file):
    found = read_run_file(run_file)
    assert found.header == dataclasses.replace(HEADER, body_bytes=found.header.body_bytes)
    assert list(found.messages()) == MESSAGES


def test_the_header_is_a_skippable_frame_of_json_as_rfc_8878_has_it(run_file):
    data = run_file.read_bytes()
    magic, size = struct.unpack_from("<II", data)
    assert magic == 0x184D2A50
    assert json.loads(data[8 : 8 + size])["runs"][1]["lost"]["spans"] == {"buffer_full": 9}
    with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
        assert reader.read() == b"".join(encode_varint(len(message)) + message for message in MESSAGES)


def test_the_importer_reads_it_as_it_is(run_file):
    assert [request.SerializeToString() for request in read_requests(run_file)] == MESSAGES


def test_header_survives_json_with_keys_of_a_later_version(run_file):
    said = json.loads(json.dumps(HEADER.to_json()))
    said["weather"] = said["machine"]["weather"] = said["runs"][0]["weather"] = "fair"
    assert Header.from_json(said) == HEADER
    assert Header.from_json({**said, "git": None}).git is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"format": 2}, "it is of format 2, and this version of tailsight reads 1: update it", id="later"),
        pytest.param({"format": None}, "it has no format", id="no format"),
        pytest.param({"runs": 3}, "TypeError", id="runs"),
        pytest.param({"runs": [{**RUN, "spans": "many"}]}, "spans is 'many'", id="spans"),
        pytest.param({"runs": [{**RUN, "start_ns": None}]}, "start_ns is None", id="start"),
        pytest.param({"runs": [{**RUN, "lost": {"spans": 3}}]}, "AttributeError", id="lost"),
        pytest.param({"services": [3]}, "service is 3", id="services"),
        pytest.param({"body_bytes": float("inf")}, "OverflowError", id="size"),
        pytest.param({"machine": {}}, "TypeError", id="machine"),
    ],
)
def test_a_header_that_cannot_be_understood_says_why(change, words):
    with pytest.raises(HeaderError, match=words):
        Header.from_json({**json.loads(json.dumps(HEADER.to_json())), **change})


def test_a_plain_file_has_no_header_and_its_messages_are_read(tmp_path):
    path = tmp_path / "plain.otlp.zst"
    path.write_bytes(frame(MESSAGES))
    assert read_header(path) is None
    assert list(read_run_file(path).messages()) == MESSAGES


@pytest.mark.parametrize(
    "kept", [3, 7, 8, 100, -1, -5, -2000], ids=lambda kept: f"first {kept}" if kept > 0 else f"all but {-kept}"
)
def test_a_file_that_is_cut_off_is_refused(run_file, kept):
    run_file.write_bytes(run_file.read_bytes()[:kept])
    with pytest.raises(UnreadableFileError, match=r"a\.otlp\.zst: .*(cut off|no run file)"):
        read_header(run_file)


def test_a_file_with_something_behind_its_end_is_refused(run_file):
    run_file.write_bytes(run_file.read_bytes() + b"x")
    with pytest.raises(UnreadableFileError, match="followed by something else"):
        read_header(run_file)


def test_a_changed_byte_is_found_by_the_checksum(run_file):
    data = bytearray(run_file.read_bytes())
    data[-100] ^= 1
    run_file.write_bytes(data)
    with pytest.raises(UnreadableFileError, match="the file is damaged"):
        list(read_run_file(run_file).messages())


def test_a_message_that_is_cut_off_is_found(tmp_path):
    path = tmp_path / "plain.otlp.zst"
    path.write_bytes(zstandard.ZstdCompressor().compress(encode_varint(100) + b"x" * 99))
    with pytest.raises(UnreadableFileError, match="its last message is cut off"):
        list(read_run_file(path).messages())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(None, "No such file", id="missing"),
        pytest.param(b"", "no run file; `tailsight record -o a.otlp.zst` makes one", id="empty"),
        pytest.param(b"# README", "no run file", id="text"),
        pytest.param(struct.pack("<II", 0x184D2A50, 1 << 31) + b"{}", "none of ours", id="header too large"),
        pytest.param(struct.pack("<II", 0x184D2A51, 2) + b"{}", "none of ours", id="frame of others"),
        pytest.param(struct.pack("<II", 0x184D2A50, 2) + b"{]", "its header cannot be read", id="header no JSON"),
        pytest.param(struct.pack("<II", 0x184D2A50, 2) + b"{}", "it has no format", id="header of others"),
        pytest.param(struct.pack("<II", 0x184D2A50, 99_999) + b"[" * 99_999, "recursion", id="header too deep"),
    ],
)
def test_what_is_no_run_file_is_refused(tmp_path, content, words):
    path = tmp_path / "a.otlp.zst"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnreadableFileError, match=words):
        read_header(path)


def test_an_import_of_a_file_that_is_cut_off_ends_with_4(run_file, tmp_path, capsys):
    run_file.write_bytes(run_file.read_bytes()[:-2])
    assert main.run(["import", str(run_file), "--endpoint", "http://127.0.0.1:9"]) == 4
    assert capsys.readouterr().err == f"tailsight: {run_file}: the packed file is damaged: its end is missing\n"


def test_a_file_takes_its_place_whole_or_not_at_all(run_file, tmp_path):
    before = run_file.read_bytes()
    with pytest.raises(FileNotFoundError):
        write_run_file(run_file, HEADER, [tmp_path / "1", tmp_path / "no such part"])
    assert run_file.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2", "a.otlp.zst"]


def test_a_bomb_is_unpacked_in_pieces_that_fit_into_memory():
    packed = zstandard.ZstdCompressor(level=3).compress(bytes(256 << 20))
    assert len(packed) < 16 << 10
    pieces = [len(piece) for piece in unpacked(io.BytesIO(packed))]
    assert sum(pieces) == 256 << 20
    assert max(pieces) <= 32 << 20


def test_what_a_killed_recorder_of_the_same_process_id_left_is_in_nobodys_way(run_file, tmp_path):
    left = tmp_path / f".b.otlp.zst.{os.getpid()}.partial"
    left.write_bytes(b"half")
    header = dataclasses.replace(HEADER, body_bytes=(tmp_path / "1").stat().st_size)
    write_run_file(tmp_path / "b.otlp.zst", header, [tmp_path / "1"])
    assert read_header(tmp_path / "b.otlp.zst") == header
    assert not left.exists()
