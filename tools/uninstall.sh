#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Undo tools/install.sh below a folder (default /).  Refuses while the VM is armed: purge first.
#   tools/uninstall.sh [--destdir DIR] [--with-state]
# --with-state also removes owners, enrolment and the journal; without it they stay.
set -euo pipefail
destdir= ; state=no
while [ $# -gt 0 ]; do
  case $1 in
    --destdir) destdir=${2%/}; shift 2 ;;
    --with-state) state=yes; shift ;;
    *) echo "usage: tools/uninstall.sh [--destdir DIR] [--with-state]" >&2; exit 64 ;;
  esac
done
if [ -e "$destdir"/var/lib/vmwarden/armed ]; then
  echo "this VM is armed; apply an observe policy that its owner signed, or: vmwarden purge --help" >&2
  exit 69
fi
if [ -z "$destdir" ]; then
  systemctl stop vmwarden-open.target vmwarden-boot.service vmwarden-watcher.service vmwarden.service \
    vmwarden-closed.service 2>/dev/null || true
  for table in vmwarden vmwarden_alive; do nft delete table inet $table 2>/dev/null || true; done
fi
rm -f "$destdir"/etc/systemd/system/{sysinit,multi-user}.target.wants/vmwarden*
rm -f "$destdir"/etc/systemd/system/vmwarden*.service "$destdir"/etc/systemd/system/vmwarden-open.target
rm -f "$destdir"/usr/bin/vmwarden "$destdir"/usr/lib/udev/rules.d/60-vmwarden.rules \
  "$destdir"/usr/lib/sysusers.d/vmwarden.conf "$destdir"/usr/lib/modules-load.d/vmwarden.conf
rm -rf "$destdir"/opt/vmwarden "$destdir"/run/vmwarden
if [ "$state" = yes ]; then rm -rf "$destdir"/var/lib/vmwarden "$destdir"/etc/vmwarden; fi
rmdir "$destdir"/etc/vmwarden 2>/dev/null || true
if [ -z "$destdir" ]; then
  if getent passwd vmwarden >/dev/null; then userdel vmwarden; fi
  systemctl daemon-reload
fi
