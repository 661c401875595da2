# SPDX-License-Identifier: Apache-2.0
"""Postal codes, as people write them and as they are compared.

A code is compared in its bare form: upper case, ASCII digits, without spaces, hyphens and the
country's prefix ("D-10115", "10115" and "101 15" are one code).  A pattern is a code, or the
beginning of one with a trailing "*".  Everything here is total: any text has an answer.
"""

import unicodedata
from functools import lru_cache

#: The letters that people of these countries put before the digits ("D-10115", "SE-114 55",
#: "LV-1050").  They are left out where a digit follows; codes of other countries begin with letters
#: that mean something.  Vehicle codes after CEPT (withdrawn, still in use) and ISO 3166.
PREFIXES: dict[str, tuple[str, ...]] = {
    "AD": ("AD",),
    "AL": ("AL",),
    "AM": ("AM",),
    "AT": ("AT", "A"),
    "AZ": ("AZ",),
    "BA": ("BA", "BIH"),
    "BB": ("BB",),
    "BE": ("BE", "B"),
    "BG": ("BG",),
    "BR": ("BR",),
    "CH": ("CH",),
    "CY": ("CY",),
    "CZ": ("CZ",),
    "DE": ("DE", "D"),
    "DK": ("DK",),
    "EE": ("EE", "EST"),
    "ES": ("ES", "E"),
    "FI": ("FI", "FIN"),
    "FO": ("FO",),
    "FR": ("FR", "F"),
    "GL": ("GL",),
    "GR": ("GR",),
    "HR": ("HR",),
    "HU": ("HU", "H"),
    "IN": ("IN", "PIN"),
    "IS": ("IS",),
    "IT": ("IT", "I"),
    "JP": ("JP", "〒"),
    "LI": ("LI", "FL"),
    "LT": ("LT",),
    "LU": ("LU", "L"),
    "LV": ("LV",),
    "MC": ("MC",),
    "MD": ("MD",),
    "ME": ("ME",),
    "MK": ("MK",),
    "NL": ("NL",),
    "NO": ("NO", "N"),
    "PL": ("PL",),
    "PT": ("PT", "P"),
    "RO": ("RO",),
    "RS": ("RS",),
    "SE": ("SE", "S"),
    "SI": ("SI",),
    "SK": ("SK",),
    "SM": ("SM",),
    "TR": ("TR",),
    "UA": ("UA",),
    "US": ("US",),
    "VA": ("VA",),
    "XK": ("XK",),
}

_BRITISH = ("A99AA", "A999AA", "AA99AA", "AA999AA", "A9A9AA", "AA9A9AA")

#: Forms of a bare code: 9 a digit, A a letter, X either.  Source: Universal Postal Union, "Postal
#: addressing systems" (the country sheets), and the last postalCodeData of Unicode CLDR (26).  Only
#: lint asks here; a country that is not listed is not checked.
FORMS: dict[str, tuple[str, ...]] = {
    "AD": ("999",),
    "AL": ("9999",),
    "AM": ("9999",),
    "AR": ("9999", "A9999AAA"),
    "AT": ("9999",),
    "AU": ("9999",),
    "AZ": ("9999",),
    "BA": ("99999",),
    "BB": ("99999",),
    "BD": ("9999",),
    "BE": ("9999",),
    "BG": ("9999",),
    "BR": ("99999999",),
    "BY": ("999999",),
    "CA": ("A9A9A9",),
    "CH": ("9999",),
    "CL": ("9999999",),
    "CN": ("999999",),
    "CO": ("999999",),
    "CR": ("99999",),
    "CY": ("9999",),
    "CZ": ("99999",),
    "DE": ("99999",),
    "DK": ("9999",),
    "EC": ("999999",),
    "EE": ("99999",),
    "EG": ("99999", "9999999"),
    "ES": ("99999",),
    "FI": ("99999",),
    "FO": ("999",),
    "FR": ("99999",),
    "GB": (*_BRITISH, "GIR0AA"),
    "GE": ("9999",),
    "GG": _BRITISH,
    "GL": ("9999",),
    "GR": ("99999",),
    "HR": ("99999",),
    "HU": ("9999",),
    "ID": ("99999",),
    "IE": ("A99XXXX", "D6WXXXX"),
    "IL": ("9999999", "99999"),
    "IM": _BRITISH,
    "IN": ("999999",),
    "IS": ("999",),
    "IT": ("99999",),
    "JE": _BRITISH,
    "JP": ("9999999",),
    "KE": ("99999",),
    "KR": ("99999",),
    "KZ": ("999999", "A99A9A9"),
    "LI": ("9999",),
    "LK": ("99999",),
    "LT": ("99999",),
    "LU": ("9999",),
    "LV": ("9999",),
    "MA": ("99999",),
    "MC": ("99999",),
    "MD": ("9999",),
    "ME": ("99999",),
    "MK": ("9999",),
    "MT": ("AAA9999",),
    "MX": ("99999",),
    "MY": ("99999",),
    "NL": ("9999AA", "9999"),
    "NO": ("9999",),
    "NZ": ("9999",),
    "PE": ("99999",),
    "PH": ("9999",),
    "PK": ("99999",),
    "PL": ("99999",),
    "PT": ("9999999", "9999"),
    "RO": ("999999",),
    "RS": ("99999", "999999"),
    "RU": ("999999",),
    "SA": ("99999", "999999999"),
    "SE": ("99999",),
    "SG": ("999999",),
    "SI": ("9999",),
    "SK": ("99999",),
    "SM": ("99999",),
    "TH": ("99999",),
    "TN": ("9999",),
    "TR": ("99999",),
    "TW": ("999", "99999", "999999"),
    "UA": ("99999",),
    "US": ("99999", "999999999"),
    "UY": ("99999",),
    "UZ": ("999999",),
    "VA": ("99999",),
    "VN": ("99999", "999999"),
    "ZA": ("9999",),
}

# Here the code is an outward part of two to four characters and an inward part of three, and only
# the space tells where a pattern ends the first: "E1 *" is not "E14 5AB".
_SPLIT = frozenset({"GB", "GG", "IM", "JE"})
_INWARD = 3

#: longest text that is looked at; the longest code there is has ten characters
_LONGEST = 40

_ASCII_DROPPED = str.maketrans("", "", " \t\r\n\v\f-.")


def normalise(country: str, code: str) -> str:
    """The bare form of a code; country is ISO 3166-1 alpha-2 or "" (not known: no prefix is left out).

    normalise(c, normalise(c, x)) == normalise(c, x).  Text that is no code stays what it is, and
    matches nothing but itself.
    """
    return _normalised(country, code.strip()[:_LONGEST].strip())


@lru_cache(maxsize=1024)
def _normalised(country: str, code: str) -> str:
    bare = _bare(code)
    for prefix in PREFIXES.get(country, ()):
        if bare.startswith(prefix) and bare[len(prefix) : len(prefix) + 1].isdigit():
            bare = bare[len(prefix) :]
            break
    return bare[:_LONGEST] if bare.isascii() else code


def _bare(text: str) -> str:
    if text.isascii():
        return text.upper().translate(_ASCII_DROPPED)
    kept = []
    for character in unicodedata.normalize("NFKC", text).upper():
        digit = unicodedata.decimal(character, None)
        if digit is not None:
            kept.append(str(digit))
        elif unicodedata.category(character) not in _DROPPED and character not in ".\u2212":
            kept.append(character)
    return "".join(kept)


# spaces, dashes, control and format characters (among them the zero-width ones)
_DROPPED = frozenset({"Zs", "Zl", "Zp", "Pd", "Cc", "Cf"})


@lru_cache(maxsize=1024)
def matches(pattern: str, country: str, code: str) -> bool:
    """Whether a code of this country fits a pattern: the same code, or the beginning before a "*".

    A United States ZIP code without its four-digit addition stands for all codes with it.
    Neither an empty code nor an empty pattern matches.
    """
    bare = normalise(country, code)
    pattern = pattern.strip()
    if not bare or not pattern:
        return False
    if not pattern.endswith("*"):
        wanted = normalise(country, pattern)
        return bare == wanted or (
            country == "US" and len(wanted) == 5 and len(bare) == 9 and bare.startswith(wanted)
        )
    beginning = pattern[:-1]
    if country in _SPLIT and " " in beginning.lstrip():
        outward, inward = beginning.lstrip().split(" ", 1)
        return bare[:-_INWARD] == normalise(country, outward) and bare[-_INWARD:].startswith(
            normalise(country, inward)
        )
    return bare.startswith(normalise(country, beginning))


def check_pattern(country: str, pattern: str) -> str | None:
    """What is wrong with a pattern for this country, or None.

    country "" or without a known form: only what every code has in common is checked.
    """
    text = pattern.strip()
    beginning = text[:-1] if text.endswith("*") else text
    if "*" in beginning:
        return "only one * is understood, at the end"
    if len(beginning) > _LONGEST:
        return "longer than any postal code"
    bare = normalise(country, beginning)
    if not bare:
        return "says nothing: leave postal_codes out to accept every code"
    if not (bare.isascii() and bare.isalnum()):
        return "a postal code has only letters, digits, spaces and hyphens"
    forms = FORMS.get(country)
    if forms is None:
        return None
    whole = beginning is text
    if any(_fits(bare, form, whole=whole) for form in forms):
        return None
    if whole and any(_fits(bare, form, whole=False) for form in forms):
        return f"only begins a code of {country}: write {beginning}* for all that begin so"
    wanted = "is not a code" if whole else "does not begin a code"
    return f"{wanted} of {country}, whose form is {' or '.join(forms)} (9 a digit, A a letter, X either)"


def _fits(bare: str, form: str, *, whole: bool) -> bool:
    if len(bare) > len(form) or (whole and len(bare) != len(form)):
        return False
    return all(
        character == wanted
        or (wanted in "9X" and character.isdigit())
        or (wanted in "AX" and character.isalpha())
        for character, wanted in zip(bare, form, strict=False)
    )
