#!/usr/bin/env bash
# Writes what is made from the chart and its values: the table of its README, the plain manifests of deploy/, and the renders
# of charts/notrack/ci. With --check it writes nothing, and fails where one of them has drifted.
set -euo pipefail
cd "$(dirname "$0")/../.."
chart=charts/notrack
renders=tests/cluster/tests/renders
helm=$(tests/tools/helm.sh)
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT

# render ARGUMENT...: the chart as a release in the namespace of deploy/, whatever this machine's cluster is.
render() {
    "$helm" template notrack "$chart" --namespace notrack-system --kube-version 1.32.0 "$@"
}

# plain FILE: what the template FILE makes, for kubectl: without hooks, and without what names Helm or a release.
plain() {
    echo "# Generated from $chart/templates/$1 by \`make generate\`. Do not edit."
    render --no-hooks --show-only "templates/$1" | sed \
        -e '/^# Source: /d' \
        -e '/^ *helm\.sh\/chart: /d' \
        -e '/^ *app\.kubernetes\.io\/instance: /d' \
        -e '/^ *app\.kubernetes\.io\/managed-by: /d' \
        -e '/^$/d' \
        -e '1{/^---$/d}'
}

mkdir -p "$fresh/$chart" "$fresh/deploy" "$fresh/$renders"
tests/tools/chart-readme.py "$chart" >"$fresh/$chart/README.md"
for part in access admission agent controller priority; do
    plain "$part.yaml" >"$fresh/deploy/$part.yaml"
done
# Everything in one file, in the order in which it is needed.
{
    echo "# Generated from $chart by \`make generate\`. Do not edit."
    echo "# kubectl apply --server-side -f notrack.yaml"
    for file in crds/notrack.dev_*.yaml deploy/namespace.yaml \
        "$fresh"/deploy/{access,admission,priority,controller,agent}.yaml; do
        echo ---
        grep -v '^# Generated ' "$file"
    done
} >"$fresh/deploy/notrack.yaml"
for values in "$chart"/ci/*.yaml; do
    render --values "$values" >"$fresh/$renders/${values##*/}"
done

if [ "${1-}" = --check ]; then
    status=0
    diff -ru "$renders" "$fresh/$renders" || status=1
    for file in "$chart/README.md" deploy/{access,admission,agent,controller,notrack,priority}.yaml; do
        diff -u "$file" "$fresh/$file" || status=1
    done
    [ "$status" = 0 ] || echo "chart.sh: run make generate" >&2
    exit "$status"
fi
rm -rf "$renders"
cp -r "$fresh/." .
