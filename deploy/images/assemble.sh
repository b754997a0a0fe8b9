#!/bin/sh
# assemble.sh PROGRAM ROOT: the root file system of one program: the program, the shared libraries that it needs, what
# scanners read Debian's packages from, licences. No shell, no package manager, nothing that can change its user.
set -eu
program=$1 root=$2
sources=$(dirname "$0")
name=${program##*/}

umask 022
mkdir -p "$root/etc" "$root/usr/bin" "$root/usr/share/doc/notrack" "$root/var/lib/dpkg/status.d"
install -m 755 "$program" "$root/usr/bin/$name"
printf '%s\n' root:x:0:0:root:/:/nonexistent nonroot:x:65532:65532:nonroot:/:/nonexistent >"$root/etc/passwd"
printf '%s\n' root:x:0: nonroot:x:65532: >"$root/etc/group"
cp "$sources/LICENSE" "$sources/NOTICE" "$root/usr/share/doc/notrack"
gzip --best --no-name <"$program.licences" >"$root/usr/share/doc/notrack/crates.gz"

# owner FILE: the package that FILE is from. With /usr merged a package may know it by its other name.
owner() {
    for path in "$1" "/usr$1" "${1#/usr}" "$(readlink -f "$1")"; do
        if found=$(dpkg --search "$path" 2>/dev/null); then
            echo "$found" | sed -n '1s/[:,].*//p'
            return
        fi
    done
    echo "assemble.sh: $1 is from no package" >&2
    return 1
}

needed=$(ldd "$program")
case $needed in
*'not found'*)
    echo "assemble.sh: $name lacks libraries: $needed" >&2
    exit 1
    ;;
esac
for library in $(echo "$needed" | grep -o '/[^ ]*'); do
    package=$(owner "$library")
    mkdir -p "$root${library%/*}"
    # The file itself under the name that the loader looks for.
    cp --dereference "$library" "$root$library"
    chmod 755 "$root$library"
    status="$root/var/lib/dpkg/status.d/$package"
    dpkg --status "$package" >"$status"
    (cd "$root" && md5sum "${library#/}") >>"$status.md5sums"
    mkdir -p "$root/usr/share/doc/$package"
    cp --dereference "/usr/share/doc/$package/copyright" "$root/usr/share/doc/$package"
done

# The texts that those name, and the licence of a program that links libnftnl.
mkdir -p "$root/usr/share/common-licenses"
for licence in GPL-3 $(grep --no-filename -o '/usr/share/common-licenses/[A-Za-z0-9.-]*[A-Za-z0-9]' \
    "$root"/usr/share/doc/*/copyright | sed 's:.*/::' | sort -u); do
    cp --dereference "/usr/share/common-licenses/$licence" "$root/usr/share/common-licenses"
done
