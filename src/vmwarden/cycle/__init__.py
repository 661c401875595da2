# SPDX-License-Identifier: Apache-2.0
"""One turn: evidence, facts, fences, verdicts, posture, plan.  No process of its own."""
