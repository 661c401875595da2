# SPDX-License-Identifier: Apache-2.0
"""Python's own SHA-2 says what hashlib says."""

import hashlib

import pytest

from vmwarden.rules import sha2


@pytest.mark.parametrize("data", [b"", b"abc", bytes(range(256)) * 300])
def test_it_is_the_same_function(data: bytes) -> None:
    assert sha2.sha256(data).hexdigest() == hashlib.sha256(data).hexdigest()
    assert sha2.sha512(data).digest() == hashlib.sha512(data).digest()
    piecewise = sha2.sha256()
    for at in range(0, len(data), 1000):
        piecewise.update(data[at : at + 1000])
    assert piecewise.digest() == hashlib.sha256(data).digest()
