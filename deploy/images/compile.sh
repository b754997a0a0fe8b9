#!/bin/sh
# compile.sh FOLDER: the programs that have images into FOLDER, each with the licences of the crates in it. The same sources and the same
# compiler give the same bytes, wherever the sources and the crates lie.
set -eu
folder=$1
cargo_home=${CARGO_HOME:-$HOME/.cargo}
mkdir -p "$folder"

# Paths are in panic messages, and in those of the C code of ring.
export RUSTFLAGS="--remap-path-prefix=$PWD=/src --remap-path-prefix=$cargo_home=/cargo"
export CFLAGS="-ffile-prefix-map=$PWD=/src -ffile-prefix-map=$cargo_home=/cargo"
export CARGO_PROFILE_RELEASE_STRIP=symbols CARGO_INCREMENTAL=0
target=${CARGO_TARGET_DIR:-target}
cargo build --locked --release --package notrack-agent --package notrack-controller --package kubectl-notrack
for program in notrack-agent notrack-controller kubectl-notrack; do
    cp "$target/release/$program" "$folder"
    # What some crate's build brought in past the flags would differ from machine to machine.
    if [ "$cargo_home" != /cargo ] && grep --quiet --text --fixed-strings "$cargo_home/registry/" \
        "$folder/$program"; then
        echo "compile.sh: $program holds paths below $cargo_home" >&2
        exit 1
    fi
    deploy/images/licences.sh "$program" >"$folder/$program.licences"
done
