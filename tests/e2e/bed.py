"""stayd as PID 1 of what a container is (tests/testbed/unshare.sh): namespaces, cgroups and capabilities of its own."""
from lib import *

BED = os.path.join(TOP, "tests/testbed/unshare.sh")
# name: options of the bed, extra options of stayd
BEDS = {
    "rw": (["-m", "rw"], []),                                # podman --systemd=always, privileged
    "ro": (["-m", "ro"], []),                                # read-only cgroups, all capabilities
    "docker": (["-m", "ro", "-c", "docker"], []),            # what docker run gives
    "uid1000": (["-m", "ro", "-c", "none", "-u", "1000"], []),  # USER 1000
}


class Bed(Daemon):
    """A daemon as PID 1 of one of BEDS; pids of the inside are translated."""

    def __init__(self, bed, units=None, command=None, uid=None, wrap=(), expect=0, **more):
        if os.geteuid() != 0:
            skip("the test bed needs root")
        options, args = BEDS[bed] if isinstance(bed, str) else (bed, [])
        self.expect, self.command = expect, command
        super().__init__(units, args=args + list(more.pop("args", ())), wrap=[BED, "-n"] + options + ["--"] + list(wrap), **more)
        os.chmod(self.dir, 0o755)
        if "-u" in options:
            subprocess.run(["chown", "-R", options[options.index("-u") + 1], self.dir], check=True)

    def wait_answering(self, deadline=15.0):
        if self.command is None:
            super().wait_answering(deadline)

    def inner(self):
        """{pid inside: pid here} of all processes of the bed."""
        table = {}
        for pid in descendants(self.proc.pid):
            with contextlib.suppress(OSError):
                with open("/proc/%d/status" % pid) as f:
                    ns = re.search(r"^NSpid:(.*)$", f.read(), re.M).group(1).split()
                if len(ns) == 2:
                    table[int(ns[1])] = pid
        return table

    def pid(self, inner):
        return wait_for(lambda: self.inner().get(inner), 10, "pid %d of the bed" % inner)

    @property
    def init(self):
        return wait_for(lambda: self.inner().get(1), 10, "PID 1 of the bed")

    def kill_core(self, sig=signal.SIGKILL, deadline=10.0):
        before = self.status()["daemon"]["core_pid"]
        os.kill(self.pid(before), sig)
        wait_for(lambda: (lambda r: r.rc == 0 and r.json["daemon"]["core_pid"] != before)(self.ctl("status", "--json", check=False)),
                 deadline, "a new core")

    def stop(self, deadline=30.0, sig=signal.SIGTERM):
        for s in self._streams:
            s.close()
        if self.proc.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.init, sig)
        self.wait_exit(self.expect, deadline)

    def wait_exit(self, code, deadline=30.0):
        try:
            self.proc.wait(deadline * PATIENCE)
        except subprocess.TimeoutExpired:
            raise Timeout("PID 1 did not end within %.0f s" % (deadline * PATIENCE))
        check(self.proc.returncode == code, "the bed ended with %s, not %s:\n%s" % (self.proc.returncode, code, self.log_text()))


def in_beds(*beds):
    """Registers fn(bed) once per bed."""
    def register(fn):
        for bed in beds:
            def one(bed=bed):
                fn(bed)
            one.__name__ = "%s_in_%s" % (fn.__name__, bed)
            test(one)
        return fn
    return register
