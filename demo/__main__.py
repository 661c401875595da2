# SPDX-License-Identifier: Apache-2.0
"""python -m demo: plays every act; exits 1 if a step is not as told."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from demo.acts import a_day_in_the_right_place, wrong_place
from demo.picture import draw
from demo.stage import data_volume
from demo.story import NotAsTold, Story
from testbed.failures import BedError
from testbed.image import ensure_image
from testbed.provision import install_layer


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--picture", type=Path, help="draw what was told as an SVG")
    picture = parser.parse_args().picture
    story = Story()
    begun = time.monotonic()
    story.say(
        "A VM that carries vmwarden, under QEMU without acceleration: twenty times slower than hardware."
    )
    try:
        with tempfile.TemporaryDirectory(prefix="vmwarden-demo-") as scratch:
            with story.step(
                "guest image, vmwarden's install layer and an encrypted volume (built once, then cached)"
            ):
                image = ensure_image()
                install_layer()
                data_volume(image)
            a_day_in_the_right_place(story, image, Path(scratch))
            wrong_place(story, image, Path(scratch))
    except (NotAsTold, BedError) as error:
        sys.stdout.write(f"\nNOT AS TOLD: {error}\n")
        return 1
    story.say(
        f"All as told, in {time.monotonic() - begun:.0f} s.  What it does not stop: SECURITY.md, tier 0."
    )
    if picture is not None:
        draw(story.lines(), picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
