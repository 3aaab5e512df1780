"""What a spec knows of a scheme, and how it moves chains, are two records under one name."""

from storage.campaign.sampler_spec import Sampler
from storage.campaign.schemes import AUTO, BY_NAME, names
from workers.ensemble.schemes import SCHEMES

BRIEF = {"temperature": 0.5, "warmup": 20, "draws": 1, "segment": 1}


def test_each_scheme_has_both_records():
    assert {*SCHEMES} == {*names()} - {AUTO}


def test_a_scheme_is_adjusted_where_its_steps_have_no_bias_and_are_found():
    adjusted = {name for name, scheme in SCHEMES.items() if scheme.proposals is not None}
    assert adjusted == {*names(lambda scheme: scheme.adapts and not scheme.bias_order)}


def test_what_has_no_law_has_no_bias():
    assert not any(scheme.bias_order for scheme in BY_NAME.values() if not scheme.learns)


def test_each_setting_of_a_scheme_is_one_of_the_section():
    known = {setting for scheme in BY_NAME.values() for setting in scheme.settings}
    assert known <= {*Sampler.model_fields}
    required = {key for key, field in Sampler.model_fields.items() if field.is_required()}
    assert required == {"scheme", *BRIEF}


def test_those_that_are_named_in_a_report_have_words():
    """Of the others, auto names one; the prior and networks in time have their own sentences."""
    wordless = {*names(lambda scheme: not scheme.words)}
    assert wordless == {AUTO, *names(lambda scheme: scheme.law in ("prior", "in time"))}
