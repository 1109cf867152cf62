#!/usr/bin/python3
"""A campaign of kill -9 against every process of the daemon, keeper included, singly and in pairs.

One daemon supervises a fleet that keeps a diary of its own (svc appends its starts and ends to a file)
and a replica set behind HAProxy that is deployed again and again under load; some services are just being stopped. After each round of kills
the diary, the kernel, `status` and the daemon's log must agree: no service lost, none run twice, no
exit told with another status than it had, no request failed, no descriptor or memory gone for good.

What may be lost, and only then: the status of a process that ended while no keeper lived, or so shortly
before that nobody had written it down.

STAYD_KILLS=N: kills for each of the trackings (default 30); STAYD_TRACKING=cgroup|shim: only that;
STAYD_SEED=N; STAYD_PROGRESS=FILE: a line is added there every so many kills; STAYD_WEB=0: without the
replica set."""
import itertools, random

from lib import *
from orphans import EXIT, Reaper, children
from rollout_rig import Rig, say

without_leak_checks()

# Those that stay (s), also as the daemonized child that a PID file names (f) or one whose parent waits for it (p);
# those that end by themselves (c), and those that are not started again (m).
KINDS = {"s": 16, "f": 4, "p": 4, "c": 8, "m": 6}
STAY, MORTALS = "sfp", 6
KILLS = int(os.environ.get("STAYD_KILLS", "30"))
SEED = int(os.environ.get("STAYD_SEED", "0")) or random.randrange(1 << 30)
PROGRESS = os.environ.get("STAYD_PROGRESS")
WEB = os.environ.get("STAYD_WEB", "1") == "1"
ROLES = ["keeper", "core", "launcher", "logger", "net"]
COMBOS = [(r,) for r in ROLES] + list(itertools.combinations(ROLES, 2))
DEADLY = [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS]  # what svc does not catch
ENDED = re.compile(r"^stayd: (\S+)\.service: pid (\d+) (?:has no record|was never started to its end|runs, but its unit is down): killing it", re.M)
# A sanitizer keeps what was freed: its memory says how much was done, not what was lost.
MEMORY_SLACK = 256 << 10 if SANITIZED else 0
LATE = 3.0 * SLOW  # seconds before the end of keeper in which an exit may not have been written down yet


def now():
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def role_pid(keeper, role):
    """From /proc, so that nobody has to answer; 0 between a death and the next one's exec."""
    for pid in children(keeper):
        with contextlib.suppress(OSError):
            with open("/proc/%d/comm" % pid) as f:
                if f.read().strip() in ("stayd-" + role, "stay-" + role):
                    return pid
    return 0


def n_fds(pid):
    return len(os.listdir("/proc/%d/fd" % pid))


def rss_kib(pid):
    with open("/proc/%d/status" % pid) as f:
        return int(re.search(r"^VmRSS:\s+(\d+)", f.read(), re.M).group(1))


class Fleet:
    """The services and what is known of each of their processes, by (name, pid, when it began)."""

    def __init__(self, directory, rng):
        self.rng, self.path, self.offset = rng, os.path.join(directory, "diary"), 0
        open(self.path, "w").close()
        self.starts, self.ended, self.killed, self.told, self.units = {}, {}, {}, {}, {}
        self.stopped, self.n_stops = None, 0
        self.judged, self.strays, self.away, self.log_offset, self.n_told, self.n_lost = set(), set(), [], 0, 0, 0
        for kind, n in KINDS.items():
            for i in range(n):
                name = "%s%02d" % (kind, i)
                pid_file = os.path.join(directory, name + ".pid")
                steps = {"c": "sleep:%d exit:%d" % (150 + i * 137 % 800, self.code_of(name)),
                         "f": 'daemonize pidfile:%s "event:main %s"' % (pid_file, name),
                         "p": 'under-parent "event:main %s" notify-me' % name}.get(kind, "")
                how = {"f": "Type=forking\nPIDFile=%s\n" % pid_file, "p": "Type=notify\nNotifyAccess=all\n"}.get(kind, "")
                self.units[name + ".service"] = (
                    "[Unit]\nDefaultDependencies=no\nStartLimitIntervalSec=0\n[Service]\nEnvironment=PUPPET=%s\nLimitCORE=0\n"
                    "ExecStart=@%s %s %s\nRestart=%s\nRestartSec=20ms\n%s[X-Restart]\nResetAfterSec=100ms\n"
                    % (self.path, SVC, name, steps, "no" if kind == "m" else "always", how))
                self.starts[name] = []
        self.units["all.target"] = "[Unit]\nDefaultDependencies=no\nWants=%s\n" % " ".join(sorted(self.units))

    @staticmethod
    def code_of(name):
        return 1 + int(name[1:])

    def read(self):
        """The diary's news. A second process of a service while the first lives: told at once."""
        with open(self.path, "rb") as f:
            f.seek(self.offset)
            data = f.read()
        data = data[:data.rfind(b"\n") + 1]
        self.offset += len(data)
        for line in data.decode().splitlines():
            e = Event(line)
            at = e.us / 1e6
            name = e.detail.split()[0] if e.detail else ""
            if e.name == "main" or e.name == "start" and name[0] not in "fp":
                before = self.starts[name][-1] if self.starts[name] else None
                if before and before not in self.ended and before not in self.killed and self.runs(name, before):
                    raise AssertionError("%s runs twice: pid %d, which lives, and %d" % (name, before[0], e.pid))
                self.starts[name].append((e.pid, at))
            elif e.name == "exit":
                for pids in self.starts.values():
                    if pids and pids[-1][0] == e.pid:
                        self.ended[pids[-1]] = at

    def runs(self, name, process):
        with contextlib.suppress(OSError):
            with open("/proc/%d/cmdline" % process[0], "rb") as f:
                return f.read().split(b"\0")[0].decode() == name
        return False

    def newest(self, name):
        return self.starts[name][-1] if self.starts[name] else None

    def kill_one(self, kinds):
        """Ends one from outside, and remembers how and when."""
        self.read()
        names = [n for n in self.starts if n[0] in kinds and self.newest(n) and self.newest(n) not in self.killed]
        if not names:
            return
        name, sig = self.rng.choice(names), self.rng.choice(DEADLY)
        p = self.newest(name)
        if self.runs(name, p):
            os.kill(p[0], sig)
            self.killed[p] = (sig, now())

    def read_log(self, d):
        with open(d.output, errors="replace") as f:
            f.seek(self.log_offset)
            text = f.read()
            text = text[:text.rfind("\n") + 1]
            self.log_offset += len(text.encode("utf-8", "replace"))
        for name, pid, code, status, lost in EXIT.findall(text):
            self.told.setdefault((name, int(pid)), []).append("lost" if lost else status)
            self.n_told += 1
        for n, p in ENDED.findall(text):
            self.strays.add((n, int(p)))
            say("a stray was ended: %s %s, starts %s" % (n, p, self.starts.get(n)))

    def settled(self, d):
        """Every service that is to run does, once, and status says so; or why not."""
        self.read()
        rows = {u["name"].split(".")[0]: u for u in d.status()["units"]}
        self.read()
        for name in self.starts:
            p, row = self.newest(name), rows.get(name)
            if name[0] in STAY and not (row and p and p not in self.killed and row["main_pid"] == p[0] and row["sub_state"] == "running"):
                return "%s: newest process %s, killed: %s, status: %s" % (name, p, self.killed.get(p), row and (row["main_pid"], row["sub_state"]))
            if name[0] == "m" and not (p and row):
                return "%s: not started yet" % name
            if name == self.stopped:
                if row["main_pid"] != (p[0] if self.runs(name, p) else 0) or row["sub_state"] not in ("running", "dead", "failed"):
                    return "%s: asked to stop, process %s, status: %s" % (name, p, (row["main_pid"], row["sub_state"]))
                continue
            if name[0] == "m" and p in self.killed and row["sub_state"] != "failed":
                return "%s: killed, and status says %s" % (name, row["sub_state"])
            if name[0] == "m" and p not in self.killed and row["main_pid"] != p[0]:
                return "%s: process %s, status says %s" % (name, p, row["main_pid"])
        return ""

    def was_away(self, at):
        return any(a - LATE <= at <= b for a, b in self.away)

    def judge(self, d):
        """Each end that is over for long enough was told, truly."""
        self.read()
        starts = {n: list(p) for n, p in self.starts.items()}
        self.read_log(d)  # after the starts: the ends that they follow are in it
        for name, processes in starts.items():
            is_over = name[0] == "m" and processes and processes[-1] in self.killed and processes[-1] not in self.judged
            for p in processes[:-1] + (processes[-1:] if is_over else []):
                if p in self.judged:
                    continue
                said = self.told.pop((name, p[0]), [])
                if p in self.killed:
                    want, at = self.killed[p][0].name, self.killed[p][1]
                elif p in self.ended and name[0] in "cm":  # the one by itself, the other when it was stopped
                    want, at = str(self.code_of(name) if name[0] == "c" else 0), self.ended[p]
                elif (name, p[0]) in self.strays:
                    check(self.was_away(p[1]), "%s: pid %d was killed as a stray" % (name, p[0]))
                    continue
                else:
                    raise AssertionError("%s: process %s was replaced without cause (told: %s)" % (name, p, said))
                if name[0] != "p" and ("lost" in said or not said):  # of those, its parent has it
                    check(self.was_away(at), "%s: the end of %s by %s is told as %s, and keeper was there (%s)" % (name, p, want, said, self.away[-3:]))
                    self.n_lost += 1
                check(set(said) <= {want, "lost"}, "%s: the end of %s by %s is told as %s" % (name, p, want, said))
            if is_over:
                self.judged.add(processes[-1])
            self.starts[name] = self.starts[name][max(0, len(processes) - 1):]
        for table in (self.ended, self.killed):
            keep = {p for ps in self.starts.values() for p in ps}
            for p in [p for p in table if p not in keep]:
                del table[p]


class Deploys(threading.Thread):
    """One deploy after the other; what the last one has come to is asked of the daemon by who wants to know."""

    def __init__(self, rig):
        super().__init__(daemon=True)
        self.rig, self.n, self.stopping, self.bad = rig, 0, False, []

    def run(self):
        while not self.stopping:
            with contextlib.suppress(Exception):
                state = self.rig.rollout()["state"]
                if state in ("rolled-back", "halted", "aborted"):
                    self.bad.append((self.n, self.rig.rollout()))
                    return
                if state in ("none", "done"):
                    self.n += self.rig.d.ctl("deploy", "web", "v%d" % (1 + self.n % 3), "--no-wait", check=False).rc == 0
            time.sleep(0.05)


class Campaign:
    def __init__(self, tracking, seed):
        self.tracking, self.rng = tracking, random.Random(seed)
        self.directory = tempfile.mkdtemp(prefix="stayd-kills.")
        os.chmod(self.directory, 0o755)
        self.fleet = Fleet(self.directory, self.rng)
        self.kills = {r: 0 for r in ROLES}
        self.ups = []

    def keeper(self):
        return self.rig.d.proc.pid

    def start_again(self):
        """The next stayd; the services have been alone since .began."""
        d = self.rig.d
        d.wait_at_start = False
        d.start()
        d.wait_taken_over()
        self.fleet.away.append((self.began, now()))
        del self.fleet.away[:-50]
        self.ups.append(now() - self.began)

    def strike(self, combo):
        keeper = self.keeper()
        old = {r: role_pid(keeper, r) for r in combo if r != "keeper"}
        victims = dict(old, keeper=keeper) if "keeper" in combo else old
        for r in self.rng.sample(sorted(victims), len(victims)):
            if victims[r]:
                if r == "keeper":
                    self.began = now()
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victims[r], signal.SIGKILL)
                    self.kills[r] += 1
        if "keeper" in combo:
            self.rig.d.kill_keeper()
            for _ in range(self.rng.randrange(0, 3)):  # nobody is there
                self.fleet.kill_one(STAY)
            if self.rng.random() < 0.1:
                self.fleet.kill_one("m")
            self.start_again()
            return
        self.fleet.kill_one(STAY)
        for r, pid in old.items():
            wait_for(lambda: r in ("net", "logger") and not pid or role_pid(keeper, r) not in (0, pid), 60, "a new " + r)

    def stop_through(self, combo):
        """A stop under way while all that happens. Whether it was recorded before is a matter of luck; it
        is done or not begun, never half, and never undone."""
        f = self.fleet
        names = [n for n in f.starts if n[0] == "m" and f.newest(n) and f.newest(n) not in f.killed]
        if not names:
            self.strike(combo)
            return
        f.stopped = self.rng.choice(names)
        client = self.rig.d.ctl_start("stop", f.stopped)
        time.sleep(self.rng.random() * 0.01)
        self.strike(combo)
        client.communicate()
        self.settle()
        if client.returncode == 0:
            check(not f.runs(f.stopped, f.newest(f.stopped)), "%s: its stop was reported done, and it runs" % f.stopped)
        name, f.stopped = f.stopped, None
        f.n_stops += 1
        self.rig.d.ctl("start", name)

    def settle(self):
        why = [""]

        def look():
            why[0] = self.fleet.settled(self.rig.d)
            return not why[0]
        wait_for(look, 60, lambda: "all to be well: %s" % why[0])
        self.fleet.judge(self.rig.d)

    def size(self):
        core = role_pid(self.keeper(), "core")
        return n_fds(self.keeper()), n_fds(core), rss_kib(self.keeper()), rss_kib(core)

    def fresh_size(self):
        """Of a keeper and core that have just taken over: the same amount each time, or something leaks."""
        self.strike(("keeper",))
        self.settle()
        return self.size()

    def total(self):
        return sum(self.kills.values())

    def report(self):
        f, load = self.fleet, {"sent": 0, "failed": 0}
        with contextlib.suppress(Exception):
            load = self.rig.load.peek()
        return "%s seed %s: %d kills %s; %d exits told, %d lost with their keeper, %d strays ended; %d stops; %d deploys, %d requests, %d failed; worst time without a daemon %.1f s" % (
            self.tracking, SEED, self.total(), " ".join("%s=%d" % i for i in self.kills.items()), f.n_told, f.n_lost, len(f.strays), f.n_stops,
            self.deploys.n if self.deploys else 0, load["sent"], load["failed"], max(self.ups or [0]))

    def run(self, kills):
        rig = dict(replicas=3, work_ms=1, args=["--tracking=shim"] if self.tracking == "shim" else [], units=self.fleet.units,
                   rollout={"ProgressDeadlineSec": "300", "MinReadySec": "0"}, balancer={"DrainTimeoutSec": "60"},
                   service={"TimeoutStopSec": "60"}, restart={"ResetAfterSec": "100ms"},
                   health={"TimeoutSec": "10", "Fall": "3"}, start=WEB)
        with Rig(**rig) as self.rig:
            d, self.deploys = self.rig.d, None
            reaper = Reaper()
            reaper.start()
            d.ctl("start", "all.target")
            if WEB:
                self.rig.start_load(rate=100)
                self.deploys = Deploys(self.rig)
                self.deploys.start()
            self.settle()
            base, mark = self.fresh_size(), 0
            combos = []
            while self.total() < kills:
                combos = combos or self.rng.sample(COMBOS, len(COMBOS))
                time.sleep(self.rng.random() * 0.05)  # a random moment, not a wait
                for _ in range(self.rng.randrange(0, 2)):
                    self.fleet.kill_one(STAY)
                self.stop_through(combos.pop()) if self.rng.random() < 0.2 else self.strike(combos.pop())
                self.settle()
                dead = [n for n in self.fleet.starts if n[0] == "m" and self.fleet.newest(n) in self.fleet.judged]
                if len(dead) > MORTALS / 2:
                    d.ctl("start", *dead)
                    self.settle()
                if WEB:
                    check(not self.deploys.bad, "a rollout went wrong: %s" % self.deploys.bad)
                    failed = self.rig.load.peek()
                    check(failed["failed"] == 0, "requests failed: %s" % failed)
                if PROGRESS and self.total() >= mark:
                    mark = self.total() + 50
                    with open(PROGRESS, "a") as f:
                        f.write("%s %s\n" % (time.strftime("%H:%M:%S"), self.report()))
            after = self.fresh_size()
            if WEB:
                self.deploys.stopping = True
                self.deploys.join()
                self.rig.wait_rollout("done", deadline=120)
            self.settle()
            say(self.report())
            say("descriptors and KiB of keeper and core, each just begun: %s, %s" % (base, after))
            check(after[0] <= base[0] + 24 and after[1] <= base[1] + 24, "descriptors grow: %s, then %s" % (base, after))
            check(after[2] <= base[2] + 1024 + MEMORY_SLACK and after[3] <= base[3] + 2048 + MEMORY_SLACK, "memory grows: %s, then %s" % (base, after))
            if WEB:
                total = self.rig.load.finish()
                check(total["failed"] == 0, "requests failed: %s" % total)
            reaper.stopping = True
            reaper.join()
        shutil.rmtree(self.directory, ignore_errors=True)


def campaign(tracking):
    c = Campaign(tracking, SEED)
    try:
        c.run(KILLS)
    except BaseException as e:
        if PROGRESS:
            with open(PROGRESS, "a") as f:
                f.write("%s FAILED %s: %s\n" % (time.strftime("%H:%M:%S"), c.report() if hasattr(c, "rig") else tracking, str(e)[:2000]))
        raise


@test
def services_tracked_by_cgroups_survive_kills_of_everything():
    if "cgroup" not in os.environ.get("STAYD_TRACKING", "cgroup"):
        skip("not asked for")
    campaign("cgroup")


@test
def services_tracked_by_shims_survive_kills_of_everything():
    if "shim" not in os.environ.get("STAYD_TRACKING", "shim"):
        skip("not asked for")
    campaign("shim")


if __name__ == "__main__":
    main()
