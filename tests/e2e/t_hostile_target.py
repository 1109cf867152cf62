"""Torture list 33, 37: a health check whose target means harm, among units that do not.

Its own unit never becomes available by it; stay-net, which alone talks to it, is back at its size afterwards;
others' checks go on, and others are restarted as quickly as in quiet (medians of the same run, in turn)."""
from hostile_http import HOSTILE, OK, Hostile, answer
from torture import *


def health(target, **more):
    keys = dict({"Ready": target, "IntervalSec": "50ms", "TimeoutSec": "1", "Rise": "1", "Fall": "1"}, **more)
    return "[X-Health]\n" + "".join("%s=%s\n" % kv for kv in keys.items())


class Checked(Rig):
    """A Rig with a victim for latencies, a unit that is checked honestly, and one per hostile server."""

    def __init__(self, names):
        need(STAY_NET)
        self.servers = {"good": Hostile(answer(OK))}
        for n, fn, _, _ in HOSTILE:
            if n in names:
                self.servers["h%d" % len(self.servers)] = Hostile(fn)
        self.evil = [n for n in self.servers if n != "good"]

        def units(s):
            u = {"victim.service": s.puppets.unit("event:victim", prefix=VICTIM, Restart="always", RestartSec="0")}
            u.update({n + ".service": s.puppets.unit("event:" + n, section=health(h.url, TimeoutSec="%d" % (10 * SLOW) if n == "good" else "1")) for n, h in self.servers.items()})
            return u
        super().__init__(units)

    def __exit__(self, *exc):
        r = super().__exit__(*exc)
        for h in self.servers.values():
            h.__exit__()
        return r

    def begin(self):
        self.ctl("start", "--no-wait", *self.evil, check=True)
        for n in self.evil:
            self.d.wait_unit(n + ".service", sub_state="running", deadline=20)

    def end(self):
        self.ctl("stop", *self.evil, check=True)


# Those that a check must not pass for, each with what is bounded in it.
NEVER_HEALTHY = ["status 099", "status 000", "no HTTP at all", "RST mid-body", "RST at once", "one byte a time", "one header byte a time",
                 "accepts, says nothing", "endless headers", "endless header line", "endless 100 Continue", "endless bad body",
                 "negative content-length", "bad chunk size"]


@test
def hostile_targets_make_no_unit_available_and_leave_nothing_behind():
    with Checked(NEVER_HEALTHY) as r:
        r.begin()
        r.ctl("start", "good", check=True)
        r.d.wait_unit("good.service", available=True, deadline=20)
        r.end()
        r.ctl("stop", "good")
        with r.unharmed():
            r.ctl("start", "good", check=True)
            good = r.d.wait_unit("good.service", available=True, deadline=20)
            r.begin()
            net = r.d.pid_of("net")
            last = [0]

            def answered():
                rows = {u["name"]: u for u in r.d.status()["units"]}
                check(not any(rows[n + ".service"]["available"] for n in r.evil), "none of them is healthy: %s" % rows)
                g = rows["good.service"]
                check(g["available"] and g["main_pid"] == good["main_pid"] and g["n_restarts"] == 0, g)
                last[0] = sum(1 for n in r.evil if rows[n + ".service"]["health"] not in ("none", "unknown", ""))
                return all(rows[n + ".service"]["health"] in ("failing", "unhealthy", "not-ready") or "failing" in r.ctl("status", n).out
                           for n in r.evil)
            wait_for(answered, 30, lambda: "a verdict on each of %d, %d are there" % (len(r.evil), last[0]))
            check(r.d.pid_of("net") == net, "stay-net is the same")
            r.end()
            r.ctl("stop", "good")


@test
def hostile_target_delays_no_restart_of_another_unit():
    names = ["endless headers", "endless header line", "endless 100 Continue", "10 GB body", "endless bad body", "one byte a time",
             "accepts, says nothing"]
    with Checked(names) as r:
        r.ctl("start", "victim", "good", check=True)
        r.d.wait_unit("good.service", available=True, deadline=20)

        def main_pid():
            u = r.d.unit("victim.service")
            return u["sub_state"] == "running" and u["main_pid"]
        Latency(r.puppets, lambda pid: os.kill(pid, signal.SIGKILL), main_pid).check("7 hostile probe targets", r.begin, r.end)
        u = r.d.unit("good.service")
        check(u["available"] and u["n_restarts"] == 0, u)


@test
def parser_killed_by_sigsegv_again_and_again_makes_no_unit_unhealthy():
    with Checked(["endless headers"]) as r:
        r.ctl("start", "good", check=True)
        good = r.d.wait_unit("good.service", available=True, deadline=20)
        for _ in range(5):
            net = wait_for(lambda: r.d.pid_of("net"), 20, "a stay-net")
            os.kill(net, signal.SIGSEGV)
            wait_for(lambda: r.d.pid_of("net") not in (None, 0, net), 20, "another stay-net")
            u = r.d.unit("good.service")
            check(u["available"] and u["main_pid"] == good["main_pid"] and u["n_restarts"] == 0, u)
        r.begin()
        r.end()
        check(r.d.unit("good.service")["available"], "checked by the sixth one")


main()
