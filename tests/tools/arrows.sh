#!/usr/bin/env bash
# The arrows of the house: which crate may know which. Fails where one points the wrong way.
set -euo pipefail
cd "$(dirname "$0")/../.."

# knows CRATE: every crate in its tree, for ordinary (not development) use.
knows() {
    cargo tree --locked --offline --package "$1" --edges normal --prefix none --format '{p}' 2>/dev/null \
        | awk '{print $1}' | sort -u
}

failed=0
# forbid CRATE NAME...: CRATE must know none of the names.
forbid() {
    local crate=$1 tree
    shift
    tree=$(knows "$crate")
    [ -n "$tree" ] || { echo "arrows: cargo tree tells nothing of $crate" >&2; exit 1; }
    for name in "$@"; do
        if grep -qx "$name" <<<"$tree"; then
            echo "arrows: $crate must not depend on $name (cargo tree -p $crate -i $name)" >&2
            failed=1
        fi
    done
}

forbid notrack-api notrack-core notrack-netlink notrack-runtime tokio hyper kube-client
forbid notrack-core notrack-netlink notrack-runtime tokio hyper kube-client nix nftnl
forbid notrack-netlink notrack-runtime tokio hyper kube-client
forbid notrack-runtime notrack-core notrack-netlink notrack-api
forbid notrack-controller notrack-netlink nftnl
forbid kubectl-notrack notrack-runtime
exit "$failed"
