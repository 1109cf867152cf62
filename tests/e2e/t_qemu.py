#!/usr/bin/python3
"""stayd as the PID 1 of a virtual machine with all cgroup v2 controllers: limits bite, results say so,
and at the end it powers off. See machine.py."""
from machine import *

UNITS = {
    "memory.service": "[Service]\nType=exec\nMemoryMax=48M\nMemorySwapMax=0\nExecStart=/t/svc alloc:200\n",
    "tasks.service": "[Service]\nType=notify\nTasksMax=20\nExecStart=/t/svc %s notify:READY=1\n" % " ".join(["fork"] * 60),
    "quota.service": "[Service]\nType=exec\nCPUQuota=20%\nExecStart=/t/svc burn:60000\n",
    "free.service": "[Service]\nType=exec\nExecStart=/t/svc burn:60000\n",
}
CHECK = r"""
C=/sys/fs/cgroup/system.slice
$ctl start memory
i=0; while [ $i -lt 100 ]; do case $($ctl status memory) in *failed*) break;; esac; sleep 0.2; i=$((i+1)); done
fig "memory $($ctl status memory | grep -o 'oom-kill' | head -1)"
$ctl start tasks
fig "tasks $(cat $C/tasks.service/pids.current) $(cat $C/tasks.service/pids.max) $(cat $C/tasks.service/pids.events | head -1)"
$ctl start quota free
q0=$(sed -n 's/usage_usec //p' $C/quota.service/cpu.stat) f0=$(sed -n 's/usage_usec //p' $C/free.service/cpu.stat)
sleep 5
q1=$(sed -n 's/usage_usec //p' $C/quota.service/cpu.stat) f1=$(sed -n 's/usage_usec //p' $C/free.service/cpu.stat)
fig "cpu $((q1 - q0)) $((f1 - f0))"
fig "throttled $(sed -n 's/nr_throttled //p' $C/quota.service/cpu.stat)"
fig "controllers $(cat /sys/fs/cgroup/cgroup.subtree_control)"
$ctl stop tasks quota free
fig "left $(ls -d $C/tasks.service $C/quota.service 2>/dev/null | wc -l)"
"""


@test
def limits_are_enforced_under_a_real_pid_1_and_it_powers_off():
    figures, out = in_machine(UNITS, CHECK)
    got = {name: values[0] for name, values in figures.items()}
    check(len(got) == 6, got)
    check(got["memory"] == "oom-kill", got)
    tasks = got["tasks"].split()
    check(int(tasks[0]) <= 20 and tasks[1] == "20" and int(tasks[3]) > 0, got)
    quota, free = map(int, got["cpu"].split())
    check(quota < free / 2 and quota < 5e6 * 0.3, got)
    check(int(got["throttled"]) > 0 and got["left"] == "0", got)
    check("Power down" in out, out[-500:])


# A stayd that is not the first process, in a group with a limit: of its services none has one.
BOX = r"""
C=/sys/fs/cgroup/box
mkdir $C /run/box && echo 64M >$C/memory.max && echo 0 >$C/memory.swap.max
sh -c "echo \$\$ >$C/cgroup.procs; exec /proc/1/exe --unit-path /etc/stayd/units --runtime-dir /run/box --state-dir /run/box/state \
	--log-dir /run/box/log basic.target" 2>/run/box.log &
box="$ctl --socket /run/box/control.sock"
i=0; until $box ping >/dev/null 2>&1 || [ $i -gt 100 ]; do sleep 0.1; i=$((i+1)); done
until_kills() { i=0; until grep -q "oom_kill $1" $C/memory.events || [ $i -gt 300 ]; do sleep 0.1; i=$((i+1)); done; }
until_failed() { i=0; while [ $i -lt 100 ]; do case $($box status $1) in *failed*) break;; esac; sleep 0.2; i=$((i+1)); done; }
$box start worker
until_kills 1
sleep 2 # what is waited for is the time itself: a kill that late is not taken for the one before
$box kill -s KILL worker
until_failed worker
fig "worker $($box status worker | grep -o 'result [a-z-]*' | head -1)"
$box start --no-wait hog
until_failed hog
fig "hog $($box status hog | grep -o 'result [a-z-]*' | head -1)"
fig "said $(grep -o 'hog.service: killed by the kernel.*' /run/box.log | head -1)"
$box shutdown
"""
BOX_UNITS = {
    "worker.service": "[Service]\nType=exec\nExecStart=/bin/sh -c '/t/svc alloc:200 & while :; do sleep 1000; done'\n",
    "hog.service": "[Service]\nType=exec\nExecStart=/t/svc alloc:200\n",
}


@test
def the_memory_of_all_is_said_to_have_killed_whom_it_killed():
    got, out = in_machine(BOX_UNITS, BOX)
    check(got.get("worker") == ["result signal"], "that a worker was killed says nothing of a SIGKILL later: %s\n%s" % (got, out[-3000:]))
    check(got.get("hog") == ["result oom-kill"], got)
    check("/sys/fs/cgroup/box/memory.max, 64 MiB" in got["said"][0], got)


main()
