#!/usr/bin/python3
"""stayd as the PID 1 of a virtual machine with all cgroup v2 controllers: limits bite, results say so,
and at the end it powers off. Slow (emulated): only with STAYD_QEMU=1."""
from lib import *

BED = os.path.join(TOP, "tests/testbed/qemu.sh")
UNITS = {
    "check.service": "[Unit]\nSuccessAction=poweroff\nFailureAction=poweroff\n[Service]\nType=oneshot\nStandardOutput=inherit\n"
                     "ExecStart=/bin/sh /t/check\nTimeoutStartSec=100\n",
    "memory.service": "[Service]\nType=exec\nMemoryMax=48M\nMemorySwapMax=0\nExecStart=/t/svc alloc:200\n",
    "tasks.service": "[Service]\nType=notify\nTasksMax=20\nExecStart=/t/svc %s notify:READY=1\n" % " ".join(["fork"] * 60),
    "quota.service": "[Service]\nType=exec\nCPUQuota=20%\nExecStart=/t/svc burn:60000\n",
    "free.service": "[Service]\nType=exec\nExecStart=/t/svc burn:60000\n",
}
CHECK = r"""
C=/sys/fs/cgroup/system.slice
ctl="/t/stayctl"
field() { $ctl show $1 -p $2 2>/dev/null | sed "s/^$2=//"; }
$ctl start memory
i=0; while [ $i -lt 100 ]; do case $($ctl status memory) in *failed*) break;; esac; sleep 0.2; i=$((i+1)); done
echo "FIGURE memory $($ctl status memory | grep -o 'oom-kill' | head -1)"
$ctl start tasks
echo "FIGURE tasks $(cat $C/tasks.service/pids.current) $(cat $C/tasks.service/pids.max) $(cat $C/tasks.service/pids.events | head -1)"
$ctl start quota free
q0=$(sed -n 's/usage_usec //p' $C/quota.service/cpu.stat) f0=$(sed -n 's/usage_usec //p' $C/free.service/cpu.stat)
sleep 5
q1=$(sed -n 's/usage_usec //p' $C/quota.service/cpu.stat) f1=$(sed -n 's/usage_usec //p' $C/free.service/cpu.stat)
echo "FIGURE cpu $((q1 - q0)) $((f1 - f0))"
echo "FIGURE throttled $(sed -n 's/nr_throttled //p' $C/quota.service/cpu.stat)"
echo "FIGURE controllers $(cat /sys/fs/cgroup/cgroup.subtree_control)"
$ctl stop tasks quota free
echo "FIGURE left $(ls -d $C/tasks.service $C/quota.service 2>/dev/null | wc -l)"
echo "QEMU-EXIT 0"
"""


@test
def limits_are_enforced_under_a_real_pid_1_and_it_powers_off():
    if not os.environ.get("STAYD_QEMU"):
        skip("STAYD_QEMU=1 runs it; it takes a minute")
    with temp_dir() as dir:
        files = []
        for n, t in list(UNITS.items()) + [("check", CHECK)]:
            with open(os.path.join(dir, n), "w") as f:
                f.write(t)
            files.append("%s/%s:%s" % (dir, n, "/t/check" if n == "check" else "/etc/stayd/units/" + n))
        os.makedirs(os.path.join(dir, "bin"))
        for a in ("sed", "head", "wc"):
            files.append("/bin/busybox:/bin/" + a)
        argv = [BED, "-p", "-m", "1024", "-t", "240", "-a", "-- --log-console check.service", STAYD, STAYCTL + ":/t/stayctl",
                SVC + ":/t/svc"] + files
        p = subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=300)
        if p.returncode == 77:
            skip(p.stderr.strip())
        got = dict(m.split(" ", 1) for m in re.findall(r"FIGURE (\w+ [^\r\n]*)", p.stdout))
        check(p.returncode == 0 and len(got) == 6, "%s\n%s\n%s" % (p.returncode, p.stdout[-6000:], p.stderr))
        for k, v in got.items():
            print("# %s: %s" % (k, v))
        check(got["memory"] == "oom-kill", got)
        tasks = got["tasks"].split()
        check(int(tasks[0]) <= 20 and tasks[1] == "20" and int(tasks[3]) > 0, got)
        quota, free = map(int, got["cpu"].split())
        check(quota < free / 2 and quota < 5e6 * 0.3, got)
        check(int(got["throttled"]) > 0 and got["left"] == "0", got)
        check("Power down" in p.stdout, p.stdout[-500:])


main()
