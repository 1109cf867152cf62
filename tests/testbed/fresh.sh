#!/bin/sh
# A newcomer's machine: Debian 12 with nothing but make and git, the project cloned, two commands run.
#
#   fresh.sh [-k] [-r root|user|both] [DIR]
#     as root:  make demo, then make check; `make deps` installs what is missing
#     as user:  the same in a clone of an ordinary user (packages are there by then)
#     -k        keep the tree in DIR (default: a new directory under $TMPDIR), removed otherwise
#
# The committed state is tested (HEAD), the working tree is not. Needs root, debootstrap, git, util-linux;
# packages come from $MIRROR (default deb.debian.org) with this machine's apt options. Takes some twenty
# minutes on two cores and 2 GB. 77: something is not installed.
set -eu

usage() {
	sed -n '2,11s/^# \{0,1\}//p' "$0" >&2
	exit 2
}

keep='' who=both
while getopts kr: opt; do
	case $opt in
	k) keep=1 ;;
	r) who=$OPTARG ;;
	*) usage ;;
	esac
done
shift $((OPTIND - 1))
[ $# -le 1 ] || usage
case $who in root | user | both) ;; *) usage ;; esac
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
[ "$(id -u)" = 0 ] || { echo "fresh.sh: needs root" >&2; exit 77; }
for tool in debootstrap git unshare setpriv; do
	command -v $tool >/dev/null || { echo "fresh.sh: $tool is not installed" >&2; exit 77; }
done

tree=${1:-$(mktemp -d "${TMPDIR:-/tmp}/stayd-fresh.XXXXXX")}
cleanup() {
	# Mounts were made in a namespace that is gone: nothing below is anybody else's.
	[ -n "$keep" ] || rm -rf --one-file-system "$tree"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

if [ ! -e "$tree/usr/bin/make" ]; then
	mkdir -p "$tree"
	chmod 755 "$tree"
	echo "fresh.sh: Debian 12, minbase, make and git in $tree"
	debootstrap --variant=minbase --include=make,git bookworm "$tree" \
		"${MIRROR:-http://deb.debian.org/debian}" >"$tree.log" 2>&1 || { tail "$tree.log"; exit 1; }
	rm -f "$tree.log"
	# How this machine reaches a mirror; a frozen one has dates of its own.
	apt-config dump | grep -E '^Acquire::(http|https|Check-)' >"$tree/etc/apt/apt.conf.d/90host" || true
	cp /etc/resolv.conf /etc/hosts "$tree/etc/"
	chroot "$tree" useradd --create-home newcomer
fi

# inside UID HOME: clone, then the two commands, as PID 1's child of namespaces of their own.
inside() {
	rm -rf "$tree$2/stayd"
	git clone -q --no-hardlinks "file://$top" "$tree$2/stayd"
	chown -R "$1:$1" "$tree$2/stayd"
	# shellcheck disable=SC2016 # expands inside
	"$here/unshare.sh" -n -r "$tree" -- setpriv --reuid "$1" --regid "$1" --init-groups \
		env -i HOME="$2" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
		sh -c 'cd "$HOME/stayd" && begin=$(date +%s) && make demo && make check &&
			echo "fresh.sh: uid $(id -u): demo and check passed in $(($(date +%s) - begin)) s"'
}

if [ "$who" != user ]; then
	inside 0 /root
fi
if [ "$who" = user ]; then # somebody else installed the packages
	git clone -q "file://$top" "$tree/tmp/deps"
	"$here/unshare.sh" -n -r "$tree" -- make -C /tmp/deps deps
	rm -rf "$tree/tmp/deps"
fi
if [ "$who" != root ]; then
	inside "$(chroot "$tree" id -u newcomer)" /home/newcomer
fi
