#!/usr/bin/python3
"""Every system call of the daemon fails once: the matrix of (operation, who, call, n, error).

  matrix.py --build build [--cells N] [--seed S] [--ops a,b] [--who core,keeper] [--call open] [--verbose]

A cell arms inject.c (fail the n-th call of that name in that process, or kill the process at it, or
fail all of them), does one operation and then asks: is the daemon there, did the operation succeed or
fail with a message, does it succeed now that nothing is injected, is every service that should run
running once, is nothing waiting, has nobody more descriptors than before. n grows until a run has no
such call any more. One daemon serves as many cells as it can, so a cell costs some 10 ms.

Without --cells all of them; with it that many, which ones the seed says. The last lines are
the figures: cells and violations by operation and process."""
import argparse, collections, json, os, signal, subprocess, sys, time, zlib

A = argparse.ArgumentParser()
A.add_argument("--build", default=os.environ.get("STAYD_BUILD", "build"))
A.add_argument("--cells", type=int, default=0)
A.add_argument("--seed", type=int, default=1)
A.add_argument("--ops", default="")
A.add_argument("--who", default="")
A.add_argument("--call", default="")
A.add_argument("--n", type=int, default=0)
A.add_argument("--error", default="")
A.add_argument("--report", default="")
A.add_argument("--seconds", type=int, default=0, help="stop after so long")
A.add_argument("--first", default="", help="WHO/CALL: rows before it were done")
A.add_argument("--begin", type=int, default=1, help="the first n of each row")
A.add_argument("--last", default="", help="WHO/CALL: rows behind it are for others")
A.add_argument("--verbose", action="store_true")
args = A.parse_args()
os.environ["STAYD_BUILD"] = os.path.abspath(args.build)
from rig import *  # noqa: E402


def slay(pid):
    """SIGKILL to one process: what a daemon under faults says may be no pid, and 0 and -1 are others."""
    if pid <= 1:
        raise ProcessLookupError(pid)
    os.kill(pid, signal.SIGKILL)


ALL_TIMEOUT = 0.4  # while all calls fail: how long to look
ALL = 1 << 30  # times: every call until disarmed


# ---- units ---------------------------------------------------------------------------------------

def service(exec_start, section="", unit="", **keys):
    keys = dict({"RestartSec": "10ms", "TimeoutStopSec": "%g" % lib.SLOW, "TimeoutStartSec": "%g" % (2 * lib.SLOW),
                 "Restart": "no" if keys.get("Type") == "oneshot" else "always"}, **keys)
    return ("[Unit]\nDefaultDependencies=no\nStartLimitIntervalSec=0\n%s[Service]\nExecStart=%s\n%s%s"
            % (unit, exec_start, "".join("%s=%s\n" % kv for kv in keys.items()), section))


SVC = lib.SVC
UNITS = {
    "keep.service": service(SVC),
    "a.service": service(SVC),
    "n.service": service('%s "notify:READY=1\\\\nSTATUS=up"' % SVC, Type="notify"),
    "steps.service": service(SVC, ExecStartPre="/bin/true", ExecStartPost="/bin/true", ExecStop="/bin/true", ExecStopPost="/bin/true"),
    "box.service": service(SVC, User="nobody", PrivateTmp="yes", ProtectSystem="strict", NoNewPrivileges="yes", PrivateDevices="yes",
                           SystemCallFilter="~reboot", CapabilityBoundingSet="CAP_CHOWN", LimitNOFILE="512", UMask="077",
                           RuntimeDirectory="stayd-fault-box-%d" % os.getpid(), WorkingDirectory="/", StandardInput="null", Nice="1"),
    "once.service": service("%s print:hello exit:0" % SVC, Type="oneshot"),
    "en.service": service(SVC, section="[Install]\nWantedBy=rest.target\n"),
    "web@.service": service(SVC + " print:%i", section="[X-Replicas]\nCount=2\n[X-Rollout]\nMinReadySec=0\nMaxSurge=0\nMaxUnavailable=1\n"
                            "AutoRollback=yes\nReleaseRoot=@DIR@/releases\nReleaseLink=@DIR@/current\n"),
    # Whose main process is not the one that was started: an orphan, and the child of another.
    "fork.service": service("%s daemonize pidfile:@DIR@/fork.pid" % SVC, Type="forking", PIDFile="@DIR@/fork.pid"),
    "named.service": service("%s under-parent notify-me" % SVC, Type="notify", NotifyAccess="all"),
}


# ---- operations ----------------------------------------------------------------------------------

class Op:
    """before() makes the state, act() is what the fault hits, expect() what must be then."""
    name, kind, whos = "", "main", ("core", "launcher", "child", "logger", "keeper", "role-child")
    running = {}

    def before(self, r):
        pass

    def act(self, r):
        pass

    def again(self, r):
        """The second attempt, without a fault."""
        self.act(r)

    def verify(self, r):
        """More than expect(), after a success."""

    def after(self, r):
        pass

    def expect(self):
        return dict({"keep.service": "active"}, **self.running)


class Start(Op):
    def __init__(self, unit):
        self.unit, self.name = unit + ".service", "start " + unit
        self.running = {self.unit: "active"}

    def before(self, r):
        pass

    def act(self, r):
        r.client.call("Start", names=[self.unit])

    def after(self, r):
        r.client.call("Stop", names=[self.unit])


class Stop(Op):
    def __init__(self, unit):
        self.unit, self.name = unit + ".service", "stop " + unit

    def before(self, r):
        r.client.call("Start", names=[self.unit])

    def act(self, r):
        r.client.call("Stop", names=[self.unit])


class Once(Op):
    name = "oneshot that prints"

    def act(self, r):
        r.client.call("Start", names=["once.service"])


class Stays(Op):
    """Its units run before and after; the first is what is done something to."""
    running = {"a.service": "active"}

    @property
    def unit(self):
        return next(iter(self.running))

    def before(self, r):
        r.client.call("Start", names=list(self.running))
        self.pid = r.units()[self.unit]["main_pid"]


class Crash(Stays):
    name = "crash of a service"

    def act(self, r):
        pid = r.units()[self.unit]["main_pid"]
        with contextlib.suppress(ProcessLookupError):
            slay(pid)

        def next_one():
            u = r.units()[self.unit]
            return u["main_pid"] not in (0, pid) and u["active_state"] == "active"
        wait_for(next_one, r.client)


class Restart(Stays):
    name = "restart"

    def act(self, r):
        r.client.call("Restart", names=["a.service"])

    def verify(self, r):
        pid = r.units()["a.service"]["main_pid"]
        if pid == self.pid:
            raise Violation("restarted, and has the same pid")


class Kill(Stays):
    name = "kill -s"

    def act(self, r):
        r.client.call("Kill", names=["a.service"], signal="HUP", who="main")


class Scale(Op):
    name, count = "scale", 1

    def before(self, r):
        r.client.call("Start", names=["web"])
        if self.count:
            r.client.call("Scale", name="web", count=2)

    @property
    def running(self):
        return {"web@1.service": "active", "web@2.service": "active", "web@3.service": "active"}

    def act(self, r):
        r.client.call("Scale", name="web", count=3)

    def after(self, r):
        r.client.call("Scale", name="web", count=2)


class Deploy(Op):
    name, release = "deploy", 0
    running = {"web@1.service": "active", "web@2.service": "active"}

    def before(self, r):
        r.client.call("Start", names=["web"])
        self.release = 3 - (self.release or 1)

    def act(self, r):
        v = "v%d" % self.release
        try:
            answer = r.client.call("Deploy", name="web", release=v)
        except Refused as e:
            if "already" in str(e):
                return
            raise
        if answer["rollout"]["state"] != "done":
            raise Refused("deploy: %s: %s" % (answer["rollout"]["state"], answer["rollout"].get("reason")))

    def again(self, r):
        wait_for(lambda: r.client.call("Rollout", name="web")["rollout"].get("state") in ("done", "rolled-back", "halted", "none", None), 10)
        if {u["release"] for n, u in r.units().items() if n.startswith("web@")} != {"v%d" % self.release}:
            self.act(r)

    def verify(self, r):
        v = "v%d" % self.release
        bad = {n: u["release"] for n, u in r.units().items() if n.startswith("web@") and u["active_state"] == "active" and u["release"] != v}
        if bad:
            raise Violation("not on %s: %s" % (v, bad))


class DeployCrash(Deploy):
    """The deploy goes on in the core after this one."""
    name = "core killed in a deploy"

    def act(self, r):
        v = "v%d" % self.release
        core = r.status()["daemon"]["core_pid"]
        try:
            r.client.call("Deploy", name="web", release=v, no_wait=True)
        except Refused as e:
            if "already" not in str(e):
                raise
        with contextlib.suppress(ProcessLookupError):  # the fault was faster
            slay(core)
        wait_for(lambda: r.status()["daemon"]["core_pid"] not in (0, core), r.client)
        self.again(r)

    def again(self, r):
        def is_over():
            with contextlib.suppress(Refused):
                return r.client.call("Rollout", name="web")["rollout"].get("state") in ("done", "rolled-back", "halted", "none", None)
        wait_for(is_over, 10)
        if {u["release"] for n, u in r.units().items() if n.startswith("web@")} != {"v%d" % self.release}:
            Deploy.act(self, r)


class Status(Op):
    name = "status"

    def act(self, r):
        r.status()
        r.client.call("Show", name="keep.service")
        r.client.call("Events")
        r.client.call("History", name="web")


class Logs(Op):
    name = "logs"

    def before(self, r):
        r.client.call("Start", names=["once.service"])

    def act(self, r):
        r.client.call("Logs", names=["once.service"], lines=5)


class Reload(Op):
    name = "daemon-reload"

    def act(self, r):
        r.d.write_unit("a.service", UNITS["a.service"] + "Environment=N=%d\n" % time.monotonic_ns())
        notes = r.client.call("DaemonReload")["notes"]
        if "cannot" in notes:
            raise Refused(notes)


class Enable(Op):
    name = "enable and disable"

    def act(self, r):
        r.client.call("Enable", names=["en.service"])
        if not os.path.islink(r.d.units_dir + "/rest.target.wants/en.service"):
            raise Violation("enabled, and there is no link")
        r.client.call("Disable", names=["en.service"])
        if os.path.islink(r.d.units_dir + "/rest.target.wants/en.service"):
            raise Violation("disabled, and there is a link")


class RoleDies(Stays):
    def __init__(self, role):
        self.role, self.name = role, "%s killed" % role
        if role == "core":
            self.whos = ("core", "launcher", "keeper", "role-child", "logger")

    def before(self, r):
        super().before(r)
        self.pids = {n: u["main_pid"] for n, u in r.units().items()}

    def act(self, r):
        old = r.status()["daemon"][self.role + "_pid"]
        with contextlib.suppress(ProcessLookupError):
            slay(old)
        wait_for(lambda: r.status()["daemon"][self.role + "_pid"] not in (0, old), r.client)
        if self.role != "core":
            r.client.call("Start", names=["once.service"])

    def verify(self, r):
        now = {n: u["main_pid"] for n, u in r.units().items() if n.endswith(".service")}
        bad = {n: (p, now.get(n)) for n, p in self.pids.items() if p and now.get(n) != p}
        if bad:
            raise Violation("services that ended with the %s: %s" % (self.role, bad))


class Reexec(RoleDies):
    whos = ("core", "keeper", "role-child", "launcher", "logger")

    def __init__(self):
        super().__init__("core")
        self.name, self.whos = "reexec", Reexec.whos

    def act(self, r):
        old = r.status()["daemon"]["core_pid"]
        lost = None
        try:
            r.client.call("Reexec")
        except Lost as e:
            lost = e

        def is_over():
            """As stayctl looks for it: another core, or this one says why not. A connection that ends
            may be the answer, or may never have been taken (no descriptor for it)."""
            now = r.status()["daemon"]
            if lost and now["core_pid"] == old and now["reexec_state"] != "trying":
                raise Refused("not taken: %s" % lost)
            if now["reexec_state"] == "refused":
                raise Refused("re-exec refused: " + now["reexec_text"])
            return now["core_pid"] not in (0, old)
        wait_for(is_over, r.client)


class Rotate(Op):
    name, kind, whos = "log rotation", "rotate", ("logger",)

    def act(self, r):
        r.client.call("Start", names=["loud.service"])


class Probe(Op):
    name, kind, whos = "probed service", "net", ("net", "core", "launcher", "keeper", "role-child")
    running = {"probed.service": "active"}

    def act(self, r):
        r.client.call("Start", names=["probed.service"])
        wait_for(lambda: r.units()["probed.service"]["health"] == "ok", r.client)

    def after(self, r):
        r.client.call("Stop", names=["probed.service"])


class ShimStart(Start):
    kind, whos = "shim", ("core", "launcher", "child", "keeper")

    def __init__(self, unit):
        super().__init__(unit)
        self.name = "start %s below a shim" % unit


class ShimCrash(Crash):
    name, kind, whos = "crash below a shim", "shim", ("core", "launcher", "child", "keeper")


class Named:
    """A main process that is not the one that was started. The launcher and its child do what they do
    for any other service."""
    whos = ("core", "keeper")

    def place(self, kind):
        self.kind = kind
        self.name += " below a shim" * (kind == "shim")
        return self


def parent_of(pid):
    """The process that it was named by: another of the same service, 0 without one."""
    above = (lib.proc_stat(pid) or (0, 0))[1]
    return above if above > 1 and lib.cmdline(above) == lib.cmdline(pid) else 0


class NamedStart(Named, Start):
    def verify(self, r):
        pid = r.units()[self.unit]["main_pid"]
        if self.unit == "fork.service":
            with open(r.dir + "/fork.pid") as f:
                named = int(f.read())
            if named != pid:
                raise Violation("pid %d is in the PID file, and %d the main process" % (named, pid))
        elif not parent_of(pid) and "MAINPID=" not in r.log_since():  # may not be looked at: said
            raise Violation("pid %d is not the main process that was named" % pid)


class NamedStop(Named, Stop):
    def __init__(self, unit):
        super().__init__(unit)
        self.unit, self.name = unit + ".service", "stop " + unit


class NamedCrash(Named, Crash):
    def __init__(self, unit):
        self.running, self.name = {unit + ".service": "active"}, "crash " + unit


class OrphanCrash(NamedCrash):
    """The parent of the main process has ended: that one is keeper's now, which was not told of it."""

    def __init__(self, unit):
        super().__init__(unit)
        self.name += " without its parent"

    def before(self, r):
        super().before(r)
        parent = parent_of(self.pid)
        if parent:
            slay(parent)
            wait_for(lambda: lib.proc_stat(self.pid)[1] != parent, 10)


class NamedCoreDies(Named, RoleDies):
    running = {"fork.service": "active", "named.service": "active"}

    def __init__(self):
        RoleDies.__init__(self, "core")
        self.name, self.whos = "core dies beside named mains", Named.whos


class StartUp(Op):
    """A daemon of its own for each cell: it comes up with its unit, or says why not."""
    name, kind, whos = "start-up of the daemon", "fresh", ("keeper", "core", "launcher", "logger", "child", "role-child")
    running = {"a.service": "active"}

    def cell(self, c):
        """(fired, counts)"""
        r = FreshRig()
        try:
            r.arm(c)
            r.d.start()
            r.begun()
            end = time.monotonic() + 3 * TIMEOUT * lib.SLOW
            while r.d.proc.poll() is None and time.monotonic() < end:
                try:
                    if r.wrong(self.running) is None:
                        break
                except (Lost, Refused, Violation, lib.Timeout):
                    pass
                time.sleep(0.001)
                if c and c.times == ALL and time.monotonic() > end - 3 * TIMEOUT * lib.SLOW + ALL_TIMEOUT:
                    break
            r.wait_quiet()
            r.fault.disarm()
            fired, counts = r.fault.fired, r.fault.counts()
            if r.d.proc.poll() is not None:
                if r.d.proc.returncode == 0 or len(r.d.log_text().strip()) < 12:
                    raise Violation("ended with %d and says: %s" % (r.d.proc.returncode, r.d.log_text()))
                return fired, counts
            r.wait_steady(self.running)
            r.stop()
            return fired, counts
        except (AssertionError, Lost, Refused, OSError) as e:
            raise Violation("%s\n%s" % (e, "\n".join("        " + l for l in r.d.log_text().splitlines()[-12:])))
        finally:
            r.destroy()


class ShutDown(StartUp):
    """It ends, whatever fails meanwhile, and leaves nothing."""
    name = "shutdown of the daemon"

    def cell(self, c):
        r = FreshRig()
        try:
            r.d.start()
            r.begun()
            r.wait_steady(self.running)
            r.arm(c)
            r.d.proc.terminate()
            if c and c.times == ALL:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    r.d.proc.wait(ALL_TIMEOUT)
                r.fault.disarm()
            r.stop()
            r.fault.disarm()
            return r.fault.fired, r.fault.counts()
        except (AssertionError, Lost, Refused, OSError) as e:
            raise Violation("%s\n%s" % (e, "\n".join("        " + l for l in r.d.log_text().splitlines()[-12:])))
        finally:
            r.destroy()


OPS = [StartUp(), ShutDown(), Start("a"), Stop("a"), Crash(), Restart(), Start("n"), Start("steps"), Stop("steps"), Start("box"), Once(), Kill(), Status(), Logs(),
       Reload(), Enable(), Scale(), Deploy(), DeployCrash(), RoleDies("core"), RoleDies("launcher"), RoleDies("logger"), Reexec(), Rotate(), Probe(),
       ShimStart("a"), ShimCrash()] + [
    op.place(kind) for kind in ("main", "shim") for op in
    [what(unit) for unit in ("fork", "named") for what in (NamedStart, NamedStop, NamedCrash)] + [OrphanCrash("named"), NamedCoreDies()]]


def wait_for(predicate, deadline):
    """deadline: seconds in quiet, or the client of a rig, whose patience is meant."""
    end = time.monotonic() + (deadline.timeout * lib.SLOW if isinstance(deadline, Client) else deadline * lib.PATIENCE)
    pause = 0.0005
    while True:
        try:
            if predicate():
                return
        except (Lost, KeyError):
            pass
        if time.monotonic() > end:
            raise lib.Timeout("waited too long")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.01)


# ---- a daemon for operations of one kind ------------------------------------------------------------

class MainRig(Rig):
    def __init__(self, kind):
        units, more, port = dict(UNITS), {}, lib.free_ports(1)[0]
        if kind == "rotate":
            # 1 MiB is a file's size there: each run rotates once or twice
            units = {"keep.service": UNITS["keep.service"],
                     "loud.service": service('/bin/sh -c "head -c 1500000 /dev/zero | tr \'\\\\0\' x | fold -w 1000"', Type="oneshot", StandardOutput="journal")}
            more["rotate"] = True
        elif kind == "net":
            units["probed.service"] = service("%s --port %d" % (lib.WEBSVC, port), section="[X-Health]\nReady=http://127.0.0.1:%d/healthz\n"
                                              "IntervalSec=20ms\nTimeoutSec=1\nRise=1\nFall=2\n" % port)
        elif kind == "shim":
            more["args"] = ["--tracking", "shim"]
        self.kind = kind
        self.links_held = 64 if kind == "shim" else 0  # RETIRED_MAX
        super().__init__(units, start=False, **more)
        for v in ("v1", "v2"):
            os.makedirs(self.dir + "/releases/" + v)
        os.symlink("releases/v1", self.dir + "/current")
        for name, text in units.items():
            if "@DIR@" in text:
                self.d.write_unit(name, text.replace("@DIR@", self.dir))
        try:
            self.start()
            self.client.call("Start", names=["keep.service"])
            self.keep = self.units()["keep.service"]["main_pid"]
            self.learn([n[:-8] for n in units if n != "keep.service" and n.endswith(".service") and "@" not in n] +
                       ["web"] * ("web@.service" in units))
        except BaseException:  # nobody else knows of it yet
            self.destroy()
            raise

    def learn(self, names):
        """The most descriptors that anybody has: every unit and every restart once. What is kept open
        lazily is there then; a leak grows above it within a few cells."""
        all_of = {"keep.service": "active"}
        for n in names:
            if n not in ("once", "loud"):
                all_of.update({"web@1.service": "active", "web@2.service": "active"} if n == "web" else {n + ".service": "active"})
        for role in (None, "core", "launcher", "logger", "core"):
            if role:
                old = self.status()["daemon"][role + "_pid"]
                with contextlib.suppress(ProcessLookupError):
                    slay(old)
                wait_for(lambda: self.status()["daemon"][role + "_pid"] not in (0, old), 10)
            self.client.call("Start", names=names)
            if "web" in names:
                self.client.call("Scale", name="web", count=3)
                self.client.call("Scale", name="web", count=2)
            self.wait_steady(all_of)
            self.client.call("Stop", names=names)
            self.wait_steady({"keep.service": "active"})
        self.is_learning = False

    def shims(self, strangers, allowed):
        """Each stranger is above a main process."""
        above = set(allowed)
        for p in allowed:
            while (p := (lib.proc_stat(p) or (0, 0))[1]) > 1 and p != self.keeper:
                above.add(p)
        return strangers <= above


class FreshRig(Rig):
    def shims(self, strangers, allowed):
        """A daemon that cannot use cgroups at its start goes on with shims."""
        return strangers <= {(lib.proc_stat(p) or (0, 0))[1] for p in allowed}

    def __init__(self):
        super().__init__({"a.service": UNITS["a.service"]}, start=False)
        self.d.targets, self.d.wait_at_start = ["a.service"], False

    def arm(self, c):
        if c:
            self.fault.arm(c.action, c.who, c.call, c.first, c.times, c.error)
        else:
            self.fault.arm()

    def begun(self):
        lib.adopt(self.d.proc)
        self.keeper, self.mark = self.d.keeper_pid, 0

    def stop(self):
        """A fault may cost the code of a clean end, but not the end."""
        self.d.proc.terminate()
        try:
            self.d.proc.wait(20 * lib.PATIENCE)
        except subprocess.TimeoutExpired:
            raise Violation("no end %d s after SIGTERM" % (20 * lib.PATIENCE))
        lib._ours.discard(self.d.proc.pid)
        left = {p: lib.cmdline(p) for p in lib.strangers() if lib.is_alive(p)}
        if left:
            raise Violation("left behind: %s" % left)


Cell = collections.namedtuple("Cell", "op who call first times action error")


def cell_text(c):
    what = "SIGKILL" if c.action == KILL else "SHORT" if c.error == SHORT else errno_name(c.error)
    return "%s: %s %s %s %s" % (c.op.name, c.who, c.call, what, "all" if c.times == ALL else "#%d" % c.first)


def errno_name(n):
    import errno
    return errno.errorcode.get(n, str(n))


class Matrix:
    def __init__(self):
        self.rigs, self.cells, self.missed, self.violations = {}, collections.Counter(), 0, []
        self.messages, self.core_deaths = collections.Counter(), collections.Counter()
        self.began, self.told, self.slow = time.monotonic(), time.monotonic(), []

    def rig(self, kind):
        if kind not in self.rigs:
            self.rigs[kind] = MainRig(kind)
        return self.rigs[kind]

    def drop(self, kind):
        r = self.rigs.pop(kind, None)
        if r:
            r.destroy()

    def late(self):
        return args.seconds and time.monotonic() - self.began > args.seconds

    def warm_up(self, op):
        """What the operation calls: {(who, call): n}."""
        if op.kind == "fresh":
            return op.cell(None)[1]
        r = self.clear(op)
        for i in range(2):
            op.before(r)
            r.fault.arm()
            op.act(r)
            r.wait_quiet()
            r.fault.disarm()
            counts = r.fault.counts()
            r.wait_steady(op.expect())
            op.verify(r)
            op.after(r)
        return counts

    def clear(self, op):
        """A rig where nothing runs but keep.service."""
        r = self.rig(op.kind)
        up = [n for n, u in r.units().items() if n.endswith(".service") and u["active_state"] != "inactive" and n != "keep.service"]
        if up:
            r.client.call("Stop", names=up)
            r.client.call("ResetFailed", names=up)
        r.wait_steady({"keep.service": "active"})
        return r

    def run(self, c):
        if time.monotonic() - self.told > 30:
            self.told = time.monotonic()
            print("# %6d cells, %d violations; now %s" % (sum(self.cells.values()), len(self.violations), cell_text(c)), flush=True)
        """True when the fault happened."""
        begin = time.monotonic()
        fired = self.run_cell(c)
        took = time.monotonic() - begin
        self.slow.append((took, cell_text(c)))
        if took > 4 * lib.SLOW:
            print("# took %.1f s: %s" % (took, cell_text(c)), flush=True)
        return fired

    def run_fresh(self, c):
        try:
            return c.op.cell(c)[0]
        except Violation as e:
            self.violations.append((cell_text(c), str(e), ""))
            print("VIOLATION %s\n    %s" % (cell_text(c), e), flush=True)
            return True

    def run_cell(self, c):
        if c.op.kind == "fresh":
            return self.run_fresh(c)
        r = self.rig(c.op.kind)
        error, outcome = None, "done"
        try:
            c.op.before(r)
            core = r.status()["daemon"]["core_pid"]
            r.log_since()
            r.fault.arm(c.action, c.who, c.call, c.first, c.times, c.error)
            r.client.timeout = ALL_TIMEOUT if c.times == ALL else TIMEOUT
            try:
                c.op.act(r)
            except Lost as e:
                outcome = "lost"
                error = e
            except Refused as e:
                outcome, error = "refused", e
            except lib.Timeout as e:
                outcome, error = "late", e
            r.client.timeout = TIMEOUT
            r.wait_quiet()
            r.fault.disarm()
            fired = r.fault.fired
            if not fired and not (c.times == ALL and error):
                if error:
                    raise Violation("failed without a fault: %s" % error)
            if outcome == "late" and c.times != ALL:
                raise Violation("no end: %s" % error)
            if outcome == "refused" and len(str(error)) < 12:
                raise Violation("no message: %s" % error)
            if outcome != "done":
                self.messages["%s | %s" % (c.op.name, re_digits(str(error)))] += 1
                if not lib.is_alive(r.keeper):
                    raise Violation("the keeper is dead")
                wait_for(r.status, r.client)
                self.again(r, c.op)
            r.wait_steady(c.op.expect())
            c.op.verify(r)
            self.snapshots(r)
            now = r.units()["keep.service"]["main_pid"]
            if now != r.keep:
                raise Violation("keep.service was pid %d and is %d" % (r.keep, now))
            after = r.status()["daemon"]["core_pid"]
            if after != core and c.action == FAIL and c.who != "core" or after != core and c.action == FAIL and c.error != ERRNO["ENOMEM"]:
                if not isinstance(c.op, DeployCrash) and getattr(c.op, "role", "") != "core":
                    self.core_deaths["%s %s %s" % (c.who, c.call, "SHORT" if c.error == SHORT else errno_name(c.error))] += 1
            c.op.after(r)
            r.wait_steady({"keep.service": "active"} if not isinstance(c.op, (Deploy, Scale, Stays)) else
                          c.op.expect() if not isinstance(c.op, Scale) else Deploy.running | {"keep.service": "active"})
            return fired
        except (AssertionError, Lost, Refused, OSError, KeyError) as e:
            log = "\n".join(r.log_since().splitlines()[-12:])
            self.violations.append((cell_text(c), "%s: %s" % (type(e).__name__, e), log))
            print("VIOLATION %s (%s %s)\n    %s: %s\n%s" % (cell_text(c), outcome, error, type(e).__name__, e,
                                                     "\n".join("        " + l for l in log.splitlines())), flush=True)
            self.drop(c.op.kind)
            self.warm_up(c.op)
            return True

    def snapshots(self, r):
        """The revision a member is on is one that is kept."""
        for n, u in r.units().items():
            kept = "%s/sets/web/revisions/%d/unit" % (r.d.state_dir, u["revision"])
            if n.startswith("web@") and u["revision"] and not os.path.exists(kept):
                raise Violation("%s is on revision %d, which is not kept" % (n, u["revision"]))

    def again(self, r, op):
        """A unit whose restart is under way says so: that is no end yet."""
        end = time.monotonic() + 3 * lib.PATIENCE
        while True:
            try:
                return op.again(r)
            except Refused as e:
                if time.monotonic() > end or "tried again" not in str(e):
                    raise

    def variants(self, op, counts):
        """The rows of one operation: (who, call, action, error, times)."""
        first, last = tuple(args.first.split("/")), tuple(args.last.split("/"))
        for (who, call), n in sorted(counts.items()):
            if (who, call) < first and args.first or (who, call) > last and args.last:
                continue
            if who not in op.whos or (args.who and who not in args.who.split(",")) or (args.call and call not in args.call.split(",")):
                continue
            how, errors = CALLS[INDEX[call]][1:]
            for e in errors + (["SHORT"] if how in ("MOVE", "WRITE") else []):
                if args.error and e not in args.error.split(","):
                    continue
                code = SHORT if e == "SHORT" else ERRNO[e]
                yield who, call, FAIL, code, 1, n
                if e not in ("EINTR", "SHORT", "ENOMEM") and how not in ("NONE",) and (e != "EAGAIN" or who not in ("keeper",)):
                    yield who, call, FAIL, code, ALL, 1
            # A killed keeper is the business of tests/e2e/t_kills.py: nothing here outlives it.
            if who in ("core", "launcher", "logger", "net", "child", "role-child") and how != "NONE" and (not args.error or "KILL" in args.error):
                yield who, call, KILL, 0, 1, n

    def whole(self, op):
        counts = self.warm_up(op)
        for who, call, action, code, times, n in self.variants(op, counts):
            first = args.n or args.begin
            while not self.late():
                fired = self.run(Cell(op, who, call, first, times, action, code))
                if fired:
                    self.cells[(op.name, who)] += 1
                if args.n or times == ALL or (not fired and first >= n):
                    break
                if first > 2 * n + 20:  # an operation that does more each time has no end
                    print("# %s: %s %s: still more at #%d, %d at first" % (op.name, who, call, first, n), flush=True)
                    break
                first += 1

    def sample(self, ops, wanted):
        rows = []
        for op in ops:
            for who, call, action, code, times, n in self.variants(op, self.warm_up(op)):
                rows += [Cell(op, who, call, i, times, action, code) for i in range(1, n + 1)]
        # By their names, not by their places: how often a call is made varies, and one seed means one sample.
        chosen = set(sorted(rows, key=lambda c: zlib.crc32(b"%d %s" % (args.seed, cell_text(c).encode())))[:wanted])
        picked = [c for c in rows if c in chosen]
        print("# %d of %d cells" % (len(picked), len(rows)), flush=True)
        last = None
        for c in picked:
            if self.late():
                break
            if c.op is not last and c.op.kind != "fresh":
                self.clear(c.op)
            last = c.op
            if self.run(c):
                self.cells[(c.op.name, c.who)] += 1
            else:
                self.missed += 1

    def report(self):
        ops = sorted({o for o, _ in self.cells})
        print("%-28s %s" % ("", " ".join("%10s" % w for w in WHO[:7])))
        for o in ops:
            print("%-28s %s" % (o, " ".join("%10d" % self.cells[(o, w)] for w in WHO[:7])))
        print("%d kinds of messages; the most frequent:" % len(self.messages))
        for m, n in self.messages.most_common(args.verbose and 200 or 12):
            print("  %5d %s" % (n, m))
        if args.verbose:
            for t, text in sorted(self.slow)[-15:]:
                print("  %6.2f s %s" % (t, text))
        if self.core_deaths:
            print("core was replaced after (cells):")
            for m, n in self.core_deaths.most_common(40):
                print("  %5d %s" % (n, m))
        print("%d cells in %.0f s, %d violations" % (sum(self.cells.values()), time.monotonic() - self.began, len(self.violations)), flush=True)
        if args.report:
            with open(args.report, "w") as f:
                json.dump({"cells": {"%s/%s" % k: v for k, v in self.cells.items()}, "violations": self.violations}, f, indent=1)


def re_digits(s):
    import re
    return re.sub(r"\d+", "N", s)[:160]


def main():
    if os.geteuid() != 0:
        print("ok - the fault matrix # SKIP needs root")
        return 0
    ops = [o for o in OPS if not args.ops or any(o.name == p[1:] if p[0] == "=" else p in o.name for p in args.ops.split(","))]
    m = Matrix()
    try:
        if args.cells:
            m.sample(ops, args.cells)
        else:
            for op in ops:
                before, cells = time.monotonic(), sum(m.cells.values())
                m.whole(op)
                print("# %-28s %6d cells %6.1f s" % (op.name, sum(m.cells.values()) - cells, time.monotonic() - before), flush=True)
        for r in list(m.rigs.values()):
            r.end()
    finally:
        for kind in list(m.rigs):
            m.drop(kind)
    m.report()
    return 1 if m.violations else 0


if __name__ == "__main__":
    sys.exit(main())
