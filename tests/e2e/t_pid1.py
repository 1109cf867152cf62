#!/usr/bin/python3
"""stayd as PID 1 of what a container is: with and without cgroups it can write, with Docker's
capabilities, with none, and as uid 1000. What must be the same everywhere is tested everywhere."""
import threading

from bed import *

WEB = """[Service]
ExecStart={dir}/current/websvc --instance web@%i
Restart=always
RestartSec=0
TimeoutStopSec=5
[X-Replicas]
Count=4
Ports={first}-{last}
[X-Health]
Ready={ready}
IntervalSec=100ms
TimeoutSec=5
Rise=1
[X-Rollout]
Strategy=rolling
MaxUnavailable=1
ProgressDeadlineSec=30
ReleaseRoot={dir}/releases
ReleaseLink={dir}/current
"""


class Zombies(threading.Thread):
    """Looks for zombies below a process all the time: how long was the longest-lived one seen?
    Only those whose parent is PID 1 or a shim count: a service may keep its own."""

    def __init__(self, root):
        super().__init__(daemon=True)
        self.root, self.first_seen, self.longest, self.looks, self.ended = root, {}, 0.0, 0, False

    def run(self):
        while not self.ended:
            table, now = descendants(self.root), time.monotonic()
            self.looks += 1
            seen = {}
            for pid, (state, ppid) in table.items():
                if state == "Z" and (ppid == self.root or "stayd" in cmdline(ppid)):
                    seen[pid] = self.first_seen.get(pid, now)
                    self.longest = max(self.longest, now - seen[pid])
            self.first_seen = seen
            time.sleep(0.005)

    def done(self):
        self.ended = True
        self.join()
        return self.longest


# "ro" differs from "docker" in what sandboxes may do, and from "rw" in nothing else.
in_every_bed = in_beds("rw", "docker", "uid1000")


def releases(d, *names):
    for n in names:
        os.makedirs(os.path.join(d, "releases", n))
        shutil.copy2(WEBSVC, os.path.join(d, "releases", n))
    os.symlink("releases/" + names[0], os.path.join(d, "current"))


def web(d, ready="http://127.0.0.1:${PORT}/healthz"):
    p = neighbours(8)
    releases(d, "v1", "v2")
    return {"web@.service": WEB.format(dir=d, first=p[0], last=p[-1], ready=ready)}


@in_every_bed
def four_replicas_crash_restart_and_roll(bed):
    need(STAY_NET)
    with temp_dir() as dir, Bed(bed, web(dir)) as d:
        os.chmod(dir, 0o755)
        zombies = Zombies(d.init)
        zombies.start()
        d.ctl("start", "web")
        members = wait_for(lambda: (lambda m: m if len(m) == 4 and all(u["available"] for u in m) else None)
                           ([d.unit("web@%d.service" % i) for i in range(1, 5)]), 30, "4 available replicas")
        victim = members[2]
        os.kill(d.pid(victim["main_pid"]), signal.SIGKILL)
        again = d.wait_unit(victim["name"], lambda u: u["n_restarts"] == 1 and u["available"], deadline=20)
        check(again["main_pid"] != victim["main_pid"], again)
        r = d.ctl("deploy", "web", "v2", timeout=90)
        now = [d.unit("web@%d.service" % i) for i in range(1, 5)]
        check([u["release"] for u in now] == ["v2"] * 4 and all(u["available"] for u in now), (r, now))
        check(http_get(now[0]["port"])[2].find("v2") >= 0, http_get(now[0]["port"]))
        d.ctl("stop", "web")
        longest = zombies.done()
        check(longest < 2.0 * SLOW, "a zombie was seen for %.3f s" % longest)
        print("# %s: longest zombie seen %.0f ms in %d looks" % (bed, longest * 1000, zombies.looks))


@in_every_bed
def orphans_belong_to_their_service_and_die_with_it(bed):
    with temp_dir() as dir:
        os.chmod(dir, 0o755)
        p = Puppets(dir)
        with Bed(bed, {"a.service": p.unit("double-fork", "setsid-fork", "fork", "notify-child:STATUS=from an orphan", "event:up",
                                           NotifyAccess="all")}) as d:
            d.ctl("start", "a")
            p.wait("up")
            check(d.wait_unit("a.service", status_text="from an orphan"), "attributed")
            names = {e.name for e in p.seen}
            before = [i for i in d.inner().values() if SVC in cmdline(i)]
            check(len(before) == 4, (names, before))
            d.kill_core()
            check(before == [i for i in d.inner().values() if SVC in cmdline(i)], "a killed core changes nothing")
            d.ctl("stop", "a")
            check(not [i for i in d.inner().values() if SVC in cmdline(i)], "left: %s" % d.inner())
        p.close()


@in_every_bed
def a_new_program_that_cannot_read_the_keepers_state_keeps_what_runs(bed):
    with Bed(bed, {"a.service": "[Service]\nExecStart=%s fork wait\nRestart=always\nRestartSec=0\n" % SVC}, targets=["a.service"]) as d:
        before = d.wait_unit("a.service", lambda u: u["main_pid"], sub_state="running")
        other = os.path.join(d.dir, "stayd-other")
        with open(STAYD, "rb") as ours, open(other, "wb") as out:  # to it, every state is damaged
            out.write(ours.read().replace(b"staydpk\0", b"staydpx\0"))
        os.chmod(other, 0o755)
        r = d.ctl("reexec", other)
        check("could not read" in r.out, r)
        for how in (lambda: None, d.kill_core, lambda: d.ctl("reexec", STAYD)):
            how()
            u = d.unit("a.service")
            check((u["main_pid"], u["n_restarts"], u["sub_state"]) == (before["main_pid"], 0, "running"), u)
        os.kill(d.pid(before["main_pid"]), signal.SIGTERM)
        d.wait_unit("a.service", lambda u: u["main_pid"] not in (0, before["main_pid"]), sub_state="running", n_restarts=1)


@test
def a_killed_shim_leaves_no_double():
    with temp_dir() as dir:
        os.chmod(dir, 0o755)
        with Bed("docker", {"a.service": "[Service]\nExecStart=%s\nRestart=always\nRestartSec=0\n" % SVC}) as d:
            d.ctl("start", "a")
            old = d.pid(d.wait_unit("a.service", lambda u: u["main_pid"])["main_pid"])
            shim = proc_stat(old)[1]
            check(shim != d.init, "there is a shim")
            os.kill(shim, signal.SIGKILL)
            d.wait_unit("a.service", lambda u: u["n_restarts"] == 1 and u["main_pid"])
            wait_for(lambda: not is_alive(old), 5, "the old program to end")


@test
def a_command_beside_the_main_process_is_reached_too():
    unit = "[Service]\nExecStart=%s\nExecReload=%s ignore:TERM\nTimeoutStopSec=1\nTimeoutStartSec=60\n" % (SVC, SVC)
    with Bed("docker", {"a.service": unit}) as d:
        d.ctl("start", "a")
        reload = d.ctl_start("reload", "a")
        wait_for(lambda: len([i for i in d.inner().values() if SVC in cmdline(i)]) == 2, 10, "the reload to run")
        d.ctl("stop", "a")
        check(not [i for i in d.inner().values() if SVC in cmdline(i)], "left: %s" % d.inner())
        reload.communicate(timeout=30 * PATIENCE)


@test
def releases_behind_a_load_balancer_lose_no_request():
    need(STAY_NET)
    with temp_dir() as dir, contextlib.ExitStack() as stack:
        os.chmod(dir, 0o755)
        import haproxy as backends
        lb = haproxy(os.path.join(dir, "lb"), backends.Backend("web", slots=6, check="/healthz"))
        lb.start()
        stack.callback(lb.stop)
        units = web(dir)
        units["web@.service"] += "[X-LoadBalancer]\nDriver=haproxy\nAddress=%s\nBackend=web\n" % lb.socket
        with Bed("docker", units) as d:
            d.ctl("start", "web")
            wait_for(lambda: [u["lb_state"] for u in d.members("web")].count("in") == 4, 30,
                     lambda: "4 servers in: %s" % d.members("web"))
            with Load("http://127.0.0.1:%d/" % lb.port("web"), rate=200) as load:
                load.wait_ok(100)
                d.ctl("deploy", "web", "v2", timeout=90)
                total = load.finish()
            check(total["failed"] == 0 and total["ok"] > 100, total)
            print("# docker: %d requests during a release, %d failed" % (total["sent"], total["failed"]))


@in_every_bed
def a_bomb_of_300_orphans_leaves_nobody(bed):
    steps = ["ignore:TERM"] + ["setsid-fork"] * 150 + ["double-fork"] * 150 + ["notify:READY=1"]
    unit = "[Service]\nType=notify\nExecStart=%s %s\nTimeoutStopSec=2\n" % (SVC, " ".join(steps))
    with Bed(bed, {"bomb.service": unit}) as d:
        zombies = Zombies(d.init)
        zombies.start()
        d.ctl("start", "bomb")
        n = len([i for i in d.inner().values() if SVC in cmdline(i)])
        check(n == 301, "%d processes" % n)
        d.ctl("stop", "bomb")
        left = [i for i in d.inner().values() if SVC in cmdline(i)]
        longest = zombies.done()
        check(not left, "left: %d" % len(left))
        check(longest < 2.0 * SLOW, "a zombie was seen for %.3f s" % longest)
        print("# %s: 301 processes stopped, 0 left; longest zombie seen %.0f ms" % (bed, longest * 1000))


@in_every_bed
def sigterm_ends_everything_in_order(bed):
    with temp_dir() as dir:
        os.chmod(dir, 0o755)
        p = Puppets(dir)
        first = p.unit("event:up", "on-term:0:200")
        second = p.unit("event:up", "on-term:0:200", prefix="[Unit]\nAfter=a.service\nRequires=a.service\n")
        stubborn = p.unit("ignore:TERM", "event:up", TimeoutStopSec="1")
        with Bed(bed, {"a.service": first, "b.service": second, "c.service": stubborn}, targets=["b.service", "c.service"]) as d:
            for _ in range(3):
                p.wait("up")
            # A program may speak before the daemon has heard of its pid.
            pids = {n: d.pid(wait_for(lambda: d.unit(n + ".service")["main_pid"], 10, "the pid of " + n)) for n in "abc"}
            start = time.monotonic()
            os.kill(d.init, signal.SIGTERM)
            def b_has_ended():
                a_lives, b_lives = is_alive(pids["a"]), is_alive(pids["b"])  # in this order: both may end in between
                check(a_lives or not b_lives, "a ended before b")
                return not b_lives
            wait_for(b_has_ended, 20, "b to end")
            d.wait_exit(0, 20)
            took = time.monotonic() - start
            check(took < 10 * SLOW, "took %.1f s" % took)
            events = p.drain()
            check([e.name for e in events].count("signal") >= 2, events)
        p.close()


@in_beds("rw", "docker")
def sigterm_at_any_moment_of_the_start_is_honoured(bed):
    unit = "[Service]\nType=notify\nExecStartPre=%s sleep:30 exit:0\nExecStart=%s sleep:50 notify:READY=1\n" % (SVC, SVC)
    quick = "[Service]\nType=notify\nExecStart=%s sleep:50 notify:READY=1\n" % SVC
    units = {"s.service": unit, "default.target": "[Unit]\nWants=s.service q.service\nAfter=s.service q.service\n", "q.service": quick}
    # The moments: PID 1 is there, core is there, it listens, the first service is up, all are.
    moments = [lambda d: d.init, lambda d: len(d.inner()) >= 2, lambda d: len(d.inner()) >= 3, lambda d: os.path.exists(d.socket),
               lambda d: any(SVC in cmdline(p) for p in d.inner().values()),
               lambda d: os.path.exists(d.socket) and d.ctl("is-active", "q", check=False).rc == 0]
    for i, moment in enumerate(moments):
        d = Bed(bed, units, wait=False)
        d.start()
        try:
            pid = d.init
            # PID 1 is still the bed's shell until it is stayd, and that shell ignores signals.
            wait_for(lambda: cmdline(pid).startswith(STAYD), 10, "stayd to be PID 1")
            wait_for(lambda: moment(d), 15, "moment %d" % i)
            for _ in range(1000):  # the kernel drops a signal to PID 1 that has not blocked it yet
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
                if d.proc.poll() is not None or "stopping" in d.log_text():
                    break
                time.sleep(0.01)
            d.wait_exit(0, 20)
            d.assert_clean()
        finally:
            text = d.log_text()
            d.destroy()
        check("cannot" not in text or bed == "uid1000", text)


@in_beds("docker", "uid1000")
def output_is_on_stdout_with_a_prefix_and_in_logs(bed):
    with Bed(bed, {"talk.service": "[Service]\nExecStart=%s print:hello eprint:world\n" % SVC}) as d:
        d.ctl("start", "talk")
        wait_for(lambda: re.search(r"^talk(\.service)?[^\n]* hello$", d.log_text(), re.M) and " world" in d.log_text(), 10, d.log_text)
        wait_for(lambda: "hello" in d.ctl("logs", "talk").out, 10, "the line in stayctl logs")


def degraded(d, name):
    return {g["directive"]: g["reason"] for g in d.unit(name)["degraded"]}


SANDBOXED = ("[Service]\nExecStart=%s\nPrivateTmp=yes\nProtectSystem=strict\nPrivateNetwork=yes\nMemoryMax=100M\nTasksMax=50\n"
             "OOMScoreAdjust=-500\n" % SVC)


@in_beds(*BEDS)
def what_cannot_be_enforced_is_said_per_directive(bed):
    with Bed(bed, {"a.service": SANDBOXED}) as d:
        d.ctl("start", "a")
        d.wait_unit("a.service", lambda u: u["main_pid"], active_state="active")
        said = degraded(d, "a.service")
        if bed in ("docker", "uid1000"):
            for k in ("PrivateTmp", "ProtectSystem", "PrivateNetwork"):
                check("CAP_SYS_ADMIN" in said.get(k, ""), "%s: %s" % (k, said))
        else:
            check("PrivateTmp" not in said and "PrivateNetwork" not in said, said)
        with open("/sys/fs/cgroup/cgroup.controllers" if os.path.exists("/sys/fs/cgroup/cgroup.controllers")
                  else "/sys/fs/cgroup/unified/cgroup.controllers") as f:
            has_memory = "memory" in f.read()
        if bed != "rw" or not has_memory:
            check("MemoryMax" in said and "TasksMax" in said, "limits that are not set must be said: %s" % said)
        check("PrivateTmp" not in said or "PrivateTmp" in d.ctl("status", "a").out, d.ctl("status", "a").out)


@test
def a_user_is_set_with_docker_capabilities():
    with temp_dir() as dir:
        os.chmod(dir, 0o755)
        p = Puppets(dir)
        with Bed("docker", {"u.service": p.unit("report", User="nobody")}) as d:
            d.ctl("start", "u")
            p.wait("report", detail="uid=65534")
        p.close()


@test
def a_user_is_refused_clearly_without_the_privilege():
    for bed in (["-m", "ro", "-c", "none"], "uid1000"):
        with Bed(bed, {"u.service": "[Service]\nType=exec\nExecStart=%s\nUser=daemon\n" % SVC}) as d:
            r = d.ctl("start", "u", check=False)
            check(r.rc != 0 and "CAP_SETUID" in r.out + r.err, r)
            u = d.wait_unit("u.service", active_state="failed")
            check(u["exec_main_status"] == 217, u)


@in_beds("rw", "docker")
def the_main_service_gives_the_exit_code(bed):
    cases = [("exit:7", "SuccessAction=exit\nFailureAction=exit", 7), ("exit:0", "SuccessAction=exit", 0),
             ("kill:KILL", "FailureAction=exit", 137), ("exit:3", "FailureAction=exit-force", 3),
             ("exit:3", "FailureAction=exit\nFailureActionExitStatus=42", 42)]
    for step, action, code in cases if bed == "docker" else cases[:1]:
        units = {"m.service": "[Unit]\n%s\n[Service]\nExecStart=%s %s\n" % (action, SVC, step),
                 "other.service": "[Service]\nExecStart=%s\n" % SVC}
        d = Bed(bed, units, targets=["other.service", "m.service"], wait=False)
        d.start()
        d.wait_exit(code)
        d.assert_clean()
        d.destroy()


READ_ONLY = "for d in / /run /tmp /var /dev/shm; do mount --bind $d $d && mount -o remount,bind,ro $d || exit 99; done 2>/dev/null; exec \"$@\""


def default_dirs_bed(directory, units, options, prepare="", env=()):
    """stayd without any directory option. Units come by --unit-path only."""
    os.makedirs(os.path.join(directory, "units"))
    os.chmod(directory, 0o755)
    for n, t in units.items():
        with open(os.path.join(directory, "units", n), "w") as f:
            f.write(t)
    argv = [BED] + options + ["--"] + (["sh", "-c", prepare, "sh"] if prepare else [])
    argv += [STAYD, "--unit-path", os.path.join(directory, "units")] + sorted(units)[:1]
    return argv


@test
def nothing_writable_at_all_keeps_state_in_memory():
    if os.geteuid() != 0:
        skip("the test bed needs root")
    with temp_dir() as dir:
        script = os.path.join(dir, "ask")
        with open(script, "w") as f:
            f.write("#!/bin/sh\n%s status a >&2 || exit 1\nkill -9 $(%s status --json | sed 's/.*\"core_pid\":\\([0-9]*\\).*/\\1/')\n"
                    "until %s status a >/dev/null 2>&1; do sleep 0.05; done\nexit 9\n" % (STAYCTL, STAYCTL, STAYCTL))
        os.chmod(script, 0o755)
        units = {"a.service": "[Unit]\nSuccessAction=exit\nFailureAction=exit\n[Service]\nExecStart=%s\n" % script}
        argv = default_dirs_bed(dir, units, [], READ_ONLY)
        p = subprocess.run(argv, capture_output=True, text=True, timeout=60 * PATIENCE)
        check(p.returncode == 9, "%s\n%s%s" % (p.returncode, p.stdout, p.stderr))
        check("memory" in p.stderr, p.stderr)


main()
