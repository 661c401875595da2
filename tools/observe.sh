#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `make run`: guard the machine it is on, in observe mode.  Everything it writes lies below .cache/observe.
set -euo pipefail
cd "$(dirname "$0")/.."
home=.cache/observe
vmwarden=.venv/bin/vmwarden
umask 077
if [ ! -f "$home/var/lib/vmwarden/policy.signed.json" ]; then
  rm -rf "$home"
  mkdir -p "$home/desk"
  ssh-keygen -q -t ed25519 -N '' -C owner@desk -f "$home/desk/owner"
  "$vmwarden" init --output "$home/desk/policy.yaml" --vm "this-machine"
  "$vmwarden" policy sign "$home/desk/policy.yaml" --key "$home/desk/owner" -o "$home/desk/policy.signed.json"
  "$vmwarden" policy owners new --key "owner=$home/desk/owner.pub" -o "$home/desk/owners.json"
  "$vmwarden" enrol --root "$home" --vm this-machine --owners "$home/desk/owners.json"
  "$vmwarden" apply --root "$home" "$home/desk/policy.signed.json"
fi
echo "observing this machine by $home/desk/policy.yaml; nothing is touched; Ctrl-C ends it"
echo "in another shell: .venv/bin/vmwarden status --root $home   (or explain, journal show)"
# the watcher stays the user who runs this: another user could not reach a checkout in a private folder
exec "$vmwarden" run --observe --root "$home" --user "$(id -un)" ${SECONDS_TO_RUN:+--for "${SECONDS_TO_RUN}s"}
