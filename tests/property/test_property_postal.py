# SPDX-License-Identifier: Apache-2.0
from hypothesis import given, settings
from hypothesis import strategies as st

from vmwarden.rules.postal import FORMS, PREFIXES, check_pattern, matches, normalise
from vmwarden.rules.versions import numbers, reaches

EXAMPLES = settings(max_examples=300, deadline=None, derandomize=True)

countries = st.sampled_from(["", "XX", *sorted({*FORMS, *PREFIXES})]) | st.text(max_size=3)
codes = st.text(max_size=12) | st.text("0123456789ABDELNS- .*〒１٣", max_size=60)


@EXAMPLES
@given(countries, codes)
def test_a_bare_form_is_its_own_bare_form(country: str, code: str) -> None:
    assert normalise(country, normalise(country, code)) == normalise(country, code)


@EXAMPLES
@given(countries, codes)
def test_a_code_matches_itself_however_it_is_written(country: str, code: str) -> None:
    bare = normalise(country, code)
    if bare and "*" not in code:
        assert matches(code, country, bare) == bool(code.strip())
        assert matches(bare, country, code) == bool(bare.strip())


@EXAMPLES
@given(countries, codes, codes)
def test_matching_and_checking_are_total(country: str, pattern: str, code: str) -> None:
    assert matches(pattern, country, code) in (True, False)
    wrong = check_pattern(country, pattern)
    assert wrong is None or wrong
    if wrong is None:
        assert matches(pattern, country, pattern.strip().removesuffix("*"))


@EXAMPLES
@given(st.sampled_from(["DE", "US", "NL", "", "CA"]), st.text("0123456789AB", min_size=1, max_size=9), codes)
def test_a_longer_beginning_accepts_no_more(country: str, beginning: str, code: str) -> None:
    if matches(f"{beginning}*", country, code):
        assert matches(f"{beginning[:-1]}*", country, code)


@EXAMPLES
@given(st.text(max_size=30), st.text("0123456789.", max_size=20))
def test_versions_are_total(found: str, wanted: str) -> None:
    assert reaches(found, wanted) in (True, False, None)
    assert (numbers(wanted) is None) == (reaches(wanted, wanted) is None)
