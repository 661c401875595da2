#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Process 1 of the fast guest: mounts, modules, network, then the agent for ever. The shell stays process 1
# so that it reaps orphans: a test that asks whether a daemon is gone must not find its zombie.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t tmpfs -o mode=0755 run /run
mount -t tmpfs -o mode=1777 tmp /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /run/lock
ln -sf /proc/self/fd /dev/fd
/usr/lib/testbed/modules.sh
ip link set lo up
/usr/lib/testbed/network.sh
[ -e /etc/hostname ] && hostname "$(cat /etc/hostname)"
while :; do
  /usr/bin/python3 -SE /usr/lib/testbed/guest_agent.py
  echo "TESTBED_AGENT_ENDED $?" > /dev/console
  sleep 1
done
