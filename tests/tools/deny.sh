#!/usr/bin/env bash
# Licences, banned and doubled crates. The checker is built once and kept in the user's cache folder.
set -euo pipefail
cd "$(dirname "$0")/../.."
version=0.20.2
root="${XDG_CACHE_HOME:-$HOME/.cache}/notrack/cargo-deny-$version"
if [ ! -x "$root/bin/cargo-deny" ]; then
    echo "building cargo-deny $version (once)"
    env -u CARGO_TARGET_DIR cargo install --quiet --locked --root "$root" --version "$version" cargo-deny
fi
"$root/bin/cargo-deny" --all-features check --hide-inclusion-graph licenses bans sources
