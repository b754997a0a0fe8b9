#!/bin/sh
# Builds the launcher of the test bed (seconds; Go keeps what it has built) and prints where it is.
set -eu

cd "$(dirname "$0")/../cluster/testbed"
command -v go >/dev/null || {
    echo "testbed.sh: this machine lacks Go 1.26 or later: see https://go.dev/doc/install" >&2
    exit 1
}
folder=${XDG_CACHE_HOME:-$HOME/.cache}/notrack/testbed
mkdir -p "$folder"
# Others may be running the one that is there: it is replaced, never written to.
go build -o "$folder/testbed.$$" ./cmd/testbed
mv "$folder/testbed.$$" "$folder/testbed"
echo "$folder/testbed"
