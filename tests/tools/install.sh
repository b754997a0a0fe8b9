#!/bin/sh
# Installs the Debian packages that the build, the tests, the benches and the demo need and this
# machine lacks. Where nothing is lacking it prints nothing, needs no network and no root.
#
# Debian starts a service on installing it, and again at each boot. Nobody asked for a web server,
# a resolver, an SSH server or Prometheus on this machine, only for their programs: those that come in here
# are neither started nor enabled. Services that were here before are left alone.
set -eu

PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
missing=

# lacks PACKAGE TEST...: notes the package unless the test succeeds.
lacks() {
    package=$1
    shift
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}

lacks gcc command -v cc
lacks libc6-dev test -e /usr/include/stdlib.h
lacks pkg-config command -v pkg-config
lacks libmnl-dev pkg-config --exists libmnl
lacks libnftnl-dev pkg-config --exists libnftnl
lacks iproute2 command -v ip
lacks nftables command -v nft
lacks iptables command -v iptables-legacy
lacks ipset command -v ipset
lacks conntrack command -v conntrack
lacks conntrackd command -v conntrackd
lacks ethtool command -v ethtool
lacks tcpdump command -v tcpdump
lacks firewalld command -v firewalld
lacks dbus-daemon command -v dbus-daemon
lacks jq command -v jq
lacks curl command -v curl
lacks binutils command -v strip
lacks procps command -v pgrep
lacks python3 command -v python3
lacks mkdocs command -v mkdocs
# Whichever python3 comes first: mkdocs runs with Debian's.
lacks python3-pymdownx /usr/bin/python3 -c 'import pymdownx'
lacks prometheus command -v promtool
lacks nginx-light command -v nginx
lacks wrk command -v wrk
lacks unbound command -v unbound
lacks dnsperf command -v dnsperf
lacks openssh-server command -v sshd
lacks openssh-client command -v ssh
lacks git command -v git
lacks redis-server command -v redis-server
lacks buildah command -v buildah
lacks mmdebstrap command -v mmdebstrap

[ -n "$missing" ] || exit 0

fail() {
    echo "install.sh: $1; still missing:$missing" >&2
    exit 1
}
command -v apt-get >/dev/null || fail "this is no Debian: install their like by hand"
[ "$(id -u)" = 0 ] || fail "installing needs root"

echo "installing:$missing" >&2
log=$(mktemp)
policy=/usr/sbin/policy-rc.d
ours=
cleanup() {
    rm -f "$log"
    [ -z "$ours" ] || rm -f "$policy"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

if [ ! -e "$policy" ]; then
    ours=1
    # 101: "not allowed by policy", to whoever would start a service.
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

install() {
    # shellcheck disable=SC2086 # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing \
        >"$log" 2>&1 </dev/null
}
# The package lists of a fresh machine are empty or old: fetch them only where they do not do.
if ! install; then
    apt-get update -q >"$log" 2>&1 && install || {
        tail -n 20 "$log" >&2
        fail "apt-get failed"
    }
fi

for package in $missing; do
    case $package in
    conntrackd) service=conntrackd ;;
    firewalld) service=firewalld ;;
    nginx-light) service=nginx ;;
    unbound) service=unbound ;;
    openssh-server) service=ssh ;;
    prometheus) service=prometheus ;;
    redis-server) service=redis-server ;;
    *) continue ;;
    esac
    if [ -d /run/systemd/system ]; then
        systemctl disable --quiet "$service" >/dev/null 2>&1 || true
    elif command -v update-rc.d >/dev/null; then
        update-rc.d "$service" disable >/dev/null 2>&1 || true
    fi
done
