#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
# The whole initial RAM disk: load a few modules, find the disks by their serial numbers, stack them, go on.
# Under TCG every process costs some 20 ms, so this uses the shell's own means wherever it can.
#
# Kernel command line:
#   testbed.layers=N   how many disks layer0 ... layer(N-1) lie on top of the disk "root"
#   testbed.upper=1    changes go to the ext4 disk "upper" instead of to memory
#   init=PATH          what runs as process 1
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs dev /dev
read -r cmdline < /proc/cmdline
layers=0 upper= init=/sbin/init
for word in $cmdline; do
  case $word in
    testbed.layers=*) layers=${word#*=} ;;
    testbed.upper=1) upper=yes ;;
    init=*) init=${word#*=} ;;
  esac
done

die() {
  echo "TESTBED_INITRD_FAILED $*" > /dev/console
  echo o > /proc/sysrq-trigger
  $b sleep 60
}

while read -r module; do $b insmod "/lib/$module" || die "insmod $module"; done < /modules

# virtio-blk announces its disks some time after its module has loaded.
find_disk() {
  tries=0
  while [ $tries -lt 400 ]; do
    for d in /sys/block/vd*; do
      serial=
      read -r serial 2>/dev/null < "$d/serial"
      if [ "$serial" = "$1" ] && [ -b "/dev/${d##*/}" ]; then
        disk=/dev/${d##*/}
        return
      fi
    done
    $b usleep 25000
    tries=$((tries + 1))
  done
  die "no disk with serial $1"
}

# A layer may be squashfs or ext4; the mount of the wrong kind fails at once and says nothing.
mount_read_only() {
  $b mkdir -p "$2"
  for kind in $3; do
    $b mount -t "$kind" -o ro "$1" "$2" 2>/dev/null && return
  done
  die "cannot mount $1 on $2"
}

find_disk root
mount_read_only "$disk" /base "ext4 squashfs"
lower=/base
n=0
while [ $n -lt "$layers" ]; do
  find_disk "layer$n"
  mount_read_only "$disk" "/layer$n" "squashfs ext4"
  lower=/layer$n:$lower
  n=$((n + 1))
done

if [ -n "$upper" ]; then
  find_disk upper
  $b mount -t ext4 "$disk" /rw || die "cannot mount the disk upper"
else
  $b mount -t tmpfs -o mode=0755 rw /rw
fi
$b mkdir -p /rw/upper /rw/work
$b mount -t overlay -o "lowerdir=$lower,upperdir=/rw/upper,workdir=/rw/work" root /new || die "cannot stack $lower"
$b mount --move /dev /new/dev
$b mount --move /proc /new/proc
$b mount --move /sys /new/sys
exec $b switch_root /new "$init"
