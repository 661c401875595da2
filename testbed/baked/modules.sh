#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Load what the tests use, once, before a snapshot is taken: the first nft call would take seconds otherwise.
# What a kernel flavour does not have is no failure here; the test that needs it will say so.
xargs modprobe -a -q < /usr/lib/testbed/modules.list
exit 0
