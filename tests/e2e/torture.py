"""The rig of the torture tests (t_torture_*.py, t_hostile_*.py): a daemon among whose units are
bystanders, and the promise that whatever is done to the others leaves daemon and bystanders as they were.

    with Rig({"a.service": "..."}) as r:
        r.torture(lambda: r.ctl("start", "a"), says="exit 203.*no such file")

torture() does it twice. The first round may make what a unit costs for as long as it is known (a log
pipe, memory); the second one must leave every role of the daemon with the same pid, exactly as many
descriptors and its memory within RSS_SLACK_MIB, the same processes and cgroups, and the bystanders with
their pids and restart counts. `says` is looked for in what stayctl and the daemon said in either round.
The list of what is tried, and where, is TORTURE.md."""
from lib import *

# The allocator keeps some of what was freed; a leak of anything bigger than a unit's text shows above this.
RSS_SLACK_MIB = 4
SETTLE = 30.0
ROLES = ("keeper", "core", "launcher", "logger", "net")


def rss_kib(pid):
    with open("/proc/%d/status" % pid) as f:
        return int(re.search(r"^VmRSS:\s+(\d+)", f.read(), re.M).group(1))


def fds_of(pid):
    return len(os.listdir("/proc/%d/fd" % pid))


def cpu_seconds(pid):
    """User and system time of one process."""
    with open("/proc/%d/stat" % pid) as f:
        v = f.read().rsplit(")", 1)[1].split()
    return (int(v[11]) + int(v[12])) / os.sysconf("SC_CLK_TCK")


class Snapshot:
    """What there is: pids, descriptors and memory of the roles, processes, cgroups, bystanders."""

    def __init__(self, rig):
        d = rig.d
        status = d.status()
        self.pids = {r: status["daemon"].get(r + "_pid") or None for r in ROLES}
        for p in descendants(status["daemon"]["keeper_pid"]):
            for role in ("logger", "net"):
                if re.search(r"(stayd-|stay-|role[= ])%s\b" % role, cmdline(p) + " " + comm(p)):
                    self.pids[role] = p
        self.pids = {r: p for r, p in self.pids.items() if p}
        self.fds = {r: fds_of(p) for r, p in self.pids.items()}
        self.rss = {r: rss_kib(p) for r, p in self.pids.items()}
        self.processes = sorted(descendants(status["daemon"]["keeper_pid"]))
        self.cgroups = rig.cgroups()
        self.restarts_of_core = status["daemon"]["restarts_of_core"]
        rows = {u["name"]: u for u in status["units"]}
        self.bystanders = {n: (rows[n]["main_pid"], rows[n]["n_restarts"], rows[n]["active_state"]) for n in rig.bystanders}

    def differs(self, before, slack_mib, killed=()):
        """What is not as it was, in words; [] = nothing."""
        bad = []
        for name, was in before.bystanders.items():
            if self.bystanders[name] != was:
                bad.append("%s was %r and is %r" % (name, was, self.bystanders[name]))
        for role, pid in before.pids.items():
            if role not in killed and self.pids.get(role) != pid:
                bad.append("%s was pid %d and is %s" % (role, pid, self.pids.get(role)))
            elif role not in killed and self.fds[role] > before.fds[role]:
                bad.append("%s had %d descriptors and has %d" % (role, before.fds[role], self.fds[role]))
            elif role not in killed and not SANITIZED and self.rss[role] > before.rss[role] + slack_mib * 1024:
                bad.append("%s had %d KiB and has %d" % (role, before.rss[role], self.rss[role]))
        if not killed and self.processes != before.processes:
            bad.append("processes: gone %s, new %s" % (sorted(set(before.processes) - set(self.processes)), [
                (p, cmdline(p)) for p in self.processes if p not in before.processes]))
        if self.cgroups != before.cgroups:
            bad.append("cgroups: gone %s, new %s" % (before.cgroups - self.cgroups, self.cgroups - before.cgroups))
        return bad


def comm(pid):
    with contextlib.suppress(OSError):
        with open("/proc/%d/comm" % pid) as f:
            return f.read().strip()
    return ""


class Rig(Stage):
    """A Stage whose daemon has bystanders. units: {name: text} or a function of the rig that returns it.
    tracking: "auto" (cgroups where they can be written) or "shim"."""

    bystanders = ("by-plain.service", "by-notify.service", "by-nobody.service")

    def __init__(self, units=None, tracking="auto", args=(), **daemon):
        self.said, self.tracking = "", tracking
        nobody = "User=nobody" if os.geteuid() == 0 else ""

        def all_units(s):
            u = {"by-plain.service": s.puppets.unit("event:by-plain", Restart="always", RestartSec="0"),
                 "by-notify.service": s.puppets.unit("notify:READY=1\\nSTATUS=here", Type="notify", Restart="always", RestartSec="0"),
                 "by-nobody.service": s.puppets.unit("event:by-nobody", section=nobody + "\n", Restart="always", RestartSec="0")}
            u.update(units(s) if callable(units) else units or {})
            return u
        super().__init__(all_units, args=["--tracking", tracking] + list(args), **daemon)
        self.d = self.daemon

    def __enter__(self):
        super().__enter__()
        self.d.ctl("start", *self.bystanders)
        for n in self.bystanders:
            self.d.wait_unit(n, sub_state="running")
        # keeper starts the logger when the first unit wants it
        wait_for(lambda: any("logger" in cmdline(p) + comm(p) for p in descendants(self.d.keeper_pid)), 10, "the logger")
        return self

    # -- doing things

    def ctl(self, *words, **more):
        """stayctl WORDS, never raising; what it said is kept for `says`."""
        more.setdefault("check", False)
        r = self.d.ctl(*words, **more)
        self.said += r.out + r.err
        return r

    def fails(self, unit, says, result=None):
        """Starting the unit fails, with words that match."""
        r = self.ctl("start", unit)
        check(r.rc != 0, "start %s succeeded: %r" % (unit, r))
        check(re.search(says, r.out + r.err, re.S), "start %s should say %r: %r" % (unit, says, r))
        check("\x1b" not in r.out + r.err and len(r.out + r.err) < 16384, "harmless and short: %r" % r)
        return r

    def cgroups(self):
        """Cgroups of this daemon's units, without those that the kernel has not let go of yet."""
        path = self.d.unit(self.bystanders[0])["control_group"]
        base = os.path.dirname(path) if path else ""
        return set(n for n in os.listdir(base) if os.path.isdir(os.path.join(base, n))) if base and os.path.isdir(base) else set()

    def cgroup(self, unit):
        return self.d.unit(unit)["control_group"]

    def rest(self):
        """Stops everything but the bystanders."""
        names = [u["name"] for u in self.d.status()["units"]
                 if u["name"].endswith(".service") and u["name"] not in self.bystanders
                 and u["active_state"] not in ("inactive", "failed")]
        if names:
            self.d.ctl("stop", *names, timeout=60)

    def snapshot(self):
        return Snapshot(self)

    # -- the promise

    @contextlib.contextmanager
    def unharmed(self, slack_mib=RSS_SLACK_MIB, killed=(), rest=True):
        """What is done in the block leaves everything as it was before; killed: roles the block kills."""
        self.rest()
        before = self.settled()
        yield before
        if rest:
            self.rest()
        bad = []

        def same():
            bad[:] = self.snapshot().differs(before, slack_mib, killed)
            return not bad
        wait_for(same, SETTLE, lambda: "everything to be as before: " + "; ".join(bad))
        r = self.d.ctl("status", timeout=20)
        check(all(n in r.out for n in self.bystanders), r.out)

    def settled(self):
        """A snapshot that four looks agree on: on a loaded machine a logger may have done nothing between two."""
        last, agreed = [None], [0]

        def same():
            now = self.snapshot()
            ok = last[0] and now.fds == last[0].fds and now.processes == last[0].processes
            last[0], agreed[0] = now, agreed[0] + 1 if ok else 0
            return agreed[0] >= 3 and now
        return wait_for(same, SETTLE, "the daemon to settle")

    def torture(self, fn, says=(), slack_mib=RSS_SLACK_MIB, rounds=2, killed=()):
        """Does it twice; the second round must leave no trace."""
        mark = len(self.d.log_text())
        for _ in range(rounds - 1):
            fn()
            self.rest()
        with self.unharmed(slack_mib, killed) as before:
            fn()
        said = self.said + self.d.log_text()[mark:]
        for s in [says] if isinstance(says, str) else says:
            check(re.search(s, said, re.S), "nobody said %r; said: %s" % (s, said[-3000:]))
        self.said = ""
        return before


# ---- how long others wait ------------------------------------------------------------------------

LATENCY_RATIO_MAX = 2.0  # restart of another unit while somebody is hostile, to the same in quiet
VICTIM = "[Unit]\nStartLimitIntervalSec=0\n"


def median(v):
    return sorted(v)[len(v) // 2]


class Latency:
    """Kills a unit's main process and takes the time to the first word of its successor.

    victim: a unit of a puppet that says event:victim first, Restart=always, RestartSec=0."""

    def __init__(self, puppets, kill, main_pid, kills=15):
        self.puppets, self.kill, self.main_pid, self.kills = puppets, kill, main_pid, kills

    def median_us(self):
        took = []
        for _ in range(self.kills):
            pid = wait_for(self.main_pid, 30, "the victim's pid")
            self.puppets.drain()
            begin = time.monotonic_ns() // 1000
            self.kill(pid)
            took.append(self.puppets.wait("victim", deadline=30).us - begin)
        return median(took)

    def check(self, what, begin, end, rounds=8, limit=LATENCY_RATIO_MAX):
        """Alternates quiet and hostile. A hostile round is compared with the better of the quiet ones before and
        behind it, and the best round counts: the machine has other work, which comes and goes."""
        quiet, hostile, ratios = [self.median_us()], [], []
        for _ in range(rounds):
            begin()
            try:
                hostile.append(self.median_us())
            finally:
                end()
            quiet.append(self.median_us())
            ratios.append(hostile[-1] / min(quiet[-2:]))
            if min(ratios) <= limit and len(ratios) >= 2:
                break
        said = ", ".join("%.2f of %.2f/%.2f" % (h / 1000, q / 1000, r / 1000) for h, q, r in zip(hostile, quiet, quiet[1:]))
        print("# %s: ms to the restart of another unit, hostile of quiet before/behind, medians of %d: %s; best ratio %.2f"
              % (what, self.kills, said, min(ratios)), flush=True)
        check(min(ratios) <= limit or SANITIZED, "%s: others wait %.1f times as long: %s" % (what, min(ratios), said))


class CpuGroup:
    """A cgroup of the cpu controller with a small share, as CPUWeight=6 gives a unit where stayd's own cgroups have
    that controller. Here it is in a v1 hierarchy beside them. Without it nothing bounds a unit's processor time:
    the kernel's autogroups give every session of a fork bomb as much as the daemon has."""

    def __init__(self, shares=64):
        self.dir, self.is_there = "/nowhere", False
        with contextlib.suppress(OSError):
            self.dir = tempfile.mkdtemp(prefix="stayd-test-", dir="/sys/fs/cgroup/cpu")
            os.chmod(self.dir, 0o755)
            with open(self.dir + "/cpu.shares", "w") as f:
                f.write("%d" % shares)  # of 1024
            self.is_there = True
            atexit.register(self.remove)

    def command(self, uid, *words):
        """An ExecStart= that enters it and goes on as that user."""
        enter = "echo 0 >%s/tasks && " % self.dir if self.is_there else ""
        return "/bin/sh -c '%sexec setpriv --reuid %d --regid %d --clear-groups %s'" % (enter, uid, uid, " ".join(words))

    @contextlib.contextmanager
    def entered(self):
        """With all that is started meanwhile. With a large share what goes on elsewhere on the machine, other
        tests too, costs it little: what is measured inside is what those inside cost each other."""
        def enter(directory):
            with contextlib.suppress(OSError), open(directory + "/cgroup.procs", "w") as f:
                f.write("%d" % os.getpid())
        enter(self.dir)
        try:
            yield
        finally:
            enter(os.path.dirname(self.dir))

    def remove(self):
        for _ in range(100):
            with contextlib.suppress(OSError):
                os.rmdir(self.dir)
            if not os.path.exists(self.dir):
                return
            time.sleep(0.05)


def in_both_trackings(*names):
    """Registers fn(tracking) once for cgroups and once for shims."""
    def register(fn):
        for tracking in ("auto", "shim"):
            def one(tracking=tracking):
                fn(tracking)
            one.__name__ = fn.__name__ + ("" if tracking == "auto" else "_below_a_shim")
            test(one)
        return fn
    return register
