"""`tailsight token`, and what the options of a collector say of it."""

import json
import re
import stat
from pathlib import Path

import pytest

from tailsight_cli import stack as stack_module
from tailsight_cli.guarding import OWN_TOKEN_ENV, own_tokens_from_environment
from tailsight_cli.main import run
from tailsight_cli.processes import Event
from tailsight_cli.stack import Ports, Stack, dashboard_host
from tailsight_collector.guard.access import Access
from tailsight_collector.guard.tokens import digest_of, read_tokens


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.delenv("TAILSIGHT_TOKENS", raising=False)
    return tmp_path / "tokens.txt"


@pytest.fixture
def token(file, capsys):
    """Run a command of `tailsight token` on the file: its exit code, stdout and stderr."""

    def asked(*arguments):
        code = run(["token", *arguments, "--file", str(file)])
        out, err = capsys.readouterr()
        return code, out, err

    return asked


def test_create_prints_the_token_once_and_keeps_its_hash(token, file):
    code, out, err = token("create", "--name", "edge-7", "--scope", "ingest")
    assert code == 0
    assert re.fullmatch(r"ts_[\w-]{43}\n", out), "stdout is the token alone, for a script to keep"
    secret = out.strip()
    assert secret not in file.read_text() + err
    assert "Authorization=Bearer%20TOKEN" in err
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    [made] = read_tokens(file)
    assert (made.name, made.scopes, made.digest) == ("edge-7", {"ingest"}, digest_of(secret))
    assert Access(file).caller({"authorization": f"Bearer {secret}"}).name == "edge-7"


def test_create_takes_both_scopes_limits_and_an_end(token, file):
    options = ["--requests-per-s", "20", "--bytes-per-s", "5e6", "--expires", "2031-01-31"]
    assert token("create", "--name", "ci", "--scope", "ingest", "--scope", "read", *options)[0] == 0
    assert token("create", "--name", "soon", "--scope", "read", "--expires", "90d")[0] == 0
    [ci, soon] = read_tokens(file)
    assert (ci.scopes, ci.requests_per_s, ci.bytes_per_s) == ({"ingest", "read"}, 20, 5_000_000)
    assert f"{ci.expires:%Y-%m-%d}" == "2031-01-31"
    assert soon.expires is not None


def test_list_shows_everything_but_what_is_secret(token, file):
    secret = token("create", "--name", "edge-7", "--scope", "ingest", "--requests-per-s", "20")[1].strip()
    token("create", "--name", "old", "--scope", "read", "--expires", "2020-01-31")
    code, out, _ = token("list")
    assert code == 0
    assert re.search(r"edge-7\s+ingest\s+20\s+–\s+never", out)
    assert "2020-01-31T00:00:00Z (has ended)" in " ".join(out.split())
    assert secret not in out
    assert digest_of(secret).hex() not in out
    listed = json.loads(token("list", "--json")[1])
    assert listed["tokens"][0] == {
        "name": "edge-7", "scopes": ["ingest"], "requests_per_s": 20, "bytes_per_s": None, "expires": None, "expired": False,
    }  # fmt: skip


def test_revoke_takes_it_out(token, file):
    token("create", "--name", "edge-7", "--scope", "ingest")
    token("create", "--name", "edge-8", "--scope", "ingest")
    assert token("revoke", "edge-7")[0] == 0
    assert [each.name for each in read_tokens(file)] == ["edge-8"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["create", "--name", "edge-7", "--scope", "ingest"], "has a token edge-7 already: give another name"),
        (["create", "--name", "edge-8", "--scope", "write"], "'write' is not one of 'ingest', 'read'"),
        (["create", "--name", "a b", "--scope", "read"], "the name 'a b' cannot be used"),
        (["create", "--name", "edge-8", "--scope", "read", "--expires", "soon"], "'soon' is no time; write 2027-01-31"),
        (["create", "--name", "edge-8", "--scope", "read", "--requests-per-s", "0"], "0.0 is not in the range"),
        (["create", "--name", "edge-8"], "Missing option '--scope'"),
        (["revoke", "egde-7"], "no token 'egde-7'; it has: edge-7"),
    ],
)
def test_wrong_use_is_one_line_and_changes_nothing(token, file, arguments, says):
    token("create", "--name", "edge-7", "--scope", "ingest")
    before = file.read_text()
    code, out, err = token(*arguments)
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1
    assert file.read_text() == before


def test_a_file_that_is_missing_or_broken_is_one_line(token, file):
    assert token("list")[0] == 2
    file.write_text("nonsense\n")
    code, _, err = token("create", "--name", "edge-7", "--scope", "ingest")
    assert code == 2
    assert f"tokens file {file} line 1: a line is" in err
    assert file.read_text() == "nonsense\n"


def test_a_folder_that_is_missing_is_one_line(token, file, capsys):
    assert run(["token", "create", "--name", "x", "--scope", "read", "--file", str(file / "deeper" / "t")]) == 2
    assert "cannot be written: No such file or directory" in capsys.readouterr().err


# --- tailsight up -------------------------------------------------------------------------------------------------


@pytest.fixture
def children(monkeypatch):
    """The children that a stack starts, recorded instead of run."""
    started = {}

    class RecordedChild:
        def __init__(self, name, _module, arguments, events, *, environment, on_words, **_):
            started[name] = (arguments, environment)
            if name == "collector":
                on_words("WARNING of the start")
                facts = {"otlp_url": "http://127.0.0.1:4318", "grpc_target": "127.0.0.1:4317"}
                events.put(Event(self, facts | {"store": "clickhouse://127.0.0.1:8123/tailsight"}))

        def ask_to_stop(self):
            pass

        stop = ask_to_stop

    monkeypatch.setattr(stack_module, "Child", RecordedChild)
    monkeypatch.setattr(stack_module, "_await_answer", lambda url, child: None)
    return started


def test_up_gives_its_dashboard_a_token_that_no_command_line_shows(children, tmp_path, monkeypatch):
    monkeypatch.setenv("TAILSIGHT_TOKENS", "of-the-shell")
    words = []
    tokens = tmp_path / "tokens.txt"
    with Stack(Ports(), data=tmp_path, tokens=tokens, on_words=lambda name, line: words.append(line)) as stack:
        stack.start_dashboard()
    (arguments, collector), (dashboard_arguments, dashboard) = children["collector"], children["dashboard"]
    secret = re.fullmatch(
        r"clickhouse://tailsight-up:(ts_[\w-]+)@127.0.0.1:8123/tailsight", dashboard["TAILSIGHT_STORE"]
    )[1]
    assert arguments[arguments.index("--tokens") + 1] == str(tokens)
    assert not any(secret in text for text in (*arguments, *dashboard_arguments))
    assert secret not in str(collector), "the collector needs no more than its hash"
    assert "TAILSIGHT_TOKENS" not in collector
    monkeypatch.setenv(OWN_TOKEN_ENV, collector[OWN_TOKEN_ENV])
    [own] = own_tokens_from_environment()
    assert (own.scopes, own.digest) == ({"read"}, digest_of(secret))
    assert words == ["WARNING of the start"], "what the collector warns of before it is ready is passed on"


def test_without_tokens_there_is_none(children, tmp_path):
    with Stack(Ports(), data=tmp_path) as stack:
        stack.start_dashboard()
    assert OWN_TOKEN_ENV not in children["collector"][1]
    assert children["dashboard"][1]["TAILSIGHT_STORE"] == "clickhouse://127.0.0.1:8123/tailsight"


def test_the_dashboard_stays_on_loopback_unless_everything_is_open():
    assert dashboard_host("0.0.0.0", insecure=False) == "127.0.0.1"
    assert dashboard_host("0.0.0.0", insecure=True) == "0.0.0.0"
    # with tokens, it would read with its own for everybody who comes
    guarded = Stack(Ports("0.0.0.0"), data=None, tokens=Path("tokens.txt"), insecure=True)
    assert guarded._dashboard_host == "127.0.0.1"
    assert dashboard_host("::1", insecure=False) == "::1"


def test_a_public_address_without_tokens_is_refused_in_one_line(tmp_path, capsys):
    assert run(["collector", "--data", str(tmp_path / "data"), "--host", "0.0.0.0"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "tailsight token create --name NAME --scope ingest --file tokens.txt" in err
    assert not Path(tmp_path / "data").exists()
