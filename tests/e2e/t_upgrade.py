#!/usr/bin/python3
"""From version N to N+1 and back, with everything running: no request fails, no process is replaced,
no exit is told wrong.

N+1 is the same sources with STAYD_NEXT (make next), where each record and frame has a field more and says
so. Two ways lead there: `stayctl reexec`, and a keeper that is killed -9 with the other version started
in its place. STAYD_FULL=1: 500 services instead of 20."""
from lib import *
from orphans import EXIT, Reaper, children
from rollout_rig import FULL, Rig, say

without_leak_checks()

SERVICES = 500 if FULL else 20
DEADLY = [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT]


def both_versions(directory):
    """{"N": path, "N+1": path} of stayd, each with the stay-net of its version beside it."""
    need(NEXT + "/stayd")
    need(NEXT + "/stay-net")
    paths = {}
    for name, source in (("N", BUILD), ("N+1", NEXT)):
        os.makedirs(os.path.join(directory, name))
        for program in ("stayd", "stay-net"):
            shutil.copy2(os.path.join(source, program), os.path.join(directory, name))
        paths[name] = os.path.join(directory, name, "stayd")
    return paths


def role_runs(d, role, path):
    for pid in children(d.proc.pid):
        with contextlib.suppress(OSError):
            if os.readlink("/proc/%d/exe" % pid) == path and "--role=" + role in cmdline(pid):
                return True
    return False


class Upgrade:
    def __init__(self, rig, paths):
        self.rig, self.d, self.paths, self.log = rig, rig.d, paths, 0
        self.pids = {}

    def now(self):
        return {u["name"]: u["main_pid"] for u in self.d.status()["units"] if u["name"].endswith(".service")}

    def all_run(self):
        wait_for(lambda: len([u for u in self.d.status()["units"] if u["sub_state"] == "running" and u["main_pid"]]) >= SERVICES + self.rig.replicas, 60,
                 "all services to run")
        return self.now()

    def reexec_to(self, version):
        self.d.ctl("reexec", self.paths[version])

    def restart_as(self, version):
        import lib
        self.d.kill_keeper()
        lib.STAYD = self.paths[version]
        self.d.wait_at_start = False
        self.d.start()

    def arrived(self, version):
        want = "0.1.0" + ("+next" if version == "N+1" else "")

        def is_there():
            r = self.d.ctl("status", "--json", check=False)
            return r.rc == 0 and r.json["daemon"]["version"] == want and r.json["daemon"]["keeper_pid"] == self.d.proc.pid and \
                all(role_runs(self.d, role, self.paths[version]) for role in ("core", "launcher", "logger"))
        wait_for(is_there, 60, "version %s everywhere: %s" % (want, self.d.log_text()[-2000:]))

    def ends_are_told(self, n=5):
        """Some services end in known ways: that is what the log and the successor say."""
        victims = {}
        for i, name in enumerate(sorted(n for n in self.pids if n[0] == "s")[:n]):
            sig = DEADLY[i % len(DEADLY)]
            victims[name] = (self.pids[name], sig)
            os.kill(self.pids[name], sig)
        for name, (pid, sig) in victims.items():
            self.d.wait_unit(name, lambda u: u["sub_state"] == "running" and u["main_pid"] not in (0, pid), deadline=30)
        told = {int(p): status for _name, p, _code, status, _lost in EXIT.findall(self.d.log_text())}
        for name, (pid, sig) in victims.items():
            check(told.get(pid) == sig.name, "%s: %d ended by %s, the log says %s" % (name, pid, sig.name, told.get(pid)))

    def step(self, how, version):
        with self.rig.accounted("%s to %s with %d services" % (how.__name__, version, SERVICES), counters=False):
            how(version)
            self.arrived(version)
            now = self.now()
            check(now == self.pids, "processes were replaced: %s" % {n: (p, now.get(n)) for n, p in self.pids.items() if now.get(n) != p})
            self.ends_are_told()
        self.pids = self.now()


def there_and_back(args):
    import lib
    directory, old = tempfile.mkdtemp(prefix="stayd-next."), lib.STAYD
    os.chmod(directory, 0o755)
    reaper = Reaper()
    try:
        paths = both_versions(directory)
        lib.STAYD = paths["N"]
        units = {"s%03d.service" % i: "[Unit]\nDefaultDependencies=no\n[Service]\nLimitCORE=0\nExecStart=@%s s%03d\nRestart=always\nRestartSec=20ms\n" % (SVC, i)
                 for i in range(SERVICES)}
        units["all.target"] = "[Unit]\nDefaultDependencies=no\nWants=%s\n" % " ".join(sorted(units))
        # What a step costs a request is time on the processor, not an answer: health checks are not to count it.
        with Rig(args=args, units=units, health={"TimeoutSec": "10", "Fall": "3"}) as r:
            r.d.ctl("start", "all.target")
            reaper.start()
            r.start_load(rate=200)
            u = Upgrade(r, paths)
            u.pids = u.all_run()
            for how in (u.restart_as, u.reexec_to):
                for version in ("N+1", "N"):
                    u.step(how, version)
            r.deploy("v2")
            total = r.load.finish()
            check(total["failed"] == 0, total)
            say("%d services, 4 steps: %d requests, %d failed" % (SERVICES, total["sent"], total["failed"]))
    finally:
        reaper.stopping = True
        lib.STAYD = old
        shutil.rmtree(directory, ignore_errors=True)


@test
def an_upgrade_there_and_back_replaces_nothing_with_cgroups():
    there_and_back([])


@test
def an_upgrade_there_and_back_replaces_nothing_with_shims():
    there_and_back(["--tracking=shim"])


@test
def a_next_version_that_does_not_come_up_is_left_again():
    hangs("1")


@test
def a_next_version_that_says_hello_and_hangs_then_is_left_again():
    hangs("late")


def hangs(how):
    with temp_dir() as t:
        os.chmod(t, 0o755)
        paths = both_versions(t)
        unit = "[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=%s wait\n" % SVC
        with Daemon({"a.service": unit}, targets=["a.service"], env={"STAYD_NEXT_HANGS": how}) as d:
            before = d.wait_unit("a.service", lambda u: u["main_pid"])
            r = d.ctl("reexec", paths["N+1"], check=False)
            check(r.rc == 1 and "the previous program again" in r.err, r)
            wait_for(lambda: "going back to the previous" in d.log_text(), 60, "keeper to give up")
            wait_for(lambda: d.ctl("status", "--json", check=False).rc == 0, 30, "an answer")
            check(d.status()["daemon"]["version"] == "0.1.0", d.status()["daemon"])
            check(d.unit("a.service")["main_pid"] == before["main_pid"], "the service did not notice")
            check(os.path.samefile("/proc/%d/exe" % d.proc.pid, STAYD), os.readlink("/proc/%d/exe" % d.proc.pid))


if __name__ == "__main__":
    main()
