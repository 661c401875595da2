# SPDX-License-Identifier: Apache-2.0
"""The host's side (optional): signs statements, answers challenges."""
