#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Give the network cards their addresses: testbed.net=eth0,10.0.2.15/24,10.0.2.2 on the kernel command line,
# once for each card; the gateway may be left out. No such word: do nothing.
read -r cmdline < /proc/cmdline
for word in $cmdline; do
  case $word in
    testbed.net=*)
      IFS=, read -r device address gateway <<X
${word#testbed.net=}
X
      ip link set "$device" up
      ip address add "$address" dev "$device"
      if [ -n "$gateway" ]; then ip route add default via "$gateway" dev "$device"; fi
      ;;
  esac
done
exit 0
