#!/bin/sh
# Prints where Helm is. It is built once and kept in the user's cache folder.
set -eu

version=4.3.1
folder=${XDG_CACHE_HOME:-$HOME/.cache}/notrack/helm-$version
if [ ! -x "$folder/bin/helm" ]; then
    command -v go >/dev/null || {
        echo "helm.sh: this machine lacks Go 1.26 or later: see https://go.dev/doc/install" >&2
        exit 1
    }
    mkdir -p "$folder/bin"
    # Tests that start at once build it once.
    exec 9>"$folder/lock"
    flock 9
    if [ ! -x "$folder/bin/helm" ]; then
        echo "building helm $version (once, some three minutes)" >&2
        # Whoever looks meanwhile must not find a half. Under the lock all else is of builds that were killed.
        rm -rf "$folder"/build.*
        own=$(mktemp -d "$folder/build.XXXXXX")
        trap 'rm -rf "$own"' EXIT
        trap 'exit 130' INT TERM HUP
        GOBIN=$own go install "helm.sh/helm/v4/cmd/helm@v$version" >&2
        mv "$own/helm" "$folder/bin/helm"
    fi
fi
echo "$folder/bin/helm"
