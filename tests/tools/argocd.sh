#!/bin/sh
# Prints the folder that holds Argo CD: bin/ and, from the same sources, crds/. It is built once and kept in the user's cache
# folder.
set -eu

cd "$(dirname "$0")/../cluster/argocd"
module=github.com/argoproj/argo-cd/v3
version=$(sed -n "s|^\t$module v||p" go.mod)
# What decides what comes out: these sources, and the recipe below.
key=$(cat go.mod go.sum main.go ../../tools/argocd.sh | sha256sum | cut -c 1-8)
folder=${XDG_CACHE_HOME:-$HOME/.cache}/notrack/argocd-$version-$key
if [ ! -d "$folder/bin" ]; then
    command -v go >/dev/null || {
        echo "argocd.sh: this machine lacks Go 1.26 or later: see https://go.dev/doc/install" >&2
        exit 1
    }
    mkdir -p "$folder"
    # Tests that start at once build it once.
    exec 9>"$folder/lock"
    flock 9
    if [ ! -d "$folder/bin" ]; then
        echo "building Argo CD $version (once, some ten minutes on two cores)" >&2
        # Whoever looks meanwhile must not find a half: bin comes last. Under the lock all else is of builds that were killed.
        rm -rf "$folder"/build.*
        own=$(mktemp -d "$folder/build.XXXXXX")
        trap 'rm -rf "$own"' EXIT
        trap 'exit 130' INT TERM HUP
        # The settings are those of the other programs of the test bed, so that Go's cache of packages serves all.
        CGO_ENABLED=0 GOWORK=off GOFLAGS='' go build -trimpath -mod=readonly -buildvcs=false -ldflags '-s -w' \
            -o "$own/bin/argocd" . >&2
        for part in argocd-application-controller argocd-repo-server argocd-server; do
            ln -s argocd "$own/bin/$part"
        done
        rm -rf "$folder/crds"
        cp -r "$(go list -mod=readonly -m -f '{{.Dir}}' "$module")/manifests/crds" "$folder/crds"
        chmod -R u+w "$folder/crds"
        mv "$own/bin" "$folder/bin"
    fi
fi
echo "$folder"
