#!/bin/sh
# Prints the folder with the definitions of the Prometheus operator's kinds, from its sources in Go's module cache.
set -eu

module=github.com/prometheus-operator/prometheus-operator@v0.85.0
sum=h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=
# Outside of any module: nothing here depends on it.
cd /
found=$(go mod download -json "$module")
case $found in
*"\"Sum\": \"$sum\""*) ;;
*)
    echo "prometheus-crds.sh: $module is not what it was: $found" >&2
    exit 1
    ;;
esac
echo "$(echo "$found" | sed -n 's/^.*"Dir": "\(.*\)",*$/\1/p')/example/prometheus-operator-crd"
