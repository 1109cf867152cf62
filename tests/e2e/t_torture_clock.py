"""Torture list 24 and 26, in a virtual machine, because they are done to a whole machine: the wall clock jumps ten
years there and back, and a cgroup controller vanishes. See machine.py."""
from machine import *

UNITS = {
    "fed.service": "[Service]\nType=notify\nNotifyAccess=all\nWatchdogSec=20\nExecStart=/t/svc notify:READY=1 watchdog:1000\n",
    "waits.service": "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/t/svc exit:1\nRestart=always\nRestartSec=1h\n",
    "slow.service": "[Service]\nType=notify\nExecStart=/t/svc sleep:3600000\nTimeoutStartSec=1h\n",
    "limited.service": "[Service]\nType=exec\nMemoryMax=64M\nExecStart=/t/svc\n",
}
CLOCK = r"""
$ctl start fed
$ctl start --no-wait waits slow
sleep 2
before=$(pid fed)
for to in "2036-06-01 00:00:00" "2001-01-01 00:00:00" "2026-06-01 00:00:00"; do
	date -s "$to" >/dev/null
	sleep 3
	$ctl ping >/dev/null && fig alive yes
	fig fed $before $(pid fed)
	fig waits $($ctl status waits | grep -c auto-restart)
	fig slow $($ctl status slow | grep -c start)
done
$ctl stop fed waits slow && fig stopped yes
"""
CONTROLLER = r"""
C=/sys/fs/cgroup
$ctl start limited && fig limit $(cat $C/system.slice/limited.service/memory.max)
$ctl stop limited
echo -memory >$C/system.slice/cgroup.subtree_control && fig taken yes
rmdir $C/system.slice/limited.service 2>/dev/null
$ctl start limited && fig again $($ctl status limited | grep -c running)
fig said $($ctl status limited | grep MemoryMax)
core() { $ctl status --json | tr ',' '\n' | sed -n 's/.*"core_pid": *\([0-9]*\).*/\1/p'; }
old=$(core)
kill -9 $old
until now=$(core) && [ -n "$now" ] && [ "$now" != "$old" ]; do sleep 0.1; done
fig said $($ctl status limited | grep MemoryMax)
$ctl ping >/dev/null && fig alive yes
$ctl stop limited
"""


@test
def clock_of_the_wall_jumps_ten_years_there_and_back_and_no_timer_notices():
    got, out = in_machine(UNITS, CLOCK)
    check(got.get("alive") == ["yes"] * 3 and got.get("stopped") == ["yes"], out[-3000:])
    check(all(len(set(v.split())) == 1 and v.split()[0] for v in got["fed"]), "the watchdog found nothing: %s" % got["fed"])
    check(all(int(v) >= 1 for v in got["waits"]) and all(int(v) >= 1 for v in got["slow"]), "no wait was over: %s" % got)


@test
def controller_that_vanishes_fails_no_start():
    got, out = in_machine(UNITS, CONTROLLER)
    check(got.get("limit") == [str(64 << 20)] and got.get("taken") == ["yes"], out[-3000:])
    check(got.get("again") == ["1"] and got.get("alive") == ["yes"], out[-3000:])
    check(len(got["said"]) == 2 and all("it is not in memory.max" in s for s in got["said"]), got["said"])


main()
