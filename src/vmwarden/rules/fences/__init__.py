# SPDX-License-Identifier: Apache-2.0
"""One clause judged on facts, one file a fence; none knows another."""
