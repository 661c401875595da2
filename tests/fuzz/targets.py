# SPDX-License-Identifier: Apache-2.0
"""All targets by name."""

from tests.fuzz import journal_files, kernel_answers, machine, messages, signatures, state_files, time_answers
from tests.fuzz.engine import Target

TARGETS: dict[str, Target] = {
    target.name: target
    for module in (journal_files, kernel_answers, machine, messages, signatures, state_files, time_answers)
    for target in module.TARGETS
}
