#!/usr/bin/python3
"""The brain may die; the services may not.

200 services run, some crash all the time; core, launcher and stay-net are killed again and again at
random moments. Afterwards: nothing lost, nothing doubled, nothing restarted without cause, and every
exit is in the log once with its true status, also those that happened while core was down."""
import random

from lib import *

STABLE, CRASHERS = 160, 40
KILLS = int(os.environ.get("STAYD_KILLS", "100" if SLOW == 1 else "25"))
EXIT = re.compile(r"^stayd: (\S+)\.service: exited: main process: code=(\w+), (?:status|signal)=(\w+)", re.M)


class Fleet:
    """The services, what they were told to do, and what they said."""

    def __init__(self, directory, seed):
        self.rng = random.Random(seed)
        self.puppets = Puppets(directory)
        self.expected = {}  # unit -> list of statuses its processes ended with
        self.pid, self.starts, self.doubled = {}, {}, []
        self.unit_of = {}
        self.units = {}
        for i in range(STABLE):
            self._add("s%03d" % i)
        for i in range(CRASHERS):
            self._add("c%03d" % i, "sleep:%d" % (200 + i * 37 % 800), "exit:%d" % self.code_of("c%03d" % i))

    @staticmethod
    def code_of(name):
        return 1 + int(name[1:])

    def _add(self, name, *steps):
        words = " ".join(steps)
        self.units[name + ".service"] = (
            "[Unit]\nDefaultDependencies=no\nStartLimitIntervalSec=0\n[Service]\nEnvironment=PUPPET=%s\n"
            "ExecStart=@%s %s %s\nRestart=always\nRestartSec=20ms\nStandardOutput=null\n" % (self.puppets.path, SVC, name, words))
        self.expected[name] = []

    def take(self, deadline=0.0):
        """Reads what the services said; True when something was."""
        any_event = self.puppets._receive(deadline)
        for e in self.puppets.drain():
            if e.name != "start":
                continue
            name = e.detail.split()[0]
            old = self.pid.get(name)
            if old and is_alive(old):
                self.doubled.append((name, old, e.pid))
            self.pid[name] = e.pid
            self.starts[name] = self.starts.get(name, 0) + 1
        return any_event

    def until_events(self, n):
        for _ in range(n):
            self.take(1.0)

    def until_all_run(self, deadline=30.0):
        def look():
            self.take(0.05)
            return len(self.pid) == len(self.expected)
        wait_for(look, deadline, lambda: "all services to run; missing %s" % sorted(set(self.expected) - set(self.pid)))

    def kill_one(self):
        """Ends a stable service from outside and remembers how."""
        name = "s%03d" % self.rng.randrange(STABLE)
        sig = self.rng.choice([signal.SIGKILL, signal.SIGSEGV, signal.SIGUSR1, signal.SIGABRT])
        if is_alive(self.pid[name]):
            os.kill(self.pid[name], sig)
            self.expected[name].append(sig.name)
            wait_for(lambda: self.take(0.01) or True and not is_alive(self.pid[name]) or self.expected[name], 5)

    def check_log(self, text):
        seen = {}
        for name, code, status in EXIT.findall(text):
            seen.setdefault(name, []).append(status)
        for name, want in self.expected.items():
            got = seen.get(name, [])
            if name[0] == "c":
                check(set(got) <= {str(self.code_of(name))}, "%s only ever exits with %d, the log says %s" % (name, self.code_of(name), set(got)))
                check(len(got) in (self.starts[name] - 1, self.starts[name]),
                      "%s started %d times, %d exits are in the log" % (name, self.starts[name], len(got)))
            else:
                check(got == want, "%s ended with %s, the log says %s" % (name, want, got))
                check(self.starts[name] == len(want) + 1, "%s started %d times for %d deaths" % (name, self.starts[name], len(want)))
        return sum(len(v) for v in seen.values())


def fleet(directory, seed):
    f = Fleet(directory, seed)
    f.units["all.target"] = "[Unit]\nDefaultDependencies=no\nWants=%s\n" % " ".join(sorted(f.units))
    d = Daemon(f.units, directory=directory, targets=["all.target"])
    d.owns_dir = True
    return f, d


def run_kills(role, seed, kills):
    directory = tempfile.mkdtemp(prefix="stayd-test.")
    f, d = fleet(directory, seed)
    with d:
        f.until_all_run()
        for i in range(kills):
            f.until_events(f.rng.randrange(1, 30))
            before = f.rng.random() < 0.5
            if before and f.rng.random() < 0.7:
                f.kill_one()
            if role == "core":
                pid = d.status()["daemon"]["core_pid"]
                os.kill(pid, signal.SIGKILL)
                f.kill_one()  # while nobody decides
                wait_for(lambda: d.ctl("ping", check=False).rc == 0 and d.status()["daemon"]["core_pid"] != pid, 10, "a new core")
            else:
                pid = d.pid_of(role)
                os.kill(pid, signal.SIGKILL)
                wait_for(lambda: d.pid_of(role) not in (pid, None, 0), 10, "a new " + role)
        want = {n: len(v) + 1 for n, v in f.expected.items() if n[0] == "s"}

        def settled():
            f.take(0.05)
            return all(f.starts[n] >= k for n, k in want.items()) and \
                all(u["sub_state"] == "running" for u in d.status()["units"] if u["name"][0] == "s" and u["name"][1].isdigit())
        wait_for(settled, 30, "every service to be back")
        for u in d.status()["units"]:
            name = u["name"].rsplit(".", 1)[0]
            if name in f.expected and name[0] == "s":
                check(u["main_pid"] == f.pid[name], "%s: status says pid %s, it is %s" % (name, u["main_pid"], f.pid[name]))
        n = f.check_log(d.log_text())
        check(not f.doubled, "doubled: %s" % f.doubled[:5])
        restarts = d.status()["daemon"]["restarts_of_core"]
        if role == "core":
            check(restarts == kills, "%d kills, %d restarts of core" % (kills, restarts))
        print("# %s killed %d times, %d services, %d exits seen, all statuses right" % (role, kills, len(f.expected), n))
    f.puppets.close()


@test
def services_survive_kills_of_the_core():
    run_kills("core", 1, KILLS)


@test
def services_survive_kills_of_the_launcher():
    run_kills("launcher", 2, max(10, KILLS // 4))


@test
def services_survive_a_reexec_to_a_new_binary():
    directory = tempfile.mkdtemp(prefix="stayd-test.")
    f, d = fleet(directory, 3)
    with d:
        f.until_all_run()
        for i in range(5):
            new = os.path.join(directory, "stayd-%d" % i)
            shutil.copy(STAYD, new)
            before = d.status()["daemon"]
            stable = {n: p for n, p in f.pid.items() if n[0] == "s"}
            d.ctl("reexec", new)
            wait_for(lambda: d.ctl("ping", check=False).rc == 0 and d.status()["daemon"]["core_pid"] != before["core_pid"], 15, "the new core")
            check(os.readlink("/proc/%d/exe" % before["keeper_pid"]) == new, "keeper runs %s" % os.readlink("/proc/%d/exe" % before["keeper_pid"]))
            check(d.status()["daemon"]["keeper_pid"] == before["keeper_pid"], "keeper keeps its pid")
            f.until_events(20)
            check({n: p for n, p in f.pid.items() if n[0] == "s"} == stable, "no stable service was restarted")
        f.check_log(d.log_text())
        check(not f.doubled, "doubled: %s" % f.doubled[:5])
    f.puppets.close()


main()
