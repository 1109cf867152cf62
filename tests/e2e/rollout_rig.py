"""What the rollout tests stand on: websvc replicas behind real HAProxies under constant load.

    with Rig(replicas=4) as r:
        r.load = r.start_load()
        with r.accounted("deploy v2"):          # 0 failed, HAProxy repeated nothing
            r.deploy("v2")

A test file that imports this has a network namespace of its own where the kernel allows it, so ports
never collide with tests beside it. fork_each() runs jobs side by side, each in a process (and
namespace) of its own: assert_clean() of one must not see the children of another."""
import contextlib, json, os, shutil, signal, sys, tempfile, threading, time, traceback

import haproxy, lib
from lib import check, skip, wait_for  # noqa: F401

FULL = os.environ.get("STAYD_FULL") == "1"
RATE = int(os.environ.get("STAYD_RATE", "1000" if lib.SLOW <= 1 else "300"))
# Lines of HAProxy that make a reload invisible; units/examples/haproxy.cfg says why each is there.
GOOD_LB = ["option redispatch 1"]
GOOD_DEFAULTS = ["option idle-close-on-response"]
_has_network = False


def own_network():
    """Once a process: a namespace of its own, or ports of its own pid."""
    global _has_network
    _has_network = lib.private_network()


def port_block(n):
    """First of n neighbouring ports that nobody has now."""
    base = 20000 if _has_network else 20000 + (os.getpid() * 64) % 9000
    for first in range(base, 32000, n):
        with contextlib.ExitStack() as held:
            try:
                for p in range(first, first + n):
                    s = held.enter_context(lib.socket.socket())
                    s.bind(("127.0.0.1", p))
                return first
            except OSError:
                continue
    skip("no %d free ports in a row" % n)


def unit_text(**sections):
    """Sections X_Name -> [X-Name]; a list is several lines of one key; None leaves the key out."""
    out = []
    for section, keys in sections.items():
        out.append("[%s]" % section.replace("_", "-"))
        for k, v in keys.items():
            out += ["%s=%s" % (k, x) for x in (v if isinstance(v, list) else [v]) if x is not None]
    return "\n".join(out) + "\n"


class Rig:
    """releases: name -> words of its file `mode`. The other dictionaries add to, or replace, keys."""

    def __init__(self, replicas=4, slots=None, work_ms=5, releases=None, lbs=1, lb_lines=(), lb_globals=(), keeps_state=True, service=None,
                 health=None, balancer=None, rollout=None, restart=None, start=True, args=(), units=None):
        self.args, self.units = list(args), dict(units or {})
        self.replicas, self.load, self.start_it = replicas, None, start
        self.stack = contextlib.ExitStack()
        self.dir = tempfile.mkdtemp(prefix="stayd-roll.")
        os.chmod(self.dir, 0o755)
        modes = {"v1": "", "v2": "", "v3": ""}
        modes.update(releases or {})
        for name, mode in modes.items():
            self.make_release(name, mode)
        os.symlink("releases/v1", self.dir + "/current")
        self.lbs = []
        for i in range(lbs):
            b = haproxy.Backend("web", slots=slots or 2 * replicas, check="/healthz", lines=list(lb_lines or GOOD_LB))
            self.lbs.append(lib.haproxy("%s/lb%d" % (self.dir, i), b, globals=lb_globals, defaults=GOOD_DEFAULTS if keeps_state else (),
                                        keeps_state=keeps_state))
            self.unhide(i)
        self.lb = self.lbs[0]
        n = 4 * replicas + 8
        first = port_block(n)
        self.conf = {
            "Unit": {"Description": "Shop %i"},
            "Service": {"ExecStart": "%s/current/websvc --instance web@%%i --work-ms %d" % (self.dir, work_ms), "Restart": "always",
                        "RestartSec": "0", "TimeoutStopSec": "5"},
            "X_Replicas": {"Count": replicas, "Ports": "%d-%d" % (first, first + n - 1)},
            "X_Restart": {},
            "X_Health": {"Ready": "http://127.0.0.1:${PORT}/healthz", "IntervalSec": "100ms", "TimeoutSec": "5", "Rise": "1",
                         "Fall": "2"},
            "X_LoadBalancer": {"Driver": "haproxy", "Address": [self.address(i) for i in range(lbs)], "Backend": "web",
                               "DrainTimeoutSec": "20"},
            "X_Rollout": {"MaxUnavailable": "1", "MinReadySec": "100ms", "ProgressDeadlineSec": "60", "AutoRollback": "yes",
                          "ReleaseRoot": self.dir + "/releases", "ReleaseLink": self.dir + "/current"},
        }
        for key, more in (("Service", service), ("X_Health", health), ("X_LoadBalancer", balancer), ("X_Rollout", rollout),
                          ("X_Restart", restart)):
            self.conf[key].update(more or {})
        self.d = None

    def address(self, i=0):
        """Where the daemon believes the admin socket to be."""
        return "%s/admin%d.sock" % (self.dir, i)

    def hide(self, i=0):
        os.unlink(self.address(i))

    def unhide(self, i=0):
        os.symlink(self.lbs[i].socket, self.address(i))

    def make_release(self, name, mode=""):
        d = os.path.join(self.dir, "releases", name)
        os.makedirs(d)
        os.link(lib.WEBSVC, d + "/websvc") if os.stat(lib.WEBSVC).st_dev == os.stat(d).st_dev else shutil.copy2(lib.WEBSVC, d)
        with open(d + "/mode", "w") as f:
            f.write(mode)

    def rewrite_unit(self, **sections):
        for key, more in sections.items():
            self.conf[key].update(more)
        self.d.write_unit("web@.service", unit_text(**self.conf))

    def __enter__(self):
        for l in self.lbs:
            l.start()
            self.stack.callback(l.stop)
        self.d = lib.Daemon(dict(self.units, **{"web@.service": unit_text(**self.conf)}), directory=self.dir, args=self.args)
        self.d.start()
        if self.start_it:
            self.d.ctl("start", "web")
            self.wait_up()
        return self

    def __exit__(self, kind, value, tb):
        try:
            if kind is None:
                if self.load:
                    self.load.finish()
                self.d.stop()
                self.d.assert_clean()
            else:
                self.tell_failure()
        finally:
            if self.load:
                self.load.kill()
            self.d.destroy()
            self.stack.close()
            if not os.environ.get("STAYD_TEST_KEEP"):
                shutil.rmtree(self.dir, ignore_errors=True)
        return False

    def tell_failure(self):
        """The evidence goes to the output before the directory goes away."""
        print("".join("# %s\n" % l for l in self.d.diagnosis().splitlines()), end="")
        for l in self.journal()[-40:]:
            print("# journal: %s %s %s %s" % (l["seq"], l["state"], l["steps"], l["text"]))
        with contextlib.suppress(Exception):
            print("# haproxy: %s" % {n: (r["status"], r["weight"], r["scur"], r["addr"]) for n, r in self.lb.stat().items()})

    # -- load

    def start_load(self, path="/", lb=None, rate=None, **how):
        self.load = lib.Load("http://127.0.0.1:%d%s" % ((lb or self.lb).port("web"), path), rate=rate or RATE, **how)
        self.load.wait_ok(1)
        return self.load

    def totals(self):
        return {k: sum(l.totals()[k] for l in self.lbs) for k in ("wretr", "wredis", "eresp", "econ")}

    @contextlib.contextmanager
    def accounted(self, name, counters=True, failed=0, steady=True):
        """What happens inside costs no request; .before and .during are the two phases."""
        r = Account()
        load = self.load
        if steady:
            load.mark(name + " before")
            load.wait_sent(RATE // 3)
        before = self.totals() if counters else None
        r.before = load.mark(name)
        yield r
        load.wait_ok(load.peek()["ok"] + 50)
        r.during = p = load.mark(name + " after")
        r.delta = {k: v - before[k] for k, v in self.totals().items()} if counters else {}
        say("%s: %d sent, %d failed%s, p99 %.1f ms (before %.1f), worst %.0f ms%s"
            % (name, p["sent"], p["failed"], " " + json.dumps(p["kinds"]) if p["failed"] else "", p["p99_ms"],
               r.before["p99_ms"], p["max_ms"], "; " + " ".join("%s %d" % i for i in r.delta.items()) if r.delta else ""))
        check(p["failed"] <= failed, "%s: %d of %d requests failed: %s" % (name, p["failed"], p["sent"], p["kinds"]))
        check(not any(r.delta.values()), "%s: HAProxy had to repeat or saw errors: %s" % (name, r.delta))

    # -- the daemon's view

    def members(self):
        return sorted((u for u in self.d.members("web")), key=lambda u: u["instance"])

    def active(self):
        return [u for u in self.members() if u["active_state"] == "active"]

    def releases(self):
        return sorted(str(u["release"]) for u in self.active())

    def pids(self):
        return {u["name"]: u["main_pid"] for u in self.active()}

    def rollout(self):
        return self.d.ctl("rollout", "status", "web", "--json", check=False).json["rollout"]

    def wait_rollout(self, *states, deadline=40):
        return wait_for(lambda: (lambda r: r if r["state"] in states else None)(self.rollout()), deadline,
                        lambda: "the rollout to be %s; it is %s" % (" or ".join(states), self.rollout()))

    def wait_step(self, index, *steps, deadline=30):
        """Until that member of the rollout is at one of these steps."""
        return wait_for(lambda: (lambda m: m if m["step"] in steps else None)(self.rollout()["members"][index - 1]), deadline,
                        lambda: "web@%d to be %s; it is %s" % (index, steps, self.rollout()["members"]))

    def deploy(self, release, rc=0, **how):
        r = self.d.ctl("deploy", "web", release, check=False, **how)
        check(r.rc == rc, "deploy %s: exit code %d was expected: %r" % (release, rc, r))
        return r

    def check_all_on(self, release, n=None):
        n = n or self.replicas
        wait_for(lambda: self.releases() == [release] * n, 15, lambda: "%d on %s; they are %s" % (n, release, self.releases()))

    # -- HAProxy's view

    def up(self, lb=None):
        return sorted(n for n, r in (lb or self.lb).stat("web").items() if r["status"].startswith("UP") and r["weight"] > 0)

    def wait_up(self, n=None, deadline=20):
        n = n or self.replicas
        for l in self.lbs:
            wait_for(lambda: len(self.up(l)) == n, deadline, lambda: "%d servers up in HAProxy; it has %s" % (n, self.up(l)))

    # -- files

    def journal(self, number=None):
        """The lines of the newest journal, or of d-NUMBER."""
        d = self.dir + "/state/sets/web/rollouts"
        ids = sorted(int(n[2:-4]) for n in os.listdir(d)) if os.path.isdir(d) else []
        if not ids or (number and number not in ids):
            return []
        with open("%s/d-%d.log" % (d, number or ids[-1])) as f:
            return [json.loads(l.rsplit("\t", 1)[0]) for l in f if l.endswith("\n")]

    def starts(self, release):
        """instance -> how many processes of that release began, by its log."""
        n = {}
        for unit in sorted(os.listdir(self.dir + "/log")):
            if unit.startswith("web@"):
                with open("%s/log/%s/current" % (self.dir, unit), errors="replace") as f:
                    n[unit] = sum(" %s pid " % release in l and l.rstrip().endswith(": starting") for l in f)
        return n


class Account:
    before = during = delta = None


def say(text):
    print("# " + text, flush=True)


def core_pid_of(d):
    return d.status()["daemon"]["core_pid"]


class KillAtLine(threading.Thread):
    """Kills the process as soon as the journal file has so many lines."""

    def __init__(self, path, line, pid):
        super().__init__(daemon=True)
        self.path, self.line, self.pid, self.killed, self.text = path, line, pid, False, ""
        self.stopping = False

    def finish(self):
        """Looks once more: it is over then, with or without a kill."""
        self.stopping = True
        self.join()

    def run(self):
        is_last = False
        while not is_last:
            is_last = self.stopping
            try:
                with open(self.path, "rb") as f:
                    data = f.read()
                if data.count(b"\n") >= self.line:
                    os.kill(self.pid, signal.SIGKILL)
                    self.killed = True
                    self.text = json.loads(data.split(b"\n")[self.line - 1].rsplit(b"\t", 1)[0])["text"]
                    return
            except (FileNotFoundError, ProcessLookupError):
                pass
            time.sleep(0.0002)


def fork_each(jobs, side_by_side=2):
    """Runs each fn() of {name: fn} in a child of its own, so many at once; fails with what they said."""
    todo, running, failed = list(jobs.items()), {}, []

    def child(name, fn):
        code = 1
        try:
            lib._libc.prctl(36, 1, 0, 0, 0)  # a subreaper like its parent
            lib._ours.clear()
            del lib.Daemon.alive[:]
            own_network()
            fn()
            code = 0
        except lib.Skip as e:
            print("# %s: skipped: %s" % (name, e), flush=True)
            code = 77
        except BaseException:
            print("".join("# %s: %s\n" % (name, l) for l in traceback.format_exc().rstrip().splitlines()), flush=True)
        finally:
            for d in list(lib.Daemon.alive):
                with contextlib.suppress(Exception):
                    d.destroy()
            sys.stdout.flush()
            os._exit(code)

    while todo or running:
        while todo and len(running) < side_by_side:
            name, fn = todo.pop(0)
            sys.stdout.flush()
            pid = os.fork()
            if pid == 0:
                child(name, fn)
            running[pid] = name
        pid, status = os.wait()
        if pid in running:
            name, code = running.pop(pid), os.waitstatus_to_exitcode(status)
            if code == 77:
                skip(name)
            if code:
                failed.append(name)
    check(not failed, "failed: %s" % ", ".join(failed))


own_network()
