# SPDX-License-Identifier: Apache-2.0
"""The demo's acts are true: each step raises where reality differs from what is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.acts import a_day_in_the_right_place, wrong_place
from demo.story import Story
from testbed.image import Image

pytestmark = pytest.mark.vm


def test_open_in_the_right_place_closed_after_a_move_and_outside_its_hours(
    image: Image, tmp_path: Path
) -> None:
    a_day_in_the_right_place(Story(), image, tmp_path)


def test_refused_in_the_wrong_place(image: Image, tmp_path: Path) -> None:
    wrong_place(Story(), image, tmp_path)
