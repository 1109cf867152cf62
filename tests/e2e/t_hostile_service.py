"""A service that means harm (tests/tools/hostile.c) among others that do not: each way is tried, none
succeeds, and meanwhile others are restarted about as quickly as in quiet.

What is measured: kill -9 of another unit's main process to the first word of its successor, medians of
the same run, quiet and hostile in turn. The processors are shared by everybody, so a hostile unit of many
processes has what a careful administrator gives to one that is not trusted: a user of its own, a limit on
its processes, and a small weight on the processor (torture.CpuGroup: CPUWeight=6). What is compared is
the daemon's work under attack then, not the kernel's scheduler. Those of one process have a user only."""
import threading

from bed import *
from torture import *

HOSTILE = os.path.join(BUILD, "tests/tools/hostile")
# A uid that nobody else on the machine has, nor a DynamicUser= of another test gets: limits on processes count
# per user, kill(-1) reaches all of them.
UID = 50000 + os.getpid() % 10000
LIMITS = "TasksMax=500\nLimitNPROC=500\nLimitCORE=0\nNice=5\n"
USER = "User=%d\nGroup=%d\n" % (UID, UID)
GROUP = CpuGroup()


def hostile_unit(way, more=USER + LIMITS, is_grouped=False):
    """is_grouped: its processor time is bounded, and its user is set by the command."""
    command = GROUP.command(UID, HOSTILE, way) if is_grouped else "%s %s" % (HOSTILE, way)
    return "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=%s\nTimeoutStopSec=2\n%s\n" % (command, more)


def victim_unit(s, **more):
    return s.puppets.unit("event:victim", "notify:STATUS=of the victim", prefix=VICTIM, Restart="always", RestartSec="0", NotifyAccess="main", **more)


class Scene(Rig):
    """A Rig with a victim and one hostile unit."""

    def __init__(self, way, more=USER + LIMITS, is_grouped=False, **rig):
        need_root()
        need(HOSTILE)

        def all_units(s):
            return {"victim.service": victim_unit(s), "hostile.service": hostile_unit(way, more, is_grouped)}
        super().__init__(all_units, **rig)

    def hostile_begin(self):
        self.ctl("start", "hostile", check=True)
        self.d.wait_unit("hostile.service", sub_state="running")

    def hostile_end(self):
        self.ctl("stop", "hostile", check=True, timeout=60)

    def main_pid(self):
        u = self.d.unit("victim.service")
        return u["sub_state"] == "running" and u["main_pid"]

    def latency(self, what, **more):
        """Others are not kept waiting, and nothing is left of it."""
        self.ctl("start", "victim", check=True)  # known once, with what a unit costs
        self.hostile_begin()
        self.hostile_end()
        with self.unharmed():
            self.ctl("start", "victim", check=True)
            Latency(self.puppets, lambda pid: os.kill(pid, signal.SIGKILL), self.main_pid).check(what, self.hostile_begin, self.hostile_end, **more)
            self.d.wait_unit("victim.service", status_text="of the victim", deadline=20)


def members(r, unit):
    with open(os.path.join(r.cgroup(unit), "cgroup.procs")) as f:
        return f.read().split()


@in_both_trackings()
def fork_bomb_with_setsid_and_double_fork_is_bounded_and_ends_with_its_unit(tracking):
    with Scene("fork-bomb 400", more=LIMITS, is_grouped=True, tracking=tracking) as r:
        r.hostile_begin()  # known once, with what a unit costs
        r.hostile_end()

        def begin():
            r.hostile_begin()
            wait_for(lambda: len(descendants(r.d.keeper_pid)) > 150, 30, "the bomb to go off")
        with r.unharmed():
            begin()
            n = len(descendants(r.d.keeper_pid))
            check(n < 700, "%d processes" % n)
            t = time.monotonic()
            r.hostile_end()
            left = [p for p in descendants(r.d.keeper_pid) if HOSTILE in cmdline(p)]
            check(not left, "left of the bomb: %s" % left)
            print("# fork bomb: %d processes, all gone %.2f s after stop" % (n, time.monotonic() - t))
        r.ctl("start", "victim", check=True)
        Latency(r.puppets, lambda pid: os.kill(pid, signal.SIGKILL), r.main_pid).check("fork bomb (%s)" % tracking, begin, r.hostile_end)


@test
def notify_flood_delays_nobody_else_and_is_not_believed():
    with Scene("notify-flood", more=USER + "NotifyAccess=all\n") as r:
        r.hostile_begin()
        wait_for(lambda: r.d.unit("hostile.service")["status_text"], 20, "the flood")
        out = r.d.ctl("status", "hostile", check=False).out + r.d.ctl("status").out
        check("\x1b" not in out and "\x07" not in out, "no terminal sequence")
        check(r.d.unit("hostile.service")["main_pid"] > 1, "MAINPID= of others is not believed")
        size = os.path.getsize(r.d.output)
        wait_for(lambda: True if r.d.ctl("status", "--json").rc == 0 else None, 20)
        r.hostile_end()
        check(os.path.getsize(r.d.output) - size < 4 << 20, "the daemon's own log is not flooded: %d bytes" % (os.path.getsize(r.d.output) - size))
        r.latency("notify flood")


@test
def fd_flood_fills_no_table_and_keeps_to_its_quota():
    with Scene("fd-flood", more=USER + "NotifyAccess=all\nFileDescriptorStoreMax=20\n") as r:
        r.hostile_begin()
        core = r.d.status()["daemon"]["core_pid"]
        base = r.snapshot().fds
        for _ in range(20):
            n = fds_of(core)
            check(n < base["core"] + 20 + 253 * 2, "core has %d descriptors, had %d" % (n, base["core"]))
        r.hostile_end()
        wait_for(lambda: fds_of(core) <= base["core"] + 21, 20, "core to be back at its descriptors")
        r.latency("descriptor flood")


@test
def log_flood_without_newline_stays_below_its_cap_and_delays_nobody():
    mib = 2048 if os.environ.get("STAYD_FULL") else 400
    with Scene("log-flood %d" % mib) as r:
        logs = os.path.join(r.d.log_dir, "hostile.service")

        def size():
            return sum(os.path.getsize(os.path.join(logs, n)) for n in os.listdir(logs)) if os.path.isdir(logs) else 0
        begin = time.monotonic()
        r.hostile_begin()
        largest = [0]

        def over():
            with contextlib.suppress(FileNotFoundError):
                largest[0] = max(largest[0], size())
            with contextlib.suppress(FileNotFoundError):
                with open(os.path.join(logs, "current"), "rb") as f:
                    f.seek(max(0, os.path.getsize(f.name) - 65536))
                    return b"flooded" in f.read()
        wait_for(over, 120, "%d MiB to be logged" % mib)
        took = time.monotonic() - begin
        print("# log flood: %d MiB in %.1f s, at most %d MiB on disk" % (mib, took, largest[0] >> 20))
        check(largest[0] <= 60 << 20, "at most (1 + 4) * 10 MiB of a unit are kept, there were %d" % (largest[0] >> 20))
        out = r.d.ctl("logs", "hostile", "-n", "5", check=False).out
        check("\x1b" not in out, "shown without control characters")
        r.hostile_end()
        r.latency("log flood", rounds=4)


@test
def simultaneous_exits_of_5000_processes_are_all_reaped():
    """SIGCHLD is sent once for many of them; all are keeper's orphans or a shim's."""
    n = 5000 if os.environ.get("STAYD_FULL") else 2000
    for tracking in ("auto", "shim"):
        with Scene("exits %d" % n, more="", tracking=tracking) as r:
            r.hostile_begin()
            r.hostile_end()
            with r.unharmed():
                r.hostile_begin()
                wait_for(lambda: len([p for p in descendants(r.d.keeper_pid) if HOSTILE in cmdline(p)]) <= 1
                         and b"ready" in open(os.path.join(r.d.log_dir, "hostile.service", "current"), "rb").read(), 60, "%d ends" % n)
                check(r.d.unit("hostile.service")["sub_state"] == "running", r.d.unit("hostile.service"))
                wait_for(lambda: not [p for p, s in descendants(r.d.keeper_pid).items() if s[0] == "Z"], 30, "no zombie")


# ---- out of its place ------------------------------------------------------------------------------

# What may succeed: it does no harm.
HARMLESS = {
    "proc_open": r"/(exe|maps|fdinfo|coredump_filter)$",  # of no use without ptrace access; most are EACCES anyway
}


def escapes(text):
    """[(what, target)] that were let through."""
    got = [l.split(" ") for l in text.splitlines() if l.startswith("try ")]
    check(len(got) > 50, "few attempts: %s" % text[-500:])
    return [(w, t) for _, w, t, r in got if r == "ok" and not (w in HARMLESS and re.search(HARMLESS[w], t))], len(got)


@in_both_trackings()
def escape_attempts_of_another_user_all_fail(tracking):
    with Rig(tracking=tracking) as r:
        snap = r.snapshot()
        pids = list(snap.pids.values()) + [snap.bystanders["by-plain.service"][0], snap.bystanders["by-notify.service"][0]]
        files = [r.d.run_dir, r.d.state_dir, r.d.log_dir, r.d.units_dir, STAYD, r.d.socket, os.path.join(r.d.run_dir, "notify")]
        for top in (r.d.run_dir, r.d.state_dir, r.d.log_dir, r.d.units_dir):
            for at, _, names in os.walk(top):
                files += [os.path.join(at, n) for n in names]
        args = ["pid=%d" % p for p in pids] + ["file=%s" % f for f in dict.fromkeys(files)] + ["socket=%s" % r.d.socket]
        out = r.path("escape.out")
        open(out, "w").close()
        own = r.cgroup("by-plain.service")
        if own:
            top = os.path.dirname(own)
            args += ["cgroup=" + os.path.join(top, n) for n in ("by-plain.service", "hostile.service", "")] + ["cgroup=" + os.path.dirname(top)]
        r.d.write_unit("hostile.service", hostile_unit("escape " + " ".join(args), more=USER + "StandardOutput=append:%s" % out))

        def round():
            with open(out, "w"):
                pass
            r.ctl("start", "hostile", check=True)
            wait_for(lambda: "over\n" in open(out).read(), 30, "the attempts to be over")
            through, n = escapes(open(out).read())
            check(not through, "let through: %s" % through)
            print("# %d attempts, none let through" % n)
            who = ["setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups"]
            for verb in (["stop", "by-plain"], ["kill", "by-plain"], ["restart", "by-notify"], ["daemon-reload"], ["start", "victim"],
                         ["edit", "by-plain"], ["enable", "by-plain"], ["set-property", "by-plain", "Nice=1"]):
                p = subprocess.run(who + [STAYCTL, "--socket", r.d.socket] + verb, capture_output=True, text=True, timeout=30 * PATIENCE)
                check(p.returncode != 0, "%s was let through: %s" % (verb, p.stdout))
            r.ctl("stop", "hostile", check=True)
        r.torture(round)


@test
def own_binary_cannot_be_overwritten_through_proc_self_exe():
    """The class of CVE-2019-5736: a service whose ExecStart= is a link to whoever executes it."""
    need_root()
    for tracking in ("auto", "shim"):
        with Rig(tracking=tracking) as r:
            def digest():
                import hashlib
                with open(STAYD, "rb") as f:
                    return hashlib.sha256(f.read()).hexdigest(), os.stat(STAYD).st_ino
            before = digest()
            r.d.write_unit("self.service", "[Service]\nType=exec\nExecStart=/proc/self/exe --version\n")
            r.d.write_unit("over.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'for p in /proc/[0-9]*; do "
                           "case $(readlink $$p/exe) in %s) (echo x >$$p/exe) 2>>%s;; esac; done'\n" % (os.path.realpath(STAYD), r.path("said")))

            def round():
                r.ctl("start", "self")
                r.ctl("start", "over")
                check(digest() == before, "the program is untouched")
                check("usy" in open(r.path("said")).read(), "ETXTBSY is what keeps root from it: %s" % open(r.path("said")).read())
            r.torture(round)


@test
def signals_to_everybody_of_the_same_user_hold_up_no_other_start():
    """kill(-1, SIGSTOP) without a pause, in a pid namespace: it also hits the child of the launcher that has
    just become that user and has not executed its program yet. Only units of that user may suffer. In quiet a
    process like it sends no signal, as often: what it takes of the processor it may, and a supervisor that does
    nothing but fork and exec is held up by that as much."""
    need(HOSTILE)
    with CpuGroup(1 << 18).entered(), temp_dir() as dir:
        os.chmod(dir, 0o755)
        p = Puppets(dir)
        units = {"victim.service": p.unit("event:victim", prefix=VICTIM, Restart="always", RestartSec="0"),
                 "churn.service": "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/bin/true\nRestart=always\nRestartSec=1ms\nTimeoutStartSec=2\n"
                                  "TimeoutStopSec=1\n%s" % USER,
                 "same.service": "[Service]\nExecStart=%s\nTimeoutStopSec=1\n%s" % (SVC, USER),
                 "hostile.service": hostile_unit("signal-all STOP"), "harmless.service": hostile_unit("signal-all NONE")}
        with Bed("rw", units) as d:
            d.ctl("start", "victim", "harmless")
            before = d.status()["daemon"]

            def main_pid():
                u = d.unit("victim.service")
                return u["sub_state"] == "running" and u["main_pid"] and d.inner().get(u["main_pid"])

            def begin():
                d.ctl("stop", "harmless", timeout=60)
                d.ctl("start", "churn", "same", "hostile", "--no-wait")
                d.wait_unit("hostile.service", sub_state="running")

            def end():
                d.ctl("stop", "hostile", timeout=60)
                d.ctl("stop", "churn", "same", timeout=60)
                d.ctl("start", "harmless")
            Latency(p, lambda pid: os.kill(pid, signal.SIGKILL), main_pid).check("SIGSTOP to everybody of its user", begin, end)
            now = d.status()["daemon"]
            check(all(now[k] == before[k] for k in ("keeper_pid", "core_pid")), "the same processes: %r %r" % (before, now))
        p.close()


@test
def signals_to_everybody_it_may_reach_leave_daemon_and_others_alone():
    """SIGKILL by kill(-1) as a user of its own: nobody of another user hears it."""
    with temp_dir() as dir:
        os.chmod(dir, 0o755)
        p = Puppets(dir)
        units = {"by.service": p.unit("event:by", Restart="always", RestartSec="0"),
                 "hostile.service": hostile_unit("signal-all KILL"), "sandboxed.service": hostile_unit("signal-all KILL", USER + "PrivateTmp=yes\nProtectProc=invisible\nNoNewPrivileges=yes")}
        with Bed("rw", units) as d:
            d.ctl("start", "by")
            before, pid = d.status()["daemon"], d.unit("by.service")["main_pid"]
            for n in ("hostile", "sandboxed"):
                d.ctl("start", n)
                wait_for(lambda: cpu_seconds(d.pid(d.unit(n + ".service")["main_pid"])) > 0.2, 30, "some thousand signals")
                d.ctl("stop", n, timeout=60)
            now, u = d.status()["daemon"], d.unit("by.service")
            check(u["main_pid"] == pid and u["n_restarts"] == 0, u)
            check(all(now[k] == before[k] for k in ("keeper_pid", "core_pid", "launcher_pid")), (before, now))
        p.close()


main()
