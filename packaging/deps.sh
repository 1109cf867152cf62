#!/bin/sh
# Installs the Debian packages named as arguments where they are missing; silent when none is.
# Without root and without sudo it prints the line to run and fails.
set -eu
missing=
for p in "$@"; do
	[ "$(dpkg-query -W -f '${Status}' "$p" 2>/dev/null)" = "install ok installed" ] || missing="$missing $p"
done
[ -n "$missing" ] || exit 0
as_root=
if [ "$(id -u)" != 0 ]; then
	if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
		as_root=sudo
	else
		echo "deps: missing packages; run as root: apt-get install -y --no-install-recommends$missing" >&2
		exit 1
	fi
fi
echo "deps: installing$missing"
# A mirror that is busy, or another apt that holds the lock, is no reason to give up.
patient="-q -o Acquire::Retries=5 -o DPkg::Lock::Timeout=300"
$as_root apt-get $patient update >/dev/null
DEBIAN_FRONTEND=noninteractive $as_root apt-get $patient install -y --no-install-recommends $missing >/dev/null
