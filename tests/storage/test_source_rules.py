"""Files of rules for sources: what is built in, what a user's file changes, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailsight_storage.errors import InvalidSourcesError
from tailsight_storage.source_files import MAX_FILE_BYTES, MAX_TEXTS, built_in_rules, read_rules
from tailsight_storage.source_rules import BUILT_IN, MAX_FACTS, MAX_PATTERNS, Rules

GOOD = """
[[rule]]
name = "mine"
match = { name = "infer*", kind = "SERVER", has = "x" }
stage = "compute"
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return path


def test_the_built_in_rules_can_be_read_and_leave_room_for_others() -> None:
    rules = built_in_rules()
    assert len(rules.names) == len(set(rules.names))
    assert len(rules.facts) <= MAX_FACTS // 2
    assert {rule.origin for rule in rules.rules} == {BUILT_IN}
    assert {stage for rule in rules.rules for stage in rule.stages} <= {
        "preprocess", "serialize", "network", "queue", "compute", "gpu_kernel", "postprocess",
        "prefill", "decode", "embed", "retrieve", "tool",
    }  # fmt: skip


def test_without_a_file_there_are_the_built_in_rules() -> None:
    assert read_rules(None) is built_in_rules()


def test_rules_of_a_file_come_before_the_built_in_ones(tmp_path: Path) -> None:
    rules = read_rules(written(tmp_path, GOOD))
    assert rules.names == ("mine", *built_in_rules().names)
    assert rules.rules[0].source == "mine"
    assert rules.rules[0].origin == str(tmp_path / "mine.toml")


def test_a_rule_of_a_built_in_name_takes_its_place_or_switches_it_off(tmp_path: Path) -> None:
    text = GOOD.replace('"mine"', '"http.client"') + '\n[[rule]]\nname = "rpc.client"\noff = true\n'
    rules = read_rules(written(tmp_path, text))
    names = built_in_rules().names
    assert rules.names == tuple(name for name in names if name != "rpc.client")
    [replaced] = [rule for rule in rules.rules if rule.name == "http.client"]
    assert replaced.match.name == ("infer*",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("x", "this is no TOML", id="no TOML"),
        pytest.param("[[rules]]\n", "its top: there is no key 'rules'; did you mean 'rule'?", id="top"),
        pytest.param("[[rule]]\nstage = 'a'\n", "rule 1: it has no name", id="no name"),
        pytest.param(GOOD.replace("stage", "stge"), "rule mine: there is no key 'stge'; did you mean 'stage'?", id="key"),
        pytest.param(GOOD.replace("kind", "knd"), "rule mine: match: there is no key 'knd'; did you mean 'kind'?", id="match"),
        pytest.param(GOOD.replace("SERVER", "server"), "kind 'server' is none; did you mean 'SERVER'?", id="kind"),
        pytest.param(GOOD.replace('stage = "compute"', ""), "nothing becomes of its spans", id="nothing"),
        pytest.param(GOOD + GOOD, "rule mine: there are two of this name", id="twice"),
        pytest.param(GOOD.replace('name = "infer*", kind = "SERVER", has = "x"', ""), "take every span", id="all spans"),
        pytest.param(GOOD.replace("match", "#"), "rule mine: it has no match", id="no match"),
        pytest.param("[[rule]]\nname = 'http.cleint'\noff = true\n", "did you mean 'http.client'?", id="off"),
        pytest.param(GOOD + "instead_of = 'vllm.requst'\n", "did you mean 'vllm.request'?", id="instead of"),
        pytest.param(GOOD + "[[rule.phase]]\nstage = 'q'\nseconds = 'a'\nto = 'b'\n", "give either one of seconds", id="both"),
        pytest.param(GOOD + "[[rule.phase]]\nstage = 'q'\nsecond = 'a'\n", "did you mean 'seconds'?", id="unit"),
        pytest.param(GOOD + "[[rule.phase]]\nstage = 'q'\nseconds = 'a'\n" * 2, "two phases are called 'q'", id="names"),
        pytest.param(GOOD.replace('"x"', "7"), "has = 7 is neither a text nor a list of texts", id="type"),
        pytest.param(GOOD.replace("infer*", "*infer"), "name '*infer' begins with a *", id="star first"),
        pytest.param(GOOD.replace("infer*", "in*er"), "name 'in*er' has a * before its end, where it stands for itself alone; end it there: 'in*'", id="star inside"),
        pytest.param(GOOD.replace('"x"', "[]"), "has is a list of 0 texts; give 1 to 100, or leave it out", id="no texts"),
        pytest.param(GOOD + "[[rule.phase]]\nstage = 'q'\nseconds = []\n", "seconds is a list of 0 texts", id="no key"),
        pytest.param(GOOD + "[[rule.phase]]\nstage = 'q'\nseconds = 'a'\nown = true\n", "own is for phases between events", id="own"),
        pytest.param(GOOD + "[[rule.phase]]\nstage = 'q'\nfrom = 'a'\nto = 'b'\nminus = 'c'\n", "minus is for phases in attributes", id="minus"),
        pytest.param(GOOD + 'copy = { "" = "a" }\n', "copy: an attribute without a name", id="no attribute"),
        pytest.param(GOOD.replace('"mine"', '"a\\nb"'), "rule 1: name = 'a\\nb' has characters that cannot be shown", id="name"),
        pytest.param(GOOD.replace('"compute"', f'"{"x" * 1001}"'), "is no text of 1 to 1000 characters", id="long"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_told_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(InvalidSourcesError) as caught:
        read_rules(path)
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"sources file {path}: ")
    assert "\n" not in str(caught.value)
    assert not caught.value.is_missing


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSourcesError, match="No such file") as caught:
        read_rules(tmp_path / "none.toml")
    assert caught.value.is_missing


def test_too_many_questions_are_refused(tmp_path: Path) -> None:
    some, others = (", ".join(f'"{half}-{number}"' for number in range(MAX_FACTS // 2)) for half in "ab")
    with pytest.raises(InvalidSourcesError, match="128 are the limit: switch built-in rules off"):
        read_rules(written(tmp_path, GOOD.replace('has = "x"', f"any = [{some}], has = [{others}]")))


def test_what_each_span_may_be_compared_with_has_a_limit(tmp_path: Path) -> None:
    """A rule is no pattern that can take long: texts and beginnings, and not too many of them."""
    names = ", ".join(f'"name-{number}"' for number in range(MAX_TEXTS))
    rules = "".join(
        f"[[rule]]\nname = 'r{number}'\nmatch = {{ name = [{names}] }}\nstage = 's'\n"
        for number in range(MAX_PATTERNS // MAX_TEXTS)
    )
    with pytest.raises(InvalidSourcesError, match=r"spans, scopes and versions; 2000 are the limit: one text with \*"):
        read_rules(written(tmp_path, rules))


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"#" * (MAX_FILE_BYTES + 1), "larger than 1,048,576 bytes"), (b"\xff\xfe", "it is not UTF-8")],
    ids=["size", "encoding"],
)
def test_a_file_that_is_no_text_of_rules_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(InvalidSourcesError, match=said):
        read_rules(path)


def test_a_value_of_any_length_is_told_in_one_short_line(tmp_path: Path) -> None:
    for text in (
        GOOD + f"'{'k' * 100_000}' = 1\n",
        GOOD.replace("SERVER", "S" * 100_000),
        GOOD.replace('has = "x"', f"has = [{', '.join(['1'] * 50_000)}]"),
        GOOD.replace('"mine"', '"a\\nb"'),
        GOOD.replace("match", "match = 1\nmtch"),
    ):
        with pytest.raises(InvalidSourcesError) as caught:
            read_rules(written(tmp_path, text))
        assert len(str(caught.value)) < 600 + len(str(tmp_path))
        assert "\n" not in str(caught.value)


def test_a_rule_is_told_in_json_without_what_it_does_not_say() -> None:
    rules = {rule.name: rule.to_json() for rule in built_in_rules().rules}
    assert rules["vllm.request"]["stages"] == ["queue", "prefill", "decode"]
    assert rules["genai.tool"]["match"] == {"equals": {"gen_ai.operation.name": ["execute_tool"]}}
    assert isinstance(Rules(()).compiled, bytes)
