"""Torture list 9, 12, 13, 35, 39: services that do not end, end at once, or whose pids come again."""
from bed import *
from fusefs import HungFs
from torture import *


@test
def binary_replaced_or_removed_while_it_runs_is_found_at_the_next_start():
    with Rig() as r:
        prog = r.path("prog")
        r.d.write_unit("b.service", "[Service]\nType=exec\nExecStart=%s event:b\nEnvironment=PUPPET=%s\n" % (prog, r.puppets.path))

        def round():
            shutil.copy(SVC, prog)
            r.ctl("start", "b", check=True)
            pid = r.d.unit("b.service")["main_pid"]
            shutil.copy(SVC, prog + ".new")
            os.rename(prog + ".new", prog)  # replaced: the running one does not mind
            check(r.d.unit("b.service")["main_pid"] == pid and is_alive(pid), "still the same")
            r.ctl("restart", "b", check=True)
            pid = r.d.unit("b.service")["main_pid"]
            os.unlink(prog)
            check(is_alive(pid) and os.readlink("/proc/%d/exe" % pid).endswith("(deleted)"), "runs on without its file")
            rr = r.ctl("restart", "b")
            check(rr.rc != 0 and "203/EXEC" in rr.out + rr.err and prog in rr.out + rr.err, rr)
            with open(prog, "w") as f:
                f.write("")
            os.chmod(prog, 0o755)
            check(r.ctl("start", "b").rc != 0, "an empty file is no program")
            shutil.copy(SVC, prog + ".new")
            os.rename(prog + ".new", prog)
            r.ctl("start", "b", check=True)
        r.torture(round, says="ENOENT")


@test
def exit_loop_costs_less_than_two_percent_of_a_processor():
    """By systemd's defaults the start limit ends it; without a limit the growing delay bounds it; and with
    OnLimit=slow it goes on slowly. Measured over the life of the daemon's processes, not by the wall."""
    units = {"limit.service": "[Service]\nExecStart=/bin/true\nRestart=always\n",
             "grows.service": "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/bin/false\nRestart=always\nRestartSec=50ms\nRestartSteps=5\n"
                              "RestartMaxDelaySec=5s\n",
             "slow.service": "[Unit]\nStartLimitIntervalSec=10\nStartLimitBurst=5\n[Service]\nExecStart=/nonexistent/x\nRestart=always\nRestartSec=10ms\n"
                             "[X-Restart]\nOnLimit=slow\n"}
    with Rig(units) as r:
        r.ctl("start", *units, "--no-wait")  # known once, with what a unit costs
        r.ctl("stop", *units)
        with r.unharmed():
            r.ctl("start", *units, "--no-wait")
            r.d.wait_unit("limit.service", active_state="failed", result="start-limit-hit", deadline=30)
            pids = list(r.snapshot().pids.values())
            begin, cpu = time.monotonic(), sum(map(cpu_seconds, pids))
            before = r.d.unit("grows.service")["n_restarts"]
            wait_for(lambda: time.monotonic() - begin > 5, 30)
            share = (sum(map(cpu_seconds, pids)) - cpu) / (time.monotonic() - begin)
            u = {n: r.d.unit(n) for n in units}
            print("# exit loop: %.2f %% of a processor, %s" % (share * 100, {n: x["n_restarts"] for n, x in u.items()}))
            check(share < 0.02 or SANITIZED, "%.1f %% of a processor" % (share * 100))
            check(u["grows.service"]["n_restarts"] - before < 50, "the delay grows: %r" % u["grows.service"])
            r.ctl("stop", *units)


def hard_to_kill(steps, **service):
    """Registers a puppet that is up, and a rig with cgroups and one with shims around it."""
    return lambda s: {"k.service": s.puppets.unit(*steps, "event:up", TimeoutStopSec="300ms", **service)}


@in_both_trackings()
def process_that_ignores_sigterm_is_killed_at_its_time(tracking):
    with Rig(hard_to_kill(["ignore:TERM", "fork"]), tracking=tracking) as r:
        def round():
            r.ctl("start", "k", check=True)
            r.puppets.wait("up")
            r.ctl("stop", "k", check=True)
            check(r.d.unit("k.service")["result"] == "timeout", r.d.unit("k.service"))
        r.torture(round, says="SIGKILL|killing|timed out")


@in_both_trackings()
def stopped_process_hears_its_stop_signal(tracking):
    with Rig(lambda s: {"k.service": s.puppets.unit("fork", "event:up", "kill:STOP", TimeoutStopSec="20")}, tracking=tracking) as r:
        def round():
            r.ctl("start", "k", check=True)
            pid = r.puppets.wait("up").pid
            wait_for(lambda: proc_stat(pid)[0] == "T", 10, "the puppet to be stopped")
            begin = time.monotonic()
            r.ctl("stop", "k", check=True)
            u = r.d.unit("k.service")
            check(u["result"] == "success" and time.monotonic() - begin < 15 * SLOW, u)
        r.torture(round)


@test
def frozen_cgroup_is_killed_and_holds_up_no_other_start():
    with Rig(lambda s: {"k.service": s.puppets.unit("event:up", TimeoutStopSec="300ms", TimeoutStartSec="3s", Restart="always", RestartSec="0",
                                                    Type="notify", NotifyAccess="all"),
                        "r.service": s.puppets.unit("event:r", "notify:READY=1", TimeoutStopSec="300ms", TimeoutStartSec="%gs" % (2 * SLOW),
                                                    Restart="always", RestartSec="0", Type="notify"),
                        "other.service": s.puppets.unit("event:other")}) as r:
        if not r.cgroup("by-plain.service"):
            skip("no cgroups here")

        def freeze(unit, how):
            with open(os.path.join(r.cgroup(unit), "cgroup.freeze"), "w") as f:
                f.write(how)

        def round():
            # Stopped while frozen: SIGTERM cannot be heard, SIGKILL is.
            r.ctl("start", "r", check=True)
            freeze("r.service", "1")
            r.ctl("stop", "r", check=True)
            check(r.d.unit("r.service")["active_state"] in ("failed", "inactive"), r.d.unit("r.service"))
            r.ctl("start", "r", check=True)  # and started again it is not frozen any more
            # Restarted while frozen: a child born in a frozen cgroup never gets to its exec, and must not
            # hold up the launcher, which serves everybody.
            pid = r.d.unit("r.service")["main_pid"]
            freeze("r.service", "1")
            os.kill(pid, signal.SIGKILL)
            begin = time.monotonic()
            r.ctl("start", "other", check=True, timeout=20)
            check(time.monotonic() - begin < 10 * SLOW, "another unit had to wait %.1f s" % (time.monotonic() - begin))
            r.d.wait_unit("r.service", lambda u: u["main_pid"] != pid and u["sub_state"] == "running", deadline=20)
            r.ctl("stop", "r", "other", check=True)
        r.torture(round, says="frozen|freez")


@test
def ptraced_process_is_waited_for_until_its_tracer_lets_go():
    need_root()
    with Rig(hard_to_kill([])) as r:
        def round():
            r.ctl("start", "k", check=True)
            pid = r.puppets.wait("up").pid
            tracer = adopt(subprocess.Popen([sys.executable, "-c", "import ctypes,signal,sys\nl=ctypes.CDLL(None)\n"
                                             "print(l.ptrace(0x4206,%d,0,0), flush=True)\nsys.stdin.read()" % pid],
                                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))  # PTRACE_SEIZE
            check(tracer.stdout.readline().strip() == "0", "ptrace")
            stop = r.d.ctl_start("stop", "k")
            # It is killed, but its parent learns that only from the tracer: the unit says that it waits.
            wait_for(lambda: (proc_stat(pid) or "Z")[0] == "Z", 20, "the puppet to be killed")
            r.ctl("start", "by-plain", check=True)
            check(r.d.unit("k.service")["active_state"] in ("deactivating", "failed"), r.d.unit("k.service"))
            tracer.kill()
            tracer.wait()
            tracer.stdin.close(), tracer.stdout.close()
            stop.communicate(timeout=30 * PATIENCE)
            r.d.wait_unit("k.service", lambda u: u["active_state"] in ("inactive", "failed"), deadline=20)
        r.torture(round)


@test
def process_in_d_state_outlives_sigkill_and_is_told_and_waited_for():
    need_root()
    need("/dev/fuse")
    with temp_dir() as at:
        fs = HungFs(at)
        try:
            with Rig({"k.service": "[Service]\nExecStart=/bin/cat %s/hang\nTimeoutStopSec=300ms\n" % at}) as r:
                def round():
                    fs.is_open = True
                    r.ctl("start", "k", check=True)
                    pid = r.d.unit("k.service")["main_pid"]
                    wait_for(lambda: fs.held, 10, "the read to hang")
                    rr = r.ctl("stop", "k", timeout=30)
                    check(is_alive(pid) and proc_stat(pid)[0] == "D", "it is in D state: %r" % (proc_stat(pid),))
                    u = r.d.unit("k.service")
                    check(u["active_state"] in ("deactivating", "failed"), (u, rr))
                    # It may not be started a second time beside itself.
                    rr = r.ctl("start", "k", "--no-wait")
                    check(r.d.unit("k.service")["main_pid"] in (0, pid, None) or not is_alive(pid), "two of them: %r" % rr)
                    r.ctl("stop", "k", "--no-wait")
                    fs.release()
                    wait_for(lambda: not is_alive(pid), 10, "the process to end")
                    r.d.wait_unit("k.service", lambda u: u["active_state"] in ("inactive", "failed"), deadline=20)
                r.torture(round, says="SIGKILL|killed|still|left")
        finally:
            fs.close()


@test
def start_that_hangs_in_its_exec_holds_up_no_other_for_long():
    """A program on a file system that does not answer, as NFS does: the launcher waits for each exec."""
    need_root()
    need("/dev/fuse")
    with temp_dir() as at:
        fs = HungFs(at)
        try:
            with Rig(lambda s: {"k.service": "[Service]\nExecStart=%s/hang\nTimeoutStartSec=60\nTimeoutStopSec=300ms\n" % at,
                                "victim.service": s.puppets.unit("event:victim", prefix=VICTIM, Restart="always", RestartSec="0")}) as r:
                def round():
                    fs.is_open = True
                    r.ctl("start", "victim", check=True)
                    victim = r.puppets.wait("victim").pid
                    r.ctl("start", "k", "--no-wait", check=True)
                    wait_for(lambda: fs.held, 10, "the exec to hang")
                    begin = time.monotonic()
                    os.kill(victim, signal.SIGKILL)
                    r.puppets.wait("victim", deadline=30)
                    print("# another unit was restarted after %.1f s" % (time.monotonic() - begin))
                    fs.release()
                    r.d.wait_unit("k.service", lambda u: u["active_state"] in ("failed", "inactive"), deadline=20)
                if "-san" in BUILD:  # its starts are forked: the launcher does not wait, and says so
                    r.torture(round)
                else:
                    r.torture(round, says="launcher has not answered.*file system", killed=("launcher",))
        finally:
            fs.close()


@test
def core_that_is_killed_while_a_start_hangs_is_back_at_once():
    """Its successor asks the launcher for all that was asked before, and does not wait for what hangs."""
    need_root()
    need("/dev/fuse")
    with temp_dir() as at:
        fs = HungFs(at)
        try:
            with Rig({"k.service": "[Service]\nExecStart=%s/hang\nPrivateMounts=yes\nTimeoutStartSec=60\nTimeoutStopSec=300ms\n" % at}) as r:
                def round():
                    fs.is_open = True
                    r.ctl("start", "k", "--no-wait", check=True)
                    wait_for(lambda: fs.held, 10, "the exec to hang")
                    core = r.d.status()["daemon"]["core_pid"]
                    begin = time.monotonic()
                    os.kill(core, signal.SIGKILL)
                    wait_for(lambda: r.ctl("status", "--json").rc == 0 and r.d.status()["daemon"]["core_pid"] != core, 20, "another core")
                    took = time.monotonic() - begin
                    print("# another core answered after %.2f s" % took)
                    check(took < 4.5, "core waited for the launcher, which waited for the start: %.1f s" % took)
                    fs.release()
                    r.d.wait_unit("k.service", lambda u: u["active_state"] in ("failed", "inactive"), deadline=20)
                r.torture(round, killed=("core",))
        finally:
            fs.close()


@test
def process_blocked_in_vfork_is_killed_with_its_child():
    with Rig(lambda s: {"k.service": "[Service]\nExecStart=/usr/bin/python3 -c 'import ctypes; l = ctypes.CDLL(None); l.syscall(58) or l.pause()'\n"
                                     "TimeoutStopSec=1\n"}) as r:
        def round():
            r.ctl("start", "k", check=True)
            wait_for(lambda: len(r.d.status()["units"]) and (lambda p: p and proc_stat(p)[0] == "D")(r.d.unit("k.service")["main_pid"]), 20,
                     "the parent to wait for its child")
            r.ctl("stop", "k", check=True, timeout=30)
        r.torture(round)


def small_pid_bed(units, pid_max, **more):
    """stayd as PID 1 where pids come again after pid_max: pid_max is the namespace's own since Linux 6.14."""
    need_root()
    if tuple(int(x) for x in re.findall(r"\d+", os.uname().release)[:2]) < (6, 14):
        skip("kernel.pid_max is the machine's before Linux 6.14")
    return Bed("rw", units, wrap=["sh", "-c", 'echo %d >/proc/sys/kernel/pid_max && exec "$@"' % pid_max, "sh"], **more)


@test
def pid_reuse_with_pid_max_301_never_hits_an_innocent():
    restarts = 10000 if os.environ.get("STAYD_FULL") else 1500
    with open("/proc/sys/kernel/pid_max") as f:
        outside = f.read()
    with temp_dir() as dir:
        os.chmod(dir, 0o755)
        innocents = {"i%d.service" % i: "[Service]\nExecStart=%s\nRestart=always\nRestartSec=0\n" % SVC for i in range(5)}
        units = dict(innocents, **{
            "churn.service": "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/bin/true\nRestart=always\nRestartSec=0\n",
            # Forks all the time: its pids are the very next ones.
            "fork.service": "[Service]\nExecStart=/bin/sh -c 'while :; do /bin/true; done'\nNice=5\n",
            # Ends while it is being signalled: MAINPID of a moment ago.
            "race.service": "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=%s exit:0\nRestart=always\nRestartSec=0\nKillMode=mixed\n" % SVC})
        with small_pid_bed(units, 301) as d:
            d.ctl("start", *innocents)
            before = {n: d.unit(n)["main_pid"] for n in innocents}
            d.ctl("start", "churn", "fork", "race", "--no-wait")
            kills, status = 0, d.status

            def enough():
                nonlocal kills
                for verb in ("TERM", "KILL"):
                    d.ctl("kill", "--signal=" + verb, "race", check=False)
                    d.ctl("kill", "--signal=" + verb, "churn", check=False)
                    kills += 2
                return d.unit("churn.service")["n_restarts"] >= restarts
            wait_for(enough, 120, lambda: "%d restarts; %s" % (restarts, d.unit("churn.service")))
            now = {n: (d.unit(n)["main_pid"], d.unit(n)["n_restarts"]) for n in innocents}
            check(now == {n: (p, 0) for n, p in before.items()}, (before, now))
            n = sum(d.unit(u)["n_restarts"] for u in ("churn.service", "race.service"))
            print("# %d restarts, %d kills sent in a space of 301 pids" % (n, kills))
            check(status()["daemon"]["restarts_of_core"] == 0, "the core is the same")
            d.ctl("stop", "churn", "fork", "race")
        with open("/proc/sys/kernel/pid_max") as f:
            check(f.read() == outside, "the machine's pid_max is untouched")


@in_beds("rw", "docker", "uid1000")
def processes_executed_into_the_container_are_reaped_and_touch_no_unit(bed):
    """docker exec: a process from outside in our namespaces, whose orphans fall to PID 1."""
    need("nsenter")
    with temp_dir() as dir:
        os.chmod(dir, 0o755)
        with Bed(bed, {"a.service": "[Service]\nExecStart=%s\nRestart=always\nRestartSec=0\n" % SVC}) as d:
            d.ctl("start", "a")
            pid = d.unit("a.service")["main_pid"]
            keeper = {"fds": fds_of(d.init)}
            for i in range(3):
                r = subprocess.run(["nsenter", "-t", str(d.init), "-p", "-m", "--", "sh", "-c",
                                    "i=0; while [ $i -lt 100 ]; do (/bin/true & exec /bin/sh -c 'exit 3' &) ; i=$((i+1)); done; (setsid sleep 0.2 &); exit 7"],
                                   capture_output=True, timeout=60 * PATIENCE)
                check(r.returncode == 7, r)
            wait_for(lambda: not [p for p, s in descendants(d.init).items() if s[0] == "Z"], 20, "every orphan to be reaped")
            wait_for(lambda: not [p for p in descendants(d.init) if "sleep" in cmdline(p)], 20, "the last of them to end")
            u = d.unit("a.service")
            check(u["main_pid"] == pid and u["n_restarts"] == 0, u)
            wait_for(lambda: fds_of(d.init) == keeper["fds"], 10, "keeper's descriptors to be as before")


main()
