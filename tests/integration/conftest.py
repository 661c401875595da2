# SPDX-License-Identifier: Apache-2.0
"""Every test here works in namespaces of its own."""

import os
from collections.abc import Iterator

import pytest

from vmwarden.testing.network import Lan, lan


@pytest.fixture
def network() -> Iterator[Lan]:
    """A VM, a peer and a container behind the VM; gone when the test ends, however it ends."""
    if os.geteuid() != 0:
        pytest.skip("needs root: makes network namespaces")
    with lan() as made:
        yield made
