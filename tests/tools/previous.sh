#!/bin/sh
# Prints the folder that holds the version before this one: programs in bin/, the chart in chart/. It is built once from this
# repository's history and kept in the user's cache folder.
set -eu

cd "$(dirname "$0")/../.."
read -r version commit <<END
$(grep -v '^#' tests/cluster/previous)
END
if ! git cat-file -e "$commit^{commit}" 2>/dev/null; then
    echo "previous.sh: version $version is not in this clone's history: git fetch --unshallow" >&2
    exit 1
fi
folder=${XDG_CACHE_HOME:-$HOME/.cache}/notrack/previous-$version-$commit
if [ ! -d "$folder/bin" ]; then
    mkdir -p "$folder"
    # Tests that start at once build it once.
    exec 9>"$folder/lock"
    flock 9
    if [ ! -d "$folder/bin" ]; then
        echo "building notrack $version (once, some three minutes on two cores)" >&2
        # Whoever looks meanwhile must not find a half: bin comes last. Under the lock all else is of builds that were killed.
        rm -rf "$folder"/build.* "$folder/chart"
        own=$(mktemp -d "$folder/build.XXXXXX")
        trap 'rm -rf "$own"' EXIT
        trap 'exit 130' INT TERM HUP
        mkdir "$own/source"
        git archive "$commit" | tar -x -C "$own/source"
        # For tests: as fast to build as can be.
        (cd "$own/source" && CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0 CARGO_TARGET_DIR="$own/target" \
            cargo build --locked --quiet --config 'profile.dev.package."*".opt-level=0' \
            --package notrack-agent --package notrack-controller) >&2
        mkdir "$own/bin"
        mv "$own/target/debug/notrack-agent" "$own/target/debug/notrack-controller" "$own/bin"
        mv "$own/source/charts/notrack" "$folder/chart"
        mv "$own/bin" "$folder/bin"
    fi
fi
echo "$folder"
