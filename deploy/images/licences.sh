#!/bin/sh
# licences.sh PACKAGE: the licence texts of the crates in a program, which ask to be passed on with it.
set -eu
cargo_home=${CARGO_HOME:-$HOME/.cargo}

# In the sources' own order, which is the same everywhere.
export LC_ALL=C
cargo tree --locked --package "$1" --edges normal,no-proc-macro --prefix none --format '{p}|{l}' |
    sed 's/ (\*)$//' | sort -u | while IFS='|' read -r package licence; do
        case $package in
        *' ('*) continue ;; # of this repository: LICENSE
        esac
        name=${package% v*} version=${package##* v}
        printf '==== %s %s: %s\n\n' "$name" "$version" "$licence"
        for file in "$cargo_home"/registry/src/*/"$name-$version"/*; do
            case ${file##*/} in
            LICEN[CS]E* | COPYING* | COPYRIGHT* | NOTICE* | UNLICENSE*)
                if [ -f "$file" ]; then
                    printf -- '---- %s\n\n' "${file##*/}"
                    cat "$file"
                    echo
                fi
                ;;
            esac
        done
    done
