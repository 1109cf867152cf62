#!/bin/sh
# Runs a command as PID 1 of private namespaces, much like a container: no engine, 0.04 s.
#
#   unshare.sh [-m rw|ro|none] [-c all|docker|none] [-u UID] [-n] [-r ROOTFS] -- CMD [ARG...]
#     -m  /sys/fs/cgroup inside: rw  delegated cgroup v2 (podman --systemd=always)
#                                ro  the same, read-only (default of docker and podman)
#                                none  an empty tmpfs
#     -c  capabilities: all (privileged), docker (its usual 14), none
#     -u  run CMD as this uid and gid, with no_new_privs
#     -n  keep the host's network
#     -r  with this tree as /
#
# The exit status is that of CMD; 77 without cgroup v2. Needs root and util-linux. Everything below is
# killed and its cgroup removed at the end; mounts of the host are not touched.
set -eu

usage() {
	sed -n '2,14s/^# \{0,1\}//p' "$0" >&2
	exit 2
}

mode=rw caps=all uid='' net=--net root=''
while getopts m:c:u:nr: opt; do
	case $opt in
	m) mode=$OPTARG ;;
	c) caps=$OPTARG ;;
	u) uid=$OPTARG ;;
	n) net='' ;;
	r) root=$OPTARG ;;
	*) usage ;;
	esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || usage

docker_caps=+chown,+dac_override,+fsetid,+fowner,+mknod,+net_raw,+setgid,+setuid,+setfcap
docker_caps=$docker_caps,+setpcap,+net_bind_service,+sys_chroot,+kill,+audit_write
case $caps in
all) privileges='' ;;
docker) privileges="setpriv --bounding-set -all,$docker_caps --inh-caps -all" ;;
none) privileges='setpriv --bounding-set -all --inh-caps -all' ;;
*) usage ;;
esac
if [ -n "$uid" ]; then
	privileges="${privileges:-setpriv} --reuid $uid --regid $uid --clear-groups --no-new-privs"
fi

# On a hybrid host the v2 tree is mounted elsewhere (/sys/fs/cgroup/unified).
# The last one: it may lie over others.
v2=$(awk '$3 == "cgroup2" { at = $2 } END { print at }' /proc/self/mounts)
[ -n "$v2" ] || { echo "unshare.sh: no cgroup v2 mounted" >&2; exit 77; }
cgroup=$(mktemp -d "$v2/stayd-test-XXXXXX") # a run that was killed leaves its own
chmod 755 "$cgroup"

cleanup() {
	set +e
	tries=0
	while [ -d "$cgroup" ] && [ $tries -lt 100 ]; do
		echo 1 >"$cgroup/cgroup.kill" 2>/dev/null
		find "$cgroup" -depth -type d -exec rmdir {} \; 2>/dev/null
		tries=$((tries + 1))
		[ ! -d "$cgroup" ] || sleep 0.02 # the kernel says nothing when the last one is gone
	done
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# First stage: into the cgroup, then the namespaces. Second stage, PID 1: the mounts, then CMD.
TB_MODE=$mode TB_PRIVILEGES=$privileges TB_ROOT=$root TB_CGROUP=$cgroup
export TB_MODE TB_PRIVILEGES TB_ROOT TB_CGROUP
inside='
	set -e
	if [ -n "$TB_ROOT" ]; then
		mount --rbind "$TB_ROOT" "$TB_ROOT" # "/" is a mount point everywhere else, too
		mount --rbind /dev "$TB_ROOT/dev"
		mount -t sysfs sys "$TB_ROOT/sys" 2>/dev/null || mount --rbind /sys "$TB_ROOT/sys"
	fi
	mount -t proc -o nosuid,nodev,noexec proc "$TB_ROOT/proc"
	at=$TB_ROOT/sys/fs/cgroup
	case $TB_MODE in
	none) mount -t tmpfs -o ro none "$at" ;;
	*)
		mount -t tmpfs -o ro none "$at" # cgroup2 over cgroup2 is EBUSY
		mount -t cgroup2 -o nosuid,nodev,noexec cgroup "$at"
		;;
	esac
	[ "$TB_MODE" != ro ] || mount -o remount,bind,ro,nosuid,nodev,noexec "$at"
	privileges=$TB_PRIVILEGES root=$TB_ROOT container=stayd-test
	export container
	unset TB_MODE TB_PRIVILEGES TB_ROOT TB_CGROUP
	if [ -n "$root" ]; then
		cd "$root" # pivot_root, because a process in a chroot may make no user namespaces
		pivot_root . .
		umount -l .
		cd /
	fi
	exec $privileges "$@"'
status=0
sh -c 'echo 0 >"$TB_CGROUP/cgroup.procs"
	inside=$1 net=$2
	shift 2
	exec unshare --cgroup --pid --fork --mount --uts --ipc $net --propagation private --kill-child \
		-- sh -c "$inside" sh "$@"' sh "$inside" "$net" "$@" || status=$?
exit $status
