# SPDX-License-Identifier: Apache-2.0
import base64
import hashlib

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vmwarden.rules.certificate import Period, pin


def test_a_pin_is_what_openssl_makes_of_the_public_key() -> None:
    """openssl pkey -pubin -outform DER | openssl dgst -sha256 -binary | base64"""
    key = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert pin(der) == "sha256:" + base64.b64encode(hashlib.sha256(der).digest()).decode()


def test_what_has_ended_before_a_moment_that_has_passed_is_over() -> None:
    period = Period(100, 200)
    assert period.possible(0)
    assert period.possible(150)
    assert period.possible(200)
    assert not period.possible(201)
    assert not Period(200, 100).possible(0)


def test_one_that_has_not_begun_is_possible_and_its_stamps_decide() -> None:
    period = Period(100, 200)
    assert period.possible(50)
    assert [period.holds(at) for at in (99, 100, 200, 201)] == [False, True, True, False]
