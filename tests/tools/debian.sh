#!/bin/sh
# Prints where an archive of a small Debian is, of this machine's release: what the images of deploy/images are built on where
# no registry can be reached. It is made once of Debian's packages and kept in the user's cache folder.
set -eu

suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
folder=${XDG_CACHE_HOME:-$HOME/.cache}/notrack/debian
archive=$folder/$suite-1.tar # The number is that of the options below.
if [ ! -e "$archive" ]; then
    mkdir -p "$folder"
    # Tests that start at once make it once.
    exec 9>"$folder/lock"
    flock 9
    if [ ! -e "$archive" ]; then
        echo "making a Debian $suite (once, some 40 seconds)" >&2
        own=$(mktemp "$folder/$suite.XXXXXX")
        trap 'rm -f "$own"' EXIT
        # The libraries of both programs, and everything else as small as in the slim images.
        mmdebstrap --quiet --variant=essential --format=tar --include=libgcc-s1,libnftnl11 \
            --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/man/*' \
            --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
            "$suite" "$own" >&2
        mv "$own" "$archive"
    fi
fi
echo "$archive"
