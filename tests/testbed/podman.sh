#!/bin/sh
# Real OCI containers, offline, with images made here.
#
#   podman.sh build TAG CONTEXT_DIR      a Containerfile with FROM scratch needs no registry
#   podman.sh import TAG ROOTFS_DIR      for example a debootstrap tree
#   podman.sh run [-m MODE] [-n none|host|bridge] [-u UID] [-o "podman options"] TAG [CMD...]
#   podman.sh raw PODMAN_ARGS...         exec, stop, kill, ps, logs, rm ...
#
# Modes: docker      (default) read-only cgroup v2 of its own, usual capabilities and seccomp filter
#        systemd     --systemd=always: writable cgroup v2, tmpfs on /run and /tmp, stop signal 37
#        sysadmin    docker and CAP_SYS_ADMIN
#        privileged  everything
#        hardened    uid 1000, read-only root, no capabilities, no new privileges
#        dockersec   docker and what Docker's own filter adds: clone3 is ENOSYS, namespaces are EPERM
#        v1          the host's cgroup v1 controllers, read-only
#
# Needs root, podman, runc, netavark; iptables for bridge. Images and state live in $STAYD_TESTBED_DIR,
# apart from the machine's own podman.
#
# Three things that hosts like CI machines need: on hybrid cgroups podman is shown a pure v2 tree in a
# mount namespace of its own; runc, because crun raises RLIMIT_MEMLOCK (CAP_SYS_RESOURCE); and ulimits
# are given, because the defaults are above what such a host allows.
set -eu

usage() {
	sed -n '2,22s/^# \{0,1\}//p' "$0" >&2
	exit 2
}

dir=${STAYD_TESTBED_DIR:-${TMPDIR:-/tmp}/stayd-testbed}/podman
mkdir -p "$dir/root" "$dir/run"

# podman_at v1|v2 ARGS...: exec podman with that view of cgroups.
podman_at() {
	view=$1
	shift
	set -- podman --root "$dir/root" --runroot "$dir/run" --storage-driver vfs \
		--cgroup-manager cgroupfs --events-backend file --runtime runc "$@"
	hybrid=$(awk '$3 == "cgroup2" && $2 != "/sys/fs/cgroup" { print $2; exit }' /proc/self/mounts)
	[ -n "$hybrid" ] || exec "$@"
	case $view in
	v1) prepare='umount "$0"' ;;
	*) prepare='mount -t cgroup2 none /sys/fs/cgroup' ;;
	esac
	exec unshare --mount --propagation private sh -c "$prepare && exec \"\$@\"" "$hybrid" "$@"
}

# Docker's profile is podman's without these, and with clone3 answered by ENOSYS.
docker_profile() {
	python3 - /usr/share/containers/seccomp.json "$1" <<'PROFILE'
import json, sys
CUT = set("""clone clone3 unshare setns mount umount umount2 pivot_root open_tree move_mount
mount_setattr fsopen fsmount fsconfig fspick""".split())
NEW_NAMESPACE = 0x7e020000
p = json.load(open(sys.argv[1]))
for group in p["syscalls"]:
    group["names"] = [n for n in group["names"] if n not in CUT]
p["syscalls"] = [g for g in p["syscalls"] if g["names"]] + [
    {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "args": [], "includes": {}, "excludes": {}},
    {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "includes": {}, "excludes": {},
     "args": [{"index": 0, "value": NEW_NAMESPACE, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]}]
p["defaultAction"], p["defaultErrnoRet"] = "SCMP_ACT_ERRNO", 1
json.dump(p, open(sys.argv[2], "w"))
PROFILE
}

run() {
	mode=docker net=none uid='' more=''
	while getopts m:n:u:o: opt; do
		case $opt in
		m) mode=$OPTARG ;;
		n) net=$OPTARG ;;
		u) uid=$OPTARG ;;
		o) more=$OPTARG ;;
		*) usage ;;
		esac
	done
	shift $((OPTIND - 1))
	view=v2 options=--systemd=false
	case $mode in
	docker) ;;
	systemd) options=--systemd=always ;;
	sysadmin) options="$options --cap-add=SYS_ADMIN" ;;
	privileged) options="$options --privileged" ;;
	hardened)
		options="$options --read-only --cap-drop=all --security-opt=no-new-privileges"
		uid=${uid:-1000:1000}
		;;
	dockersec)
		docker_profile "$dir/docker-seccomp.json"
		options="$options --security-opt seccomp=$dir/docker-seccomp.json"
		;;
	v1) view=v1 ;;
	*) usage ;;
	esac
	[ $view = v1 ] || options="$options --pids-limit=-1" # v2 here has no pids controller
	# shellcheck disable=SC2086 # options are words
	podman_at $view run --rm --network="$net" --ulimit nofile=1024:1024 --ulimit nproc=4096:4096 \
		$options ${uid:+--user "$uid"} $more "$@"
}

verb=${1-}
[ $# -eq 0 ] || shift
case $verb in
build) podman_at v2 build -q -t "$1" "$2" ;;
import) tar -C "$2" --one-file-system -c . | podman_at v2 import -q - "$1" ;;
run) run "$@" ;;
raw) podman_at v2 "$@" ;;
*) usage ;;
esac
