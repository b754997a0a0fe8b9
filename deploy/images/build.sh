#!/usr/bin/env bash
# Builds the images with buildah, or with docker where there is no buildah. In OUT (target/images) it leaves an archive
# and an SBOM of each. Arguments go to the build command as they are; PROGRAMS is a folder of programs that compile.sh made.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${OUT:-${CARGO_TARGET_DIR:-target}/images}
version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' Cargo.toml)
revision=$(git rev-parse HEAD)
[ -z "$(git status --porcelain)" ] || revision=$revision-dirty
# Every date in the images: the same commit gives the same bytes.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}

options=(--file deploy/images/Dockerfile --build-arg "VERSION=$version" --build-arg "REVISION=$revision")
for name in SOURCE RUST_IMAGE DEBIAN_IMAGE; do
    [ -z "${!name-}" ] || options+=(--build-arg "$name=${!name}")
done
if [ -n "${PROGRAMS-}" ]; then
    options+=(--build-arg PROGRAMS=given --build-context "given-programs=$(realpath "$PROGRAMS")")
else
    # The Dockerfile's own default, which buildah 1.28 does not look at where it names a stage.
    options+=(--build-arg PROGRAMS=compiled)
fi

if command -v buildah >/dev/null; then
    # With layers kept, only the first image compiles.
    export BUILDAH_LAYERS=${BUILDAH_LAYERS:-true}
    # The label of the identity is buildah's own version.
    build=(buildah build --identity-label=false --timestamp "$SOURCE_DATE_EPOCH")
    save() { buildah push --quiet "$1" "docker-archive:$2:$1"; }
elif command -v docker >/dev/null; then
    build=(docker build --build-arg "SOURCE_DATE_EPOCH=$SOURCE_DATE_EPOCH")
    save() { docker save --output "$2" "$1"; }
else
    echo "build.sh: this machine lacks buildah or docker" >&2
    exit 1
fi

mkdir -p "$out"
for program in notrack-controller notrack-agent kubectl-notrack; do
    image=$program:$version
    file=$out/$program-$version
    "${build[@]}" "${options[@]}" --target "$program" --tag "$image" "$@" .
    rm -f "$file.tar"
    save "$image" "$file.tar"
    deploy/images/sbom.py "$file.tar" "$program" >"$file.spdx.json"
    echo "$image: $file.tar ($(stat --format %s "$file.tar") bytes), $file.spdx.json"
done
