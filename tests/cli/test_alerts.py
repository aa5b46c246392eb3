"""The file of alert rules: what it may say, what is said where it is wrong; and the commands' output."""

import io
import json
import re
import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from tailsight_analysis import Filters
from tailsight_analysis.alerting import jitter, regression, slo, throttling
from tailsight_analysis.alerting.jitter import JitterRule
from tailsight_analysis.alerting.open import OpenAlert
from tailsight_analysis.alerting.regression import RegressionRule
from tailsight_analysis.alerting.rules import KINDS
from tailsight_analysis.alerting.slo import DEFAULT_BURNS, Burn, SloRule
from tailsight_analysis.alerting.throttling import ThrottlingRule
from tailsight_analysis.alerting.words import FILTER_KEYS
from tailsight_cli._errors import CommandError
from tailsight_cli.alerting.file import SCHEDULE_KEYS, WEBHOOK_KEYS, read_alert_file
from tailsight_cli.main import program
from tailsight_cli.render.alerts import render_alerts, render_answers
from tailsight_collector.alerts.post import Answer
from tailsight_collector.alerts.settings import Schedule, Webhook

NS_PER_S = 10**9
WHOLE = """
dashboard = "http://dash:8501"

[[webhook]]
name = "chat"
url_env = "CHAT_URL"
format = "slack"

[[webhook]]
name = "pager"
url = "https://pager.example/in"
secret_env = "PAGER_SECRET"
headers = { X-Team = "rank" }
headers_env = { Authorization = "PAGER_AUTH" }
timeout = "5s"

[[rule]]
name = "ranker-slo"
kind = "slo"
service = "ranker"
objective = 0.99
within = "25ms"
errors = true
severity = "critical"
webhooks = ["pager"]

[[rule]]
name = "slow-burn"
kind = "slo"
objective = 0.999
errors = true
burn = [{ long = "3d", short = "6h", rate = 1 }]
every = "5m"
for = "10m"
resolve_after = "1h"
repeat = "1d"

[[rule]]
name = "slower"
kind = "regression"
metric = ["p50", "p99"]
by = "time"
bucket = "1h"
window = "7d"

[[rule]]
name = "jitter"
kind = "jitter"
stage = "compute"
hardware = ["L4", "T4"]
limit = "500us"

[[rule]]
name = "hot"
kind = "throttling"
share = 0.2
window = "10m"
"""
ENVIRONMENT = {"CHAT_URL": "https://chat.example/SECRETPATH", "PAGER_SECRET": "s3cret", "PAGER_AUTH": "Bearer k3y"}


@pytest.fixture
def read(tmp_path):
    def read(text, environment=ENVIRONMENT):
        file = tmp_path / "alerts.toml"
        file.write_text(text)
        return read_alert_file(file, environment)

    return read


def test_a_file_with_everything_in_it(read):
    file = read(WHOLE)
    assert file.settings.dashboard == "http://dash:8501"
    assert file.settings.webhooks == (
        Webhook("chat", "https://chat.example/SECRETPATH", form="slack"),
        Webhook(
            "pager", "https://pager.example/in", secret="s3cret",
            headers={"X-Team": "rank", "Authorization": "Bearer k3y"}, timeout_s=5,
        ),
    )  # fmt: skip
    both = ("chat", "pager")
    assert file.settings.schedules == (
        Schedule("ranker-slo", "slo", ("pager",), severity="critical"),
        Schedule("slow-burn", "slo", both, every_s=300, for_s=600, resolve_after_s=3600, repeat_s=86400),
        Schedule("slower", "regression", both, every_s=600),
        Schedule("jitter", "jitter", both),
        Schedule("hot", "throttling", both),
    )
    assert file.rules == {
        "ranker-slo": SloRule(0.99, 25.0, True, DEFAULT_BURNS, filters=Filters(service=("ranker",))),
        "slow-burn": SloRule(0.999, None, True, (Burn(3 * 86400, 6 * 3600, 1),)),
        "slower": RegressionRule(("p50", "p99"), "time", 7 * 86400, 3600),
        "jitter": JitterRule(0.5, filters=Filters(stage=("compute",), hardware=("L4", "T4"))),
        "hot": ThrottlingRule(0.2, 600),
    }


RULE = "[[rule]]\nname = 'a'\nkind = 'slo'\nobjective = 0.99\nwithin = '25ms'\n"
HOOK = "[[webhook]]\nname = 'a'\nurl = 'https://h'\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (RULE + "fro = '1m'", "rule a: there is no key 'fro'; did you mean 'for'?"),
        (RULE + "webhooks = ['pager']", "rule a: there is no webhook 'pager'; there is none at all"),
        (RULE + "every = '1 hour'", "rule a: every = '1 hour' is no length of time"),
        (RULE + "every = '0s'", "rule a: every 0 s cannot be used"),
        (RULE + RULE, "rule a is there twice"),
        ("[[rule]]\nkind = 'slo'", "rule 1: name = None is no text"),
        ("[[rule]]\nname = 'a'", "rule a: kind = None is none; use slo, regression"),
        ("[[webhook]]\nname = 'a'\nurl_env = 'NOT_SET'\n" + RULE, "webhook a: the variable NOT_SET of url_env is not set"),
        ("[[webhook]]\nname = 'a'\n" + RULE, "webhook a: give either url, or url_env"),
        (HOOK + "url_env = 'CHAT_URL'\n" + RULE, "webhook a: give either url, or url_env"),
        (HOOK + "secret = 'x'\n" + RULE, "webhook a: there is no key 'secret'; did you mean 'secret_env'?"),
        (HOOK + "headers = 'x'\n" + RULE, "webhook a: headers is no table"),
        ("dashbord = 'x'\n" + RULE, "there is no key 'dashbord'; did you mean 'dashboard'?"),
        ("dashboard = 'dash:8501'\n" + RULE, "dashboard = 'dash:8501' is no address"),
        ("rule = 3", "rule is no list of tables"),
        ("[rule]", "rule is no list of tables"),
        ("", "there is no rule in it"),
        ("[[", "is no TOML"),
        ("a = " + "[" * 100_000, "is no TOML"),
        (RULE + "least_requests = " + "9" * 5000, "is no TOML"),
        (RULE + 'severity = "a\\nb"', "severity 'a\\nb': use up to 100 letters"),
        ("dashboard = 'http://user:pw@dash'\n" + RULE, "is no address"),
        ("dashboard = 'http://da sh'\n" + RULE, "is no address"),
        (HOOK + "ca_file = '/nonexistent/ca.pem'\n" + RULE, "webhook a: ca_file /nonexistent/ca.pem cannot be used: No such"),
        (HOOK + "headers = { tailsight-signature = 'x' }\n" + RULE, "'tailsight-signature' is no header that can be set"),
    ],
    ids=range(25),
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_named(read, text, words):
    with pytest.raises(CommandError) as raised:
        read(text)
    assert words in str(raised.value)
    assert str(raised.value).startswith("alerts file ")
    assert "\n" not in str(raised.value)
    assert raised.value.exit_code == 2


def test_a_webhook_that_is_named_twice_is_told_once(read):
    [schedule] = read(HOOK + RULE + "webhooks = ['a', 'a']").settings.schedules
    assert schedule.webhooks == ("a",)


def test_a_file_of_an_editor_that_marks_its_encoding_is_read(read):
    assert read("\ufeff" + RULE).rules.keys() == {"a"}


def test_the_documented_example_can_be_read_and_every_key_is_documented(read):
    document = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text()
    block = document.partition("    # alerts.toml\n")[2].partition("\n\nA key")[0]
    file = read(
        textwrap.dedent(block), {"CHAT_WEBHOOK_URL": "https://h", "PAGER_SECRET": "s", "PAGER_AUTHORIZATION": "a"}
    )
    assert {schedule.kind for schedule in file.settings.schedules} == set(KINDS)
    quoted = set(re.findall(r"`(\w+)", document)) | set(re.findall(r"^    (\w+) =", document, flags=re.MULTILINE))
    assert slo.KEYS | jitter.KEYS | throttling.KEYS | regression.KEYS | SCHEDULE_KEYS | set(FILTER_KEYS) <= quoted
    assert set(WEBHOOK_KEYS) - {"headers"} <= quoted
    shown = re.search(r'{"alerts": \[{(.*?)}\]}', document, flags=re.DOTALL)
    assert re.findall(r'"(\w+)"', shown[1]) == list(alert("r", "words", 1).to_json())


def test_a_file_that_is_not_there_is_unreadable(tmp_path):
    with pytest.raises(CommandError) as raised:
        read_alert_file(tmp_path / "no.toml")
    assert raised.value.exit_code == 4
    assert "cannot be read: No such file" in str(raised.value)


def printed(renderable, width):
    console = Console(width=width, file=io.StringIO(), highlight=False)
    console.print(renderable)
    lines = console.file.getvalue().splitlines()
    assert all(len(line) <= width for line in lines)
    return [line.rstrip() for line in lines]


def alert(rule, text, since_s):
    return OpenAlert(
        "id",
        rule,
        "slo",
        "critical",
        {},
        Filters(),
        since_s * NS_PER_S,
        since_s * NS_PER_S,
        since_s * NS_PER_S,
        15.0,
        14.4,
        "burn rate",
        text,
    )


@pytest.mark.parametrize("width", [80, 120])
def test_open_alerts_are_listed_with_what_webhooks_were_told(width):
    now_s = 1_700_000_000
    lines = printed(
        render_alerts(
            (alert("ranker-slo", "slow " * 40, now_s - 720), alert("b\x1b[2J", "words\x07", now_s - 3 * 86400)),
            now_s * NS_PER_S,
        ),
        width,
    )
    assert lines[0] == "2 alerts are open"
    assert lines[2] == "ranker-slo  critical  since 2023-11-14 22:01:20 UTC (12 min)"
    assert lines[3].startswith("  slow slow")
    assert lines[4].startswith("  slow")
    assert lines[-2] == "b�[2J  critical  since 2023-11-11 22:13:20 UTC (3 d)"
    assert lines[-1] == "  words�"


def test_an_environment_that_allows_no_connection_is_an_answer_of_the_test(tmp_path, monkeypatch):
    file = tmp_path / "alerts.toml"
    file.write_text(HOOK + RULE)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "no.pem"))
    done = CliRunner().invoke(program(), ["alerts", "test", "--alerts", str(file), "--json"])
    assert isinstance(done.exception, CommandError)
    assert done.exception.exit_code == 4
    [answer] = json.loads(done.stdout)["webhooks"]
    assert (answer["taken"], answer["status"]) == (False, None)
    assert answer["answer"].startswith("this environment's proxies or certificates allow no connection: ")


def test_none_is_said(capsys):
    assert printed(render_alerts((), 0), 80) == ["No alert is open."]


@pytest.mark.parametrize("width", [80, 120])
def test_answers_to_a_test_are_a_table(width):
    hooks = (Webhook("chat", "https://chat.example/SECRETPATH"), Webhook("pager", "https://pager.example"))
    answers = (
        Answer(200, "200 OK: ok", 0.0123),
        Answer(404, "404 Not Found: no\x1b[31m such hook", 0.2, is_final=True),
    )
    lines = printed(render_answers(list(zip(hooks, answers, strict=True))), width)
    assert [line.split()[:3] for line in lines if "example" in line] == [
        ["chat", "chat.example", "yes"],
        ["pager", "pager.example", "no"],
    ]
    assert not any("SECRETPATH" in line or "\x1b" in line for line in lines)
