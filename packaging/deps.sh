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
$as_root apt-get update -q >/dev/null
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -q -y --no-install-recommends $missing >/dev/null
