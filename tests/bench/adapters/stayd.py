import os
from lib import which
from . import Adapter, mk


class Stayd(Adapter):
    """A cgroup for each service where there is cgroup v2 (the default)."""
    name = "stayd"
    can_pid1 = True
    backoff = "RestartSec=0, StartLimitIntervalSec=0, [X-Restart] JitterPercent=0"
    logs = "own logger: lines, rotation by size, one total cap"
    options = []

    def available(self):
        for p in ("stayd", "stayctl"):
            if not which(p, "stayd"):
                return p + " not found (set PEER_STAYD_DIR)"

    def setup(self, d, specs, log=None):
        u = d + "/units"
        for s in specs:
            mk("%s/%s.service" % (u, s.name),
               "[Unit]\nDefaultDependencies=no\nStartLimitIntervalSec=0\n[Service]\nType=simple\nExecStart=%s %s\nRestart=always\n"
               "RestartSec=0\nStandardOutput=%s\nStandardError=null\n[X-Restart]\nJitterPercent=0\n" % (
                   s.child, s.arg, "journal" if log else "null"))
        mk(u + "/bench.target", "[Unit]\nDefaultDependencies=no\nWants=%s\n" % " ".join(s.name + ".service" for s in specs))
        self.log = log
        for x in ("run", "state"):
            os.makedirs(d + "/" + x, exist_ok=True)

    def argv(self, d):
        return [which("stayd", "stayd"), "--unit-path", d + "/units", "--runtime-dir", d + "/run", "--state-dir", d + "/state",
                "--log-dir", self.log or d + "/log"] + self.options + ["bench.target"]

    def sctl(self, d, *a):
        return [which("stayctl", "stayd"), "--socket", d + "/run/control.sock"] + list(a)

    def status(self, d, s):
        return self.sctl(d, "status", s.name)

    def status_all(self, d, specs):
        return [self.sctl(d, "status")]

    def restart(self, d, s):
        return self.sctl(d, "restart", s.name)

    def binaries(self):
        return [which("stayd", "stayd"), which("stayctl", "stayd")]


class StaydShim(Stayd):
    """Without cgroups: a subreaper above each service."""
    name = "stayd-shim"
    options = ["--tracking=shim"]


ADAPTERS = [Stayd, StaydShim]
