"""The only door for outside values."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediate.catalog.parameters import LONGEST_LIST, LONGEST_TEXT, validate_params
from remediate.errors import UsageError
from remediate.model.plan import (
    Arming,
    Parameter,
    Phase,
    PhaseSpec,
    Plan,
    Risk,
    Tier,
    Title,
    VerifySpec,
)

PLAN = Plan(
    code="NET-VLAN-STORM",
    slug="vlan_storm_suppression",
    title=Title(en="", zh=""),
    layer="protocol",
    groups=("switch_access",),
    parameters=(
        Parameter(name="vlan", type="int", required=True, min=1, max=4094, unit="VLAN"),
        Parameter(name="port", type="str", regex="[A-Za-z]+[0-9/]+"),
        Parameter(name="mode", type="str", choices=("block", "limit"), default="limit"),
        Parameter(name="save", type="bool", default=False),
        Parameter(name="peers", type="list", regex="[a-z]+-[0-9]+"),
        Parameter(name="note", type="str", regex=".*"),
    ),
    tier=Tier.L1,
    risk=Risk.R2,
    arming=Arming.APPROVE,
    playbook="vlan_storm_suppression",
    phases={Phase.APPLY: PhaseSpec(timeout=1)},
    verify=VerifySpec(probe="ping"),
)


def refused(**given):
    with pytest.raises(UsageError) as caught:
        validate_params(PLAN, {"vlan": 20, **given})
    return str(caught.value)


def test_text_is_turned_into_the_declared_type_and_defaults_are_applied():
    values = validate_params(PLAN, {"vlan": "20", "save": "yes", "peers": "sw-1, sw-2"})

    assert values == {"vlan": 20, "save": True, "peers": ["sw-1", "sw-2"], "mode": "limit"}


def test_a_parameter_without_value_and_default_is_not_handed_over():
    assert validate_params(PLAN, {"vlan": 20}) == {"vlan": 20, "mode": "limit", "save": False}


def test_a_required_parameter_has_to_be_given():
    with pytest.raises(UsageError, match="needs the parameter 'vlan': give it with `-e vlan=VALUE`"):
        validate_params(PLAN, {})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"vlna": 1}, "has no parameter 'vlna'; did you mean 'vlan'?"),
        ({"ansible_host": "x"}, "has no parameter 'ansible_host'; it has vlan, port, mode"),
        ({"vlan": "0"}, "parameter 'vlan' is '0', which is less than 1 VLAN"),
        ({"vlan": 4095}, "is 4095, which is more than 4094 VLAN"),
        ({"vlan": "20.0"}, "is '20.0', which is not a whole number"),
        ({"vlan": 20.0}, "which is not a whole number"),
        ({"vlan": True}, "which is not a whole number"),
        ({"vlan": "२०"}, "which is not a whole number"),
        ({"vlan": None}, "which is not a whole number"),
        ({"vlan": "9" * 30}, "which is not a whole number"),
        ({"save": "maybe"}, "which is not true or false"),
        ({"save": 1}, "which is not true or false"),
        ({"mode": "blok"}, "which is not one of block, limit; did you mean 'block'?"),
        ({"mode": 3}, "which is not text"),
        ({"port": "Gi0/1 "}, "which does not match [A-Za-z]+[0-9/]+"),
        ({"port": "xGi0/1; reload"}, "does not match"),
        ({"port": "Gi0/1\n"}, "holds a control character or a line break"),
        ({"note": "a\u2028b"}, "holds a control character or a line break"),
        ({"note": "\u202egnp.exe"}, "holds a control character or a line break"),
        ({"note": "a\0b"}, "holds a control character or a line break"),
        ({"note": "{{ lookup('pipe', 'id') }}"}, "holds the beginning of a template"),
        ({"note": "{% raw %}"}, "holds the beginning of a template"),
        ({"note": "x" * (LONGEST_TEXT + 1)}, f"is longer than {LONGEST_TEXT} characters"),
        ({"peers": ["sw-1", "sw-x"]}, "holds an entry that does not match"),
        ({"peers": ["sw-1", 2]}, "holds 2, which is not text"),
        ({"peers": {"sw-1": 1}}, "is not a list of texts"),
        ({"peers": ["sw-1"] * (LONGEST_LIST + 1)}, f"more than {LONGEST_LIST}"),
    ],
)
def test_what_is_not_declared_is_refused_with_its_name(given, message):
    assert message in refused(**given)


def test_an_error_does_not_repeat_a_page_of_text():
    assert len(refused(note="x" * 10_000)) < 200


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["vlan", "port", "mode", "save", "peers", "note", "x"]), anything))
def test_whatever_comes_through_is_what_the_plan_declares(given):
    try:
        values = validate_params(PLAN, given)
    except UsageError:
        return
    assert type(values["vlan"]) is int
    assert 1 <= values["vlan"] <= 4094
    assert values["mode"] in ("block", "limit")
    assert type(values["save"]) is bool
    for text in [values.get("port", "a1"), *values.get("peers", []), values.get("note", "")]:
        assert type(text) is str
        assert text.isprintable()
        assert "{{" not in text
    assert re.fullmatch("[A-Za-z]+[0-9/]+", values.get("port", "a1"))
