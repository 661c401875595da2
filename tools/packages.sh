#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Install the Debian/Ubuntu packages that one set needs, if any is missing.  Sets: base, test, guest.
set -euo pipefail
declare -A sets=(
  [base]="python3-venv"
  [test]="nftables iproute2 openssh-client cryptsetup-bin procps iptables dbus-daemon python3-dbus python3-gi gir1.2-glib-2.0"
  [guest]="qemu-system-x86 mmdebstrap debian-archive-keyring busybox-static e2fsprogs squashfs-tools iproute2 openssh-client"
)
# Unpacked below .cache and not installed: a package with a service would take over this machine's clock.  What chrony
# needs besides is there with apt, systemd and openssh-client.  firewalld would begin to guard this machine; it is a
# Python program of 0.5 MB in three packages.
declare -A unpacked=([test]="chrony firewalld python3-firewall python3-nftables")
missing=()
for set in "$@"; do
  for package in ${sets[$set]}; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
  done
done
wanting=()
for set in "$@"; do
  for package in ${unpacked[$set]:-}; do
    [ -d ".cache/unpacked/$package" ] || wanting+=("$package")
  done
done
if [ "${#missing[@]}" -eq 0 ] && [ "${#wanting[@]}" -eq 0 ]; then exit 0; fi
log=$(mktemp)
fetch() { # a folder of its own for each package that is unpacked
  local work
  work=$(mktemp -d)
  (cd "$work" && apt-get download -q -o APT::Sandbox::User=root "$1" && dpkg-deb -x ./*.deb root) >"$log" 2>&1 &&
    mkdir -p .cache/unpacked && mv "$work/root" ".cache/unpacked/$1" && rm -rf "$work"
}
for package in "${wanting[@]}"; do
  echo "unpacking: $package"
  fetch "$package" || { apt-get update -q >"$log" 2>&1 && fetch "$package"; } ||
    { tail -n 20 "$log" >&2; rm -f "$log"; exit 1; }
done
if [ "${#missing[@]}" -eq 0 ]; then rm -f "$log"; exit 0; fi
echo "installing: ${missing[*]}"
[ "$(id -u)" -eq 0 ] || { echo "not root: run 'apt-get install ${missing[*]}' first" >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update -q && apt-get install -q -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -n 20 "$log" >&2; rm -f "$log"; exit 1
fi
rm -f "$log"
