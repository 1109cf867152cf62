#!/bin/sh
# Boots a throw-away virtual machine with Debian's cloud kernel: a real PID 1 and all cgroup v2
# controllers (cpuset cpu io memory hugetlb pids rdma misc), 5 s without KVM.
#
#   qemu.sh [-p] [-b ROOTFS_DIR] [-m MB] [-t SECONDS] [-a "kernel arguments"] FILE[:DEST]...
#     The first FILE is the test: run by a busybox init as root, its exit status becomes ours.
#     Further ones are copied in, as /t/NAME or DEST, with the shared libraries they need.
#     -p  the first FILE is PID 1 itself: it powers off at the end, and sets our status by the line
#         "QEMU-EXIT n" on the console or on /dev/ttyS1
#     -b  lay the files over this tree (packed once and cached)
#
# The serial console goes to standard output, and at the end what was written to /dev/ttyS1. 125: no
# exit line came, 77: something is not installed. Needs qemu-system-x86, busybox-static, cpio; the
# kernel package is unpacked, never installed. The work directory is $STAYD_TESTBED_DIR. Everything
# travels in the initramfs: the cloud kernel has virtio and 9p only as modules. KVM is not used:
# nested, the device opens but the guest hangs.
set -eu

usage() {
	sed -n '2,17s/^# \{0,1\}//p' "$0" >&2
	exit 2
}

cache=${STAYD_TESTBED_DIR:-${TMPDIR:-/tmp}/stayd-testbed}/qemu
is_pid1='' base='' memory=512 seconds=120 kernel_args=''
while getopts pb:m:t:a: opt; do
	case $opt in
	p) is_pid1=1 ;;
	b) base=$OPTARG ;;
	m) memory=$OPTARG ;;
	t) seconds=$OPTARG ;;
	a) kernel_args=$OPTARG ;;
	*) usage ;;
	esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || usage
for tool in qemu-system-x86_64 busybox cpio; do
	command -v $tool >/dev/null || { echo "qemu.sh: $tool is not installed" >&2; exit 77; }
done

mkdir -p "$cache"
work=$(mktemp -d "$cache/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root/t"

fetch_kernel() {
	! ls "$cache"/kernel/boot/vmlinuz-* >/dev/null 2>&1 || return 0
	package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image/ { print $2; exit }')
	(
		cd "$work"
		apt-get -q -o APT::Sandbox::User=root -o Acquire::Retries=5 download "$package" >/dev/null ||
			{ echo "qemu.sh: there is no kernel to be had" >&2; exit 77; }
		dpkg-deb -x linux-image-*.deb kernel
		mv kernel "$cache/kernel.$$"
	)
	mv -T "$cache/kernel.$$" "$cache/kernel" 2>/dev/null || rm -rf "$cache/kernel.$$" # another was faster
}

# install_file FILE[:DEST]: prints where it is inside.
install_file() {
	from=${1%%:*}
	to=${1#*:}
	[ "$to" != "$1" ] || to=/t/$(basename "$from")
	mkdir -p "$root$(dirname "$to")"
	cp -L "$from" "$root$to"
	ldd "$from" 2>/dev/null | grep -oE '/[^ ]+' | while read -r lib; do
		if [ -n "$base" ]; then
			[ ! -e "$base$lib" ] || continue
			at=/usr$lib # /lib is a link there
		else
			at=$lib
		fi
		mkdir -p "$root$(dirname "$at")"
		[ -e "$root$at" ] || cp -L "$lib" "$root$at"
	done
	echo "$to"
}

# Without a tree of its own: the few names that shell tests use.
small_root() {
	for d in bin etc proc sys dev tmp run; do mkdir -p "$root/$d"; done
	echo 'root:x:0:0:root:/:/bin/sh' >"$root/etc/passwd"
	echo 'root:x:0:' >"$root/etc/group"
	for applet in sh mount cat echo ls sleep mkdir kill poweroff env id grep; do
		ln -sf /busybox.test "$root/bin/$applet"
	done
}

# The init that runs a test which is not PID 1 itself.
write_init() {
	cat >"$root/init.test" <<INIT
#!/busybox.test sh
B=/busybox.test
\$B mkdir -p /proc /sys /dev
\$B mount -t proc proc /proc
\$B mount -t sysfs sys /sys
\$B mount -t devtmpfs dev /dev 2>/dev/null
\$B mkdir -p /dev/pts /dev/shm /run /tmp
\$B mount -t devpts devpts /dev/pts
\$B mount -t tmpfs shm /dev/shm
\$B mount -t tmpfs run /run
\$B mount -t cgroup2 -o nosuid,nodev,noexec,nsdelegate,memory_recursiveprot cgroup2 /sys/fs/cgroup
\$B ip link set lo up
\$B hostname qemu
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/
\$B setsid \$B cttyhack $1 </dev/console >/dev/console 2>&1
echo "QEMU-EXIT \$?" >/dev/console
\$B poweroff -f
INIT
	chmod +x "$root/init.test"
}

pack() { # DIR FILE
	(cd "$1" && find . -xdev | cpio -o -H newc --quiet | gzip -1) >"$2"
}

fetch_kernel
first=''
for file in "$@"; do
	at=$(install_file "$file")
	[ -n "$first" ] || first=$at
done
cp /bin/busybox "$root/busybox.test"
[ -n "$base" ] || small_root
init=$first
if [ -z "$is_pid1" ]; then
	write_init "$first"
	init=/init.test
fi
pack "$root" "$work/files.gz"
packed_base=''
if [ -n "$base" ]; then
	packed_base=$cache/base-$(echo "$base" | cksum | cut -d' ' -f1).gz
	if [ ! -e "$packed_base" ]; then
		pack "$base" "$work/base.gz"
		mv "$work/base.gz" "$packed_base"
	fi
fi
# shellcheck disable=SC2086 # one word or none
cat $packed_base "$work/files.gz" >"$work/initrd.gz" # the kernel takes several archives in a row

set +e
: >"$work/log" # tail must find it
timeout "$seconds" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -m "$memory" -smp 2 -nodefaults \
	-no-reboot -display none -serial stdio -serial "file:$work/second" \
	-kernel "$(ls "$cache"/kernel/boot/vmlinuz-* | tail -1)" -initrd "$work/initrd.gz" \
	-append "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on rdinit=$init $kernel_args" </dev/null >"$work/log" 2>&1 &
qemu=$!
tail -n +1 -f --pid=$qemu "$work/log" 2>/dev/null
wait $qemu
qemu_status=$?
cat "$work/second"
status=$(cat "$work/log" "$work/second" | tr -d '\r' | sed -n 's/^QEMU-EXIT \([0-9]*\).*/\1/p' | tail -1)
[ -z "$status" ] || exit "$status"
if [ -n "$is_pid1" ] && [ $qemu_status -eq 0 ]; then exit 0; fi
echo "qemu.sh: no exit line (qemu ended with $qemu_status)" >&2
exit 125
