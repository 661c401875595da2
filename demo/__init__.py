# SPDX-License-Identifier: Apache-2.0
"""`make demo`: a real VM guards itself, shown in acts.  The same acts run in tests/vm/test_demo.py."""
