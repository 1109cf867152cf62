#!/usr/bin/python3
"""The demo: four replicas behind HAProxy under constant load, and everything that usually hurts.

A crash, a release, a release during which the daemon's brain is killed, and a broken release, at
1000 requests a second; after each step the load generator says how many were sent and how many
failed. Any number that is not as promised ends it with exit code 1 and a line that says which.
Runs as root or as anybody, in one temporary directory, in under a minute; needs haproxy."""
import argparse, contextlib, os, shutil, signal, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
ap.add_argument("--build", default="build")
ap.add_argument("--rate", type=int, default=1000)
ap.add_argument("--keep", action="store_true", help="leave the directory, to look around in it")
args = ap.parse_args()
os.environ["STAYD_BUILD"] = os.path.abspath(args.build)
sys.path[:0] = [os.path.join(HERE, "..", "e2e")]
import lib  # noqa: E402

REPLICAS = 4
UNIT = """\
[Unit]
Description=Demo shop, replica %i

[Service]
ExecStart={dir}/current/websvc --instance web@%i --work-ms 15
Restart=always
RestartSec=0
TimeoutStopSec=5

[X-Replicas]
Count={replicas}
Ports={first}-{last}

[X-Health]
Ready=http://127.0.0.1:${{PORT}}/healthz
IntervalSec=200ms
TimeoutSec=5
Rise=1
Fall=2

[X-LoadBalancer]
Driver=haproxy
Address={socket}
Backend=web
DrainTimeoutSec=10

[X-Rollout]
Strategy=rolling
MaxUnavailable=1
MinReadySec=200ms
ProgressDeadlineSec=12
AutoRollback=yes
ReleaseRoot={dir}/releases
ReleaseLink={dir}/current
"""
# What each release does beside serving; the file `mode` of its directory.
RELEASES = {"v1": "", "v2": "", "v3": "", "v4": 'healthz-503 "db: connection refused"\n'}

TTY = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
start = time.monotonic()
step_number = 0


def paint(code, text):
    return "\033[%sm%s\033[0m" % (code, text) if TTY else text


def step(text):
    global step_number
    step_number += 1
    print("\n%s %s" % (paint("1", "[%5.1f s] %d." % (time.monotonic() - start, step_number)), paint("1", text)), flush=True)


def say(text):
    print("            " + text, flush=True)


class Wrong(Exception):
    """A promise that was not kept."""


def promise(ok, what, because=""):
    if not ok:
        raise Wrong("%s%s" % (what, "; " + because if because else ""))
    say(paint("32", "ok ") + " " + what)


def show(text):
    for line in text.rstrip().splitlines():
        print("            | " + line, flush=True)


class Demo:
    def __init__(self, directory, stack):
        self.dir, self.stack, self.load = directory, stack, None
        self.totals = None

    # -- set-up

    def make_releases(self):
        for name, mode in RELEASES.items():
            d = os.path.join(self.dir, "releases", name)
            os.makedirs(d)
            shutil.copy2(lib.WEBSVC, d)
            with open(os.path.join(d, "mode"), "w") as f:
                f.write(mode)
        os.symlink("releases/v1", os.path.join(self.dir, "current"))

    def start_all(self):
        import haproxy
        # GET may be repeated by HAProxy when a server dies under it, nothing else: that is what makes a
        # crash invisible. Releases do not need it, and the demo checks that they did not use it.
        lines = ["retry-on all-retryable-errors", "http-request disable-l7-retry unless METH_GET", "option redispatch 1"]
        self.lb = lib.haproxy(os.path.join(self.dir, "lb"), haproxy.Backend("web", slots=8, check="/healthz", lines=lines))
        self.lb.start()
        self.stack.callback(self.lb.stop)
        first = free_block(16)
        text = UNIT.format(dir=self.dir, socket=self.lb.socket, replicas=REPLICAS, first=first, last=first + 15)
        self.d = lib.Daemon({"web@.service": text}, directory=self.dir)
        self.stack.callback(self.d.destroy)
        self.d.start()

    # -- looking

    def retries(self):
        t = self.lb.totals("web")
        return t["wretr"] + t["wredis"]

    def up(self):
        """Names of the servers HAProxy itself would send a request to."""
        return sorted(n for n, r in self.lb.stat("web").items() if r["status"].startswith("UP") and r["weight"] > 0)

    def wait_all_up(self, what, deadline=15):
        lib.wait_for(lambda: len(self.up()) == REPLICAS, deadline, lambda: "%s; HAProxy has %s" % (what, self.up()))

    def releases(self):
        return sorted(str(u.get("release")) for u in self.d.members("web") if u["active_state"] == "active")

    def wait_releases(self, name, deadline=30):
        lib.wait_for(lambda: self.releases() == [name] * REPLICAS, deadline,
                     lambda: "all replicas to be %s; they are %s" % (name, self.releases()))

    def rollout_state(self):
        s = next((s for s in self.d.status()["sets"] if s["name"] == "web"), {})
        return (s.get("rollout") or {}).get("state")

    # -- load

    def begin(self, phase):
        """What comes from here on is counted for this phase."""
        self.load.mark(phase)
        self.retries_before = self.retries()

    def account(self, failed_allowed=0, retried_allowed=False):
        """Sent and failed since begin(), and how many HAProxy had to repeat."""
        p = self.load.mark("between")
        retried = self.retries() - self.retries_before
        say("%d requests sent, %s failed%s, p99 %.0f ms, worst %.0f ms; HAProxy repeated %d"
            % (p["sent"], p["failed"], " " + str(p["kinds"]) if p["failed"] else "", p["p99_ms"], p["max_ms"], retried))
        promise(p["sent"] > 0 and p["ok"] > 0, "the load went on")
        promise(p["failed"] <= failed_allowed, "%d failed" % failed_allowed, "%d did: %s" % (p["failed"], p["kinds"]))
        if not retried_allowed:
            promise(retried == 0, "and no retry hid a failure", "HAProxy repeated %d requests" % retried)
        return p

    # -- the steps

    def run(self):
        step("Four replicas of web, release v1, behind HAProxy on port %d" % self.lb.port("web"))
        self.d.ctl("start", "web")
        self.wait_all_up("four servers up in HAProxy")
        self.wait_releases("v1")
        promise(True, "HAProxy itself says that %s are up" % ", ".join(self.up()))
        self.tell_degraded()

        step("Load: %d requests a second, keep-alive, never repeated by the client" % args.rate)
        self.load = lib.Load("http://127.0.0.1:%d/" % self.lb.port("web"), rate=args.rate, timeout_ms=20000)
        self.stack.callback(self.load.kill)
        self.load.wait_ok(1)
        self.begin("steady")
        show(self.d.ctl("status").out)
        self.load.wait_sent(args.rate)
        self.account()

        self.crash()
        self.release_v2()
        self.release_v3_and_kill_the_brain()
        self.broken_v4()
        self.finish()

    def tell_degraded(self):
        why = sorted({str(x) for u in self.d.members("web") for x in u.get("degraded") or []})
        say("running as %s; degraded: %s" % ("root" if os.getuid() == 0 else "uid %d" % os.getuid(), "; ".join(why) or "nothing"))

    def crash(self):
        step("kill -9 of one replica")
        victim = next(u for u in self.d.members("web") if u["name"].startswith("web@2"))
        self.begin("crash")
        killed = time.monotonic()
        os.kill(victim["main_pid"], signal.SIGKILL)
        u = self.d.wait_unit(victim["name"], lambda u: u["main_pid"] not in (0, None, victim["main_pid"]) and u["active_state"] == "active")
        say("pid %d is dead; pid %d was running %.0f ms later (seen by polling), n_restarts=%d"
            % (victim["main_pid"], u["main_pid"], (time.monotonic() - killed) * 1000, u["n_restarts"]))
        promise(u["n_restarts"] == victim["n_restarts"] + 1, "restarted once")
        self.load.wait_sent(args.rate)
        self.wait_all_up("the restarted one to be back in HAProxy")
        say("what was in flight on it (about %d) HAProxy repeated elsewhere: allowed here, as all are GET" % (args.rate * 0.015 / REPLICAS + 1))
        self.account(retried_allowed=True)

    def release_v2(self):
        step("stayctl deploy web v2")
        self.begin("v2")
        r = self.d.ctl("deploy", "web", "v2", check=False)
        show(r.out + r.err)
        promise(r.rc == 0, "exit code 0", "it was %d" % r.rc)
        promise(self.releases() == ["v2"] * REPLICAS, "all four are v2", str(self.releases()))
        self.account()
        self.served_only("v2")

    def served_only(self, release):
        """The clients see it too: answers from now on carry this release only."""
        self.load.mark("look")
        self.load.wait_ok(100)  # longer than any answer was on its way
        self.load.mark("look")
        seen = self.load.wait_ok(100)["releases"]
        promise(set(seen) == {release}, "clients get %s only" % release, str(seen))

    def release_v3_and_kill_the_brain(self):
        step("stayctl deploy web v3, and kill -9 of the daemon's core in the middle")
        self.begin("v3")
        ctl = self.d.ctl_start("deploy", "web", "v3")
        lib.wait_for(lambda: 0 < self.releases().count("v3") < REPLICAS, 30, lambda: "the middle of the rollout: %s" % self.releases())
        before = self.d.status()["daemon"]
        pids = {u["name"]: u["main_pid"] for u in self.d.members("web") if u.get("release") == "v3"}
        os.kill(before["core_pid"], signal.SIGKILL)
        killed = time.monotonic()
        self.d.wait_answering()
        after = self.d.status()["daemon"]
        say("core %d killed with %d of 4 replaced; core %d answers %.0f ms later and goes on"
            % (before["core_pid"], len(pids), after["core_pid"], (time.monotonic() - killed) * 1000))
        promise(after["core_pid"] != before["core_pid"] and after["keeper_pid"] == before["keeper_pid"], "a new core under the same keeper")
        lib.wait_for(lambda: self.rollout_state() == "done", 30, lambda: "the rollout to be done; it is %s" % self.rollout_state())
        promise(self.releases() == ["v3"] * REPLICAS, "all four are v3", str(self.releases()))
        out = ctl.communicate(timeout=120)[0]
        show(out)
        say("the client's exit code was %d (154: it lost its daemon; the rollout did not)" % ctl.returncode)
        now = {u["name"]: u["main_pid"] for u in self.d.members("web")}
        promise(all(now.get(n) == p for n, p in pids.items()), "no replica that was done was restarted", "%s, now %s" % (pids, now))
        self.wait_all_up("all four in HAProxy")
        self.account()

    def broken_v4(self):
        step("stayctl deploy web v4, which never becomes healthy")
        self.begin("v4")
        r = self.d.ctl("deploy", "web", "v4", check=False)
        show(r.out + r.err)
        promise(r.rc == 150, "exit code 150: rolled back", "it was %d" % r.rc)
        promise("db: connection refused" in r.out + r.err, "the message quotes the probe's answer")
        promise(self.releases() == ["v3"] * REPLICAS, "all four are v3", str(self.releases()))
        self.wait_all_up("all four in HAProxy")
        p = self.account()
        promise("v4" not in p["releases"], "no client ever saw v4", str(p["releases"]))

    def finish(self):
        step("The end")
        self.totals = self.load.finish()
        t = self.totals
        lb_stopped = time.monotonic()
        self.d.stop()
        self.d.assert_clean()
        say("stopped in %.1f s, no process left" % (time.monotonic() - lb_stopped))
        promise(t["sent"] == t["ok"] + t["failed"], "every request is accounted for", str(t))
        promise(t["failed"] == 0, "%d requests in all, 0 failed" % t["sent"], "%d failed: %s" % (t["failed"], t["kinds"]))


def free_block(n):
    """First of n neighbouring free ports."""
    for first in range(28100, 32000, n):
        socks = []
        try:
            for p in range(first, first + n):
                s = lib.socket.socket()
                socks.append(s)
                s.bind(("127.0.0.1", p))
            return first
        except OSError:
            continue
        finally:
            [s.close() for s in socks]
    raise Wrong("no %d free ports in a row" % n)


def main():
    for p in (lib.STAYD, lib.STAYCTL, lib.STAY_NET, lib.WEBSVC, lib.LOAD):
        if not os.path.exists(p):
            sys.exit("demo: %s is missing: run `make demo`" % p)
    directory = tempfile.mkdtemp(prefix="stayd-demo.")
    os.chmod(directory, 0o755)
    demo, failure = None, None
    with contextlib.ExitStack() as stack:
        if not args.keep:
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
        try:
            demo = Demo(directory, stack)
            demo.make_releases()
            demo.start_all()
            demo.run()
        except (Wrong, AssertionError, subprocess.TimeoutExpired, OSError, KeyError, StopIteration) as e:
            failure = "%s: %s" % (type(e).__name__, e)
            if getattr(demo, "d", None):
                print(demo.d.diagnosis())
        except KeyboardInterrupt:
            failure = "interrupted"
    took = time.monotonic() - start
    if failure:
        print("\n%s in step %d after %.0f s: %s" % (paint("1;31", "DEMO FAILED"), step_number, took, failure))
        return 1
    print("\n%s %d requests, 0 failed, %.0f s%s" % (paint("1;32", "DEMO PASSED"), demo.totals["sent"], took,
                                                  "; left in " + directory if args.keep else ""))
    return 0


sys.exit(main())
