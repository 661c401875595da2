#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Install vmwarden below a folder (default /), from the checkout, with the locked dependencies.
#   tools/install.sh [--destdir DIR] [--python-version 3.11]
# Needs .venv (make setup) for its pip; what is installed needs only the system's python3.
set -euo pipefail
cd "$(dirname "$0")/.."
destdir= ; version=
while [ $# -gt 0 ]; do
  case $1 in
    --destdir) destdir=${2%/}; shift 2 ;;
    --python-version) version=$2; shift 2 ;;
    *) echo "usage: tools/install.sh [--destdir DIR] [--python-version 3.11]" >&2; exit 64 ;;
  esac
done
[ -x .venv/bin/python ] || { echo "run 'make setup' first" >&2; exit 69; }

lib=$destdir/opt/vmwarden/lib
rm -rf "$lib"
mkdir -p "$lib" "$destdir"/usr/bin "$destdir"/usr/lib/{sysusers.d,modules-load.d,udev/rules.d} \
  "$destdir"/etc/systemd/system/{sysinit,multi-user}.target.wants "$destdir"/etc/vmwarden
chmod 0755 "$destdir"/etc/vmwarden
target=(--target "$lib" --no-deps --quiet --no-compile)
if [ -n "$version" ]; then
  target+=(--python-version "$version" --implementation cp --abi "cp${version/./}" --abi abi3 --abi none
    --platform "manylinux2014_$(uname -m)" --platform "manylinux_2_28_$(uname -m)" --platform "manylinux_2_34_$(uname -m)"
    --platform any)
fi
# only what runs in the VM; the hashes are those of requirements/vm.txt
.venv/bin/python -m pip install "${target[@]}" --only-binary :all: --require-hashes -r requirements/vm.txt
cp -r src/vmwarden "$lib"/vmwarden
# the owner's desk, the host's side and the fakes have no business in a VM
rm -rf "$lib"/vmwarden/{owner,companion,testing,units} "$lib"/vmwarden/cli/{policy,companion}.py "$lib"/bin
find "$lib" -name __pycache__ -prune -exec rm -rf {} +
# compiled once, here: the first start in the VM should not pay for it, nor write beside the code
if [ -z "$version" ] || [ "$(/usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')" = "$version" ]; then
  /usr/bin/python3 -m compileall -q --invalidation-mode unchecked-hash -s "$destdir" "$lib" >/dev/null || true
fi

cat >"$destdir"/usr/bin/vmwarden <<'LAUNCHER'
#!/usr/bin/python3 -IS
import sys

sys.path.insert(0, "/opt/vmwarden/lib")
from vmwarden.cli.main import entry

entry()
LAUNCHER
chmod 0755 "$destdir"/usr/bin/vmwarden

units=src/vmwarden/units
install -m 0644 "$units"/*.service "$units"/*.target "$destdir"/etc/systemd/system/
install -m 0644 "$units"/shut.nft "$destdir"/opt/vmwarden/shut.nft
install -m 0644 "$units"/60-vmwarden.rules "$destdir"/usr/lib/udev/rules.d/
install -m 0644 "$units"/vmwarden.sysusers "$destdir"/usr/lib/sysusers.d/vmwarden.conf
install -m 0644 "$units"/vmwarden.modules "$destdir"/usr/lib/modules-load.d/vmwarden.conf
want() { ln -sf "../$2" "$destdir/etc/systemd/system/$1.target.wants/$2"; }
want sysinit vmwarden-closed.service
want multi-user vmwarden.service
want multi-user vmwarden-boot.service

if [ -z "$destdir" ]; then
  systemd-sysusers
  systemctl daemon-reload
  udevadm control --reload 2>/dev/null || true
  echo "installed; next: vmwarden enrol --help, then systemctl start vmwarden"
fi
