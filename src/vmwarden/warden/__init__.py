# SPDX-License-Identifier: Apache-2.0
"""The privileged program that judges and acts; it looks at nothing outside."""
