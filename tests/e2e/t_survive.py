#!/usr/bin/python3
"""The brain may die; the services may not.

200 services run: stable ones, some that crash all the time, and some that are killed while nobody
decides. Core, launcher, logger and stay-net are killed again and again at random moments. Afterwards:
nothing lost, nothing doubled, nothing restarted without cause, and every exit is in the log with its
true status, also those that happened while core was down.

The log tells of each exit with its pid. A core that dies between the word and the record says it
again, so a pid may be told twice, but never with two statuses.

STAYD_KILLS=N: how often the core is killed; STAYD_TRACKING=cgroup|shim: only that; STAYD_SEED=N."""
import random, statistics

from lib import *

without_leak_checks()

STABLE, CRASHERS, MORTALS = 140, 40, 20
# A sanitizer keeps what was freed: its memory says how much was done, not what was lost.
MEMORY_SLACK = 256 << 10 if SANITIZED else 0
KILLS = int(os.environ.get("STAYD_KILLS", "6"))
SEED = int(os.environ.get("STAYD_SEED", "1"))
EXIT = re.compile(r"^stayd: (\S+)\.service: exited: main process (\d+): code=(\w+), (?:status|signal)=(\w+)", re.M)
DEADLY = [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS]  # what svc does not catch


def check(ok, what):
    """As in lib, with text that is made only when it is needed."""
    if not ok:
        raise AssertionError(what() if callable(what) else what)


def role_pid(d, role):
    """From /proc, so that nobody has to answer: 0 between a death and the next one's exec. A shim is a
    fork of the launcher: it has its command line, but a name of its own."""
    for pid in children(d.keeper_pid):
        with contextlib.suppress(OSError):
            with open("/proc/%d/comm" % pid) as f:
                if f.read().strip() in ("stayd-" + role, "stay-" + role):
                    return pid
    return 0


def children(pid):
    with contextlib.suppress(OSError):
        with open("/proc/%d/task/%d/children" % (pid, pid)) as f:
            return [int(p) for p in f.read().split()]
    return []


def n_fds(pid):
    return len(os.listdir("/proc/%d/fd" % pid))


def rss_kib(pid):
    with open("/proc/%d/status" % pid) as f:
        return int(re.search(r"^VmRSS:\s+(\d+)", f.read(), re.M).group(1))


def core_answers(d):
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10 * PATIENCE)
        s.connect(d.socket)
        s.sendall(b'{"method":"org.stayd.Control.Ping"}\0')
        return bool(s.recv(1))
    return False


class Fleet:
    """The services, what was done to them, and what they said."""

    def __init__(self, directory, seed, tracking="cgroup"):
        self.rng = random.Random(seed)
        self.puppets = Puppets(directory)
        self.directory = directory
        self.args = ["--tracking=shim"] if tracking == "shim" else []
        self.alive = {}   # unit -> pid of its newest process
        self.starts = {}  # unit -> pids of all of its processes
        self.deaths = {}  # (unit, pid) -> how (pids are used again, also within a minute) the test ended it
        self.doubled, self.signals = [], []
        self.units = {}
        for i in range(STABLE):
            self._add("s%03d" % i, "always")
        for i in range(CRASHERS):
            name = "c%03d" % i
            self._add(name, "always", "sleep:%d" % (200 + i * 37 % 800), "exit:%d" % self.code_of(name))
        for i in range(MORTALS):
            self._add("m%03d" % i, "no")
        self.units["all.target"] = "[Unit]\nDefaultDependencies=no\nWants=%s\n" % " ".join(sorted(self.units))

    @staticmethod
    def code_of(name):
        return 1 + int(name[1:])

    def _add(self, name, restart, *steps):
        self.units[name + ".service"] = (
            "[Unit]\nDefaultDependencies=no\nStartLimitIntervalSec=0\n[Service]\nEnvironment=PUPPET=%s\nLimitCORE=0\n"
            "ExecStart=@%s %s %s\nRestart=%s\nRestartSec=20ms\nStandardOutput=null\nStandardError=null\n"
            % (self.puppets.path, SVC, name, " ".join(steps), restart))
        self.starts[name] = []

    def daemon(self, **options):
        d = Daemon(self.units, directory=self.directory, targets=["all.target"], args=self.args, **options)
        d.owns_dir = True
        return d

    def take(self, timeout=0.0):
        """Reads what the services said; how many of them started."""
        self.puppets._receive(timeout)
        events = self.puppets.drain()
        started = [e for e in events if e.name == "start"]
        self.signals += [e for e in events if e.name == "signal"]
        for e in started:
            name = e.detail.split()[0]
            old = self.alive.get(name)
            with contextlib.suppress(OSError):  # gone by now
                if old and is_alive(old) and SVC in os.readlink("/proc/%d/exe" % old):
                    self.doubled.append((name, old, e.pid))
            self.alive[name] = e.pid
            self.starts[name].append(e.pid)
        self.puppets.seen.clear()
        return len(started)

    def until_starts(self, n):
        end = time.monotonic() + 10 * SLOW
        while n > 0 and time.monotonic() < end:
            n -= self.take(0.2)

    def until_all_run(self, deadline=30.0):
        wait_for(lambda: self.take(0.05) and False or len(self.alive) == len(self.starts), deadline,
                 lambda: "all services to run; missing %s" % sorted(set(self.starts) - set(self.alive)))

    def end(self, names):
        """Ends one of these services from outside and remembers how."""
        self.take()
        name = self.rng.choice(names)
        pid, sig = self.alive[name], self.rng.choice(DEADLY)
        if (name, pid) not in self.deaths and is_alive(pid):
            os.kill(pid, sig)
            self.deaths[name, pid] = sig
            return name
        return None

    def end_stable(self):
        return self.end([n for n in self.starts if n[0] == "s"])

    def end_mortal(self):
        left = [n for n in self.starts if n[0] == "m" and (n, self.alive[n]) not in self.deaths]
        return self.end(left) if left else None

    def settle(self, d):
        """Until the last process of each service that restarts is one nobody ended, and status agrees."""
        seen = {}

        def look():
            self.take(0.02)
            if any((n, self.alive[n]) in self.deaths for n in self.starts if n[0] == "s"):
                return False
            seen.update((u["name"].split(".")[0], u) for u in d.status()["units"])
            self.take()
            return all(seen[n]["main_pid"] == self.alive[n] and seen[n]["sub_state"] == "running"
                       for n in self.starts if n[0] == "s")

        def what():
            return "every service to be back: %s" % [
                (n, self.alive[n], self.deaths.get((n, self.alive[n])), seen.get(n, {}).get("main_pid"),
                 seen.get(n, {}).get("sub_state")) for n in self.starts if n[0] == "s" and
                ((n, self.alive[n]) in self.deaths or seen.get(n, {}).get("main_pid") != self.alive[n])]
        wait_for(look, 30, what)
        wait_for(lambda: all(u["sub_state"] == "failed" for u in d.status()["units"] if u["name"][0] == "m" and
                             (u["name"].split(".")[0], self.alive.get(u["name"].split(".")[0])) in self.deaths), 10, "the mortals to have failed")

    def judge(self, d):
        """Nothing lost, doubled or restarted without cause; every exit told, and truly."""
        self.settle(d)
        self.take()
        starts, alive = {n: list(p) for n, p in self.starts.items()}, dict(self.alive)
        text = d.log_text()  # after the starts: what they follow is in it
        self.take()
        told = {}
        for name, pid, code, status in EXIT.findall(text):
            told.setdefault((name, int(pid)), set()).add((code, status))
        check(not self.doubled, lambda: "doubled: %s\n%s" % (self.doubled[:5], "\n".join(
            l for l in text.splitlines() if self.doubled[0][0] + ".service" in l)))
        for name, pids in starts.items():
            for pid in pids:
                if pid == alive[name] and (name, pid) not in self.deaths:
                    continue  # runs, or has just crashed
                if (name, pid) in self.deaths:
                    want = {("killed", self.deaths[name, pid].name), ("dumped", self.deaths[name, pid].name)}
                else:
                    check(name[0] == "c", "%s: process %d was replaced without cause; it got %s" % (
                        name, pid, [e for e in self.signals if e.pid == pid]))
                    want = {("exited", str(self.code_of(name)))}
                got = told.get((name, pid), set())
                check(len(got) == 1 and got <= want, lambda: "%s: process %d ended by %s, the log says %s\n%s\n%s" % (
                    name, pid, want, got, pids, "\n".join(l for l in text.splitlines() if name + ".service" in l or "service" not in l)))
            extra = {p for n, p in told if n == name} - set(self.starts[name])
            check(not extra, "%s: the log tells of exits of %s, which nobody saw start" % (name, extra))
        for u in d.status()["units"]:
            name = u["name"].split(".")[0]
            pid = self.alive.get(name)
            if name[0] == "m" and (name, pid) in self.deaths:
                got = (u["exec_main_code"], u["exec_main_status"], u["n_restarts"], len(self.starts[name]))
                check(got[0] in (2, 3) and got[1:] == (self.deaths[name, pid], 0, 1), "%s: status says %s" % (name, got))
            elif name[0] == "s":
                check(u["n_restarts"] == len(self.starts[name]) - 1, "%s: %d restarts, %d starts" % (name, u["n_restarts"], len(self.starts[name])))
        return len(told)

    def close(self):
        if self.puppets:
            self.puppets.close()
        self.puppets = None


@contextlib.contextmanager
def running(seed, tracking="cgroup"):
    f = Fleet(tempfile.mkdtemp(prefix="stayd-test."), seed, tracking)
    try:
        with f.daemon() as d:
            f.until_all_run()
            yield f, d
            f.close()  # nobody reads any more: they must not block on telling us of their SIGTERM
    finally:
        f.close()


def kill_roles(d, roles):
    """At once, whatever they are at; then waits for their successors."""
    old = {r: role_pid(d, r) for r in roles}
    for r in roles:
        if old[r]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(old[r], signal.SIGKILL)
    return old


def wait_roles(d, old):
    for r, pid in old.items():
        wait_for(lambda: role_pid(d, r) not in (0, pid), 20, "a new " + r)
    start = time.monotonic()
    wait_for(lambda: core_answers(d), 20, "core to answer")
    return time.monotonic() - start


def sizes(d):
    """Descriptors and KiB of keeper and core."""
    keeper, core = d.keeper_pid, role_pid(d, "core")
    return n_fds(keeper), n_fds(core), rss_kib(keeper), rss_kib(core)


def run_kills(roles, seed, kills, tracking):
    with running(seed, tracking) as (f, d):
        keeper = d.keeper_pid
        waits, base = [], None
        for i in range(kills):
            f.until_starts(f.rng.randrange(0, 12))
            for _ in range(f.rng.randrange(0, 3)):
                f.end_stable()  # core may hear of it, or be just about to
            old = kill_roles(d, roles)
            f.end_stable()  # nobody decides now
            f.end_mortal()
            waits.append(wait_roles(d, old))
            if i == min(2, kills - 2):
                f.settle(d)
                # The most of some looks: who has just crashed holds none, and on a loaded machine that may be many.
                base = [max(s) for s in zip(*(f.take(0.1) and None or sizes(d) for _ in range(20)))]
        exits = f.judge(d)
        after = sizes(d)
        check(d.status()["daemon"]["keeper_pid"] == keeper, "keeper keeps its pid")
        if "core" in roles:
            got = d.status()["daemon"]["restarts_of_core"]
            check(got == kills, "%d kills of core, %d restarts" % (kills, got))
        if base:
            # A service that is being started when we look has descriptors under way; a leak grows with the kills.
            # Keeper holds the link of a dead launcher while shims of it live, at most 64 (RETIRED_MAX).
            retired = min(kills, 64) if tracking == "shim" and "launcher" in roles else 0
            def is_as_before():
                f.take()
                after[:] = sizes(d)
                return after[0] <= base[0] + 8 + retired and after[1] <= base[1] + 48
            after = list(after)
            wait_for(is_as_before, 10, lambda: "descriptors not to grow: %s, then %s" % (base, after))
            check(after[2] <= base[2] + 512 + MEMORY_SLACK and after[3] <= base[3] * 1.5 + 1024 + MEMORY_SLACK, "memory grows: %s, then %s" % (base, after))
        print("# %s (%s) killed %d times, %d services, %d exits told; descriptors and KiB of keeper and core %s -> %s; "
              "first answer after exec %.0f ms median" % ("+".join(roles), tracking, kills, len(f.starts), exits, base, after,
                                               1000 * statistics.median(waits)))


def each_tracking(roles, seed, kills):
    for tracking in os.environ.get("STAYD_TRACKING", "cgroup shim").split():
        run_kills(roles, seed + SEED * 100, kills, tracking)


@test
def services_survive_kills_of_the_core():
    each_tracking(["core"], 1, KILLS)


@test
def services_survive_kills_of_the_launcher():
    each_tracking(["launcher"], 2, max(3, KILLS // 3))


@test
def services_survive_kills_of_core_and_launcher_at_once():
    each_tracking(["core", "launcher"], 3, max(3, KILLS // 3))


@test
def services_survive_a_reexec_to_a_new_binary():
    with running(4) as (f, d):
        keeper = d.keeper_pid
        for i in range(4):
            new = os.path.join(f.directory, "stayd-%d" % i)
            shutil.copy(STAYD, new)
            core = role_pid(d, "core")
            f.end_stable()
            d.ctl("reexec", new)
            f.end_stable()
            f.end_mortal()
            wait_for(lambda: role_pid(d, "core") not in (0, core) and core_answers(d), 20, "the new core")
            wait_for(lambda: os.readlink("/proc/%d/exe" % role_pid(d, "launcher")) == new, 20, "the new launcher")
            for pid in keeper, role_pid(d, "core"):
                check(os.readlink("/proc/%d/exe" % pid) == new, "%d runs %s" % (pid, os.readlink("/proc/%d/exe" % pid)))
            f.until_starts(10)
        f.judge(d)
        check(d.status()["daemon"]["keeper_pid"] == keeper, "keeper keeps its pid")


@test
def a_broken_new_binary_is_refused_or_rolled_back():
    with running(5) as (f, d):
        keeper, core = d.keeper_pid, role_pid(d, "core")
        text = os.path.join(f.directory, "stayd-text")
        with open(text, "w") as out:
            out.write("#!/bin/sh\nexit 1\n")
        other = shutil.which("true")
        os.chmod(text, 0o755)
        for bad in (text, other, f.directory, "/nonexistent"):
            d.ctl("reexec", bad, check=False)
            f.until_starts(3)
        check((role_pid(d, "core"), d.keeper_pid) == (core, keeper), "nothing was replaced")
        # This one passes the trial, but its core does not know an option it is given.
        worse, exe = os.path.join(f.directory, "stayd-worse"), "/proc/%d/exe" % keeper
        with open(STAYD, "rb") as ours, open(worse, "wb") as out:
            out.write(ours.read().replace(b"\0runtime-dir\0", b"\0runtime-dix\0"))
        os.chmod(worse, 0o755)
        d.ctl("reexec", worse, check=False)
        wait_for(lambda: "going back to the previous" in d.log_text(), 20, "the keeper to see that it is broken")
        f.end_stable()
        wait_for(lambda: role_pid(d, "core") not in (0, core) and core_answers(d), 20, "the old core again")
        check(os.path.samefile(exe, STAYD), "the keeper runs %s" % os.readlink(exe))
        check(d.keeper_pid == keeper, "keeper keeps its pid")
        f.end_stable()
        f.judge(d)


HELPED = """[Unit]
DefaultDependencies=no
[Service]
ExecStart=@%s %s
Restart=always
RestartSec=20ms
StandardOutput=null
[X-Health]
Startup=%s
Live=%s
IntervalSec=100ms
TimeoutSec=%s
Fall=1
Rise=1
"""


@test
def a_dead_helper_makes_no_service_unhealthy():
    need(STAY_NET)
    directory = tempfile.mkdtemp(prefix="stayd-test.")
    ports = free_ports(6)
    units = {}
    for i, port in enumerate(ports):
        target = "http://127.0.0.1:%d/healthz" % port if i % 2 else "tcp://127.0.0.1:%d" % port
        units["w%d.service" % i] = HELPED % (WEBSVC, "w%d --port %d" % (i, port), target, target, "20s")
    for i in range(6):
        units["e%d.service" % i] = HELPED % (SVC, "e%d" % i, "exec:/bin/true", "exec:/bin/true", "20s")
    names = sorted(units)
    units["all.target"] = "[Unit]\nDefaultDependencies=no\nWants=%s\n" % " ".join(names)
    rng = random.Random(SEED)
    d = Daemon(units, directory=directory, targets=["all.target"])
    d.owns_dir = True
    with d:
        def all_healthy():
            us = d.status()["units"]
            return sum(u["health"] == "ok" for u in us) == len(names) and us
        first = {u["name"]: u["main_pid"] for u in wait_for(all_healthy, 30, lambda: "health of all: %s" % [(u["name"], u["health"], u["detail"]) for u in d.status()["units"]])}
        sets = [["net"], ["launcher"], ["core"], ["net", "core"], ["net", "launcher"], ["net", "core", "launcher"]]
        for i in range(max(8, KILLS)):
            wait_roles(d, kill_roles(d, rng.choice(sets)))
        # A new core knows no answers: each check is made again, also when the first who was asked died.
        wait_roles(d, kill_roles(d, ["core"]))
        wait_roles(d, kill_roles(d, ["net", "launcher"]))
        wait_for(lambda: all(c["answer"] for u in d.status()["units"] for c in u["checks"] if c["check"] == "live"), 30,
                 lambda: "each check to be made: %s" % [(u["name"], u["checks"]) for u in d.status()["units"]])
        wait_for(all_healthy, 30, lambda: "health of all again: %s" % [(u["name"], u["health"], u["detail"]) for u in d.status()["units"]])
        log = d.log_text()
        check("unhealthy" not in log, lambda: "false alarm: %s" % [l for l in log.splitlines() if "unhealthy" in l][:5])
        now = {u["name"]: u["main_pid"] for u in d.status()["units"]}
        check(now == first, "nothing was restarted")

WRITER = """[Unit]
DefaultDependencies=no
[Service]
ExecStart=/bin/sh -c 'i=0; while [ $i -lt %d ]; do echo line $i; i=$((i+1)); done; exec sleep 1000000'
Restart=no
"""


def without_torn(numbers):
    """A SIGKILL may cut a write(2) short at a page, in the middle of a number: 12 where 12345 would have stood."""
    kept = []
    for x in numbers:
        if kept and x < kept[-1] and str(kept[-1] + 1).startswith(str(x)):
            continue
        kept.append(x)
    return kept


@test
def output_survives_a_dead_logger_and_a_dead_core():
    directory, lines, writers = tempfile.mkdtemp(prefix="stayd-test."), 40000, 4
    names = ["p%d.service" % i for i in range(writers)]
    units = {n: WRITER % lines for n in names}
    units["all.target"] = "[Unit]\nDefaultDependencies=no\nWants=%s\n" % " ".join(names)
    rng, kills = random.Random(SEED), 0
    d = Daemon(units, directory=directory, targets=["all.target"])
    d.owns_dir = True

    def seen(name):
        with contextlib.suppress(OSError):
            with open(os.path.join(d.log_dir, name, "current")) as f:
                return [int(m) for m in re.findall(r"line (\d+)$", f.read(), re.M)]
        return []

    def all_written():
        return all(lines - 1 in seen(n)[-1:] for n in names)
    with d:
        first = {n: d.wait_unit(n, lambda u: u["main_pid"])["main_pid"] for n in names}
        while not all_written() and kills < 40:
            roles = rng.choice([["logger"], ["logger"], ["core"], ["core", "logger"]])
            wait_roles(d, kill_roles(d, roles))
            kills += "logger" in roles
        wait_for(all_written, 60, "all lines to be written")
        lost = 0
        for n in names:
            got = without_torn(seen(n))
            check(got == sorted(set(got)), "%s: lines are doubled or out of order" % n)
            lost += lines - len(got)
        # What a killed logger had in its hands is gone: at most one read of each pipe and kill.
        check(lost <= kills * writers * 65536 / 6, "%d lines lost in %d kills" % (lost, kills))
        now = {u["name"]: u["main_pid"] for u in d.status()["units"] if u["name"] in names}
        check(now == first and all(first.values()), "no writer got a SIGPIPE: %s, then %s" % (first, now))
        print("# logger killed %d times under %d writers: %d of %d lines lost" % (kills, writers, lost, lines * writers))


@test
def the_start_of_200_units_survives_kills_of_core():
    f = Fleet(tempfile.mkdtemp(prefix="stayd-test."), 6 + SEED * 100)
    with f.daemon(wait=False) as d:
        for _ in range(8):
            f.until_starts(f.rng.randrange(1, 25))
            wait_for(lambda: role_pid(d, "core"), 20, "a core")
            kill_roles(d, f.rng.choice([["core"], ["core"], ["core", "launcher"]]))
        d.wait_answering()
        f.until_all_run(60)
        f.end_stable()
        f.judge(d)
        f.close()


def shut_down_with_kills(tracking):
    f = Fleet(tempfile.mkdtemp(prefix="stayd-test."), 7 + SEED * 100, tracking)
    order = ["s%03d.service" % i for i in range(0, STABLE, 7)]
    for first, then in zip(order, order[1:]):
        f.units[then] = f.units[then].replace("[Unit]\n", "[Unit]\nAfter=%s\n" % first)
    with f.daemon() as d:
        f.until_all_run()
        starts = sum(map(len, f.starts.values()))
        d.proc.terminate()
        ended, kills, is_over = {}, 0, False
        while not is_over:
            is_over = d.proc.poll() is not None  # once more then, for their last words
            if not is_over:
                f.puppets._receive(0.2)
            for e in f.puppets.drain():
                if e.name == "signal" and "TERM" in e.detail:
                    ended.setdefault(e.pid, e.us)
                starts += e.name == "start"
            if ended and not is_over and kills < 5 and f.rng.random() < 0.2:
                kill_roles(d, f.rng.choice([["core"], ["core", "launcher"]]))
                kills += 1
        check(d.proc.returncode == 0, "the daemon ended with %s" % d.proc.returncode)
        missing = {n for n in order if f.alive[n.split(".")[0]] not in ended}
        check(not missing, lambda: "never asked to stop: %s\n%s" % (missing, "\n".join(
            l for l in d.log_text().splitlines() if any(n in l for n in missing) or not ".service" in l)))
        at = [ended[f.alive[n.split(".")[0]]] for n in order]
        check(at == sorted(at, reverse=True), "stopped in the reverse order of the start")
        f.close()


@test
def an_ordered_shutdown_survives_kills_of_core():
    for tracking in os.environ.get("STAYD_TRACKING", "cgroup shim").split():
        shut_down_with_kills(tracking)


@test
def an_edit_of_count_changes_no_set_when_core_is_killed():
    text = "[Service]\nExecStart=%s wait\n[X-Replicas]\nCount=%%d\n[X-Rollout]\nMinReadySec=0\n" % SVC
    for count in (2, 6):
        with Daemon({"web@.service": text % 4}, targets=["web"]) as d:
            before = wait_for(lambda: (lambda v: len(v) == 4 and all(v) and v)([m["main_pid"] for m in d.members("web")]), 10, "the members")
            d.write_unit("web@.service", text % count)
            for _ in range(2):
                d.kill_core()
                check([m["main_pid"] for m in d.members("web") if m["active_state"] == "active"] == before, d.members("web"))
            d.ctl("deploy", "web", "v2")
            new = {m["name"]: m["release"] for m in d.members("web") if m["active_state"] == "active"}
            check(new == {"web@%d.service" % i: "v2" for i in range(1, 5)}, new)
            d.ctl("scale", "web=%d" % count)
            d.kill_core()
            check(len([m for m in d.members("web") if m["active_state"] == "active"]) == count, d.members("web"))


@test
def a_shutdown_by_a_verb_or_an_action_survives_kills_of_core_with_its_exit_code():
    units = {"slow.service": "[Service]\nExecStart=%s ignore:TERM wait\nTimeoutStopSec=2s\n" % SVC,
             "job.service": "[Unit]\nFailureAction=exit\n[Service]\nExecStart=%s exit:7\n" % SVC}
    for ask, code in ((("shutdown", "--code", "3", "--no-wait"), 3), (("start", "--no-wait", "job"), 7)):
        with Daemon(units, targets=["slow.service"]) as d:
            d.wait_unit("slow.service", lambda u: u["main_pid"])
            d.ctl(*ask)
            d.wait_unit("slow.service", active_state="deactivating")
            d.kill_core()
            check(d.status()["daemon"]["state"] == "stopping", d.status()["daemon"])
            d.proc.wait(60 * PATIENCE)
            check(d.proc.returncode == code, "the daemon ended with %s" % d.proc.returncode)


main()
