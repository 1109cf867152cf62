"""Restart= against the table of systemd.service(5), start limits, back-off, on the real daemon."""
from lib import *

MODES = ("no", "always", "on-success", "on-failure", "on-abnormal", "on-abort", "on-watchdog")
# What ended the service -> (how a puppet gets there, further settings, result, modes that restart)
CAUSES = {
    "clean-exit": (["once:%s:exit:0"], {}, "success", {"always", "on-success"}),
    "clean-signal": (["once:%s:kill:TERM"], {}, "success", {"always", "on-success"}),
    "exit-code": (["once:%s:exit:1"], {}, "exit-code", {"always", "on-failure"}),
    "signal": (["once:%s:kill:KILL"], {}, "signal", {"always", "on-failure", "on-abnormal", "on-abort"}),
    # Long: the second run is not to meet them, among 42 units that start on a loaded machine.
    "timeout": (["once:%s:sleep:1000000", "notify:READY=1"], {"Type": "notify", "TimeoutStartSec": "%gs" % (4 * SLOW)}, "timeout",
                {"always", "on-failure", "on-abnormal"}),
    "watchdog": (["once:%s:sleep:1000000", "watchdog:100000"], {"WatchdogSec": "%gs" % (6 * SLOW)}, "watchdog",
                 {"always", "on-failure", "on-abnormal", "on-watchdog"}),
}


@test
def every_mode_restarts_after_what_systemd_restarts_after():
    def units(s):
        files = {}
        for cause, (steps, more, _, _) in CAUSES.items():
            for mode in MODES:
                name = "%s-%s" % (cause, mode)
                flag = os.path.join(s.dir, "flag-" + name)
                files[name + ".service"] = s.puppets.unit(*[t % flag if "%s" in t else t for t in steps], Restart=mode, RestartSec="10ms",
                                                          StandardOutput="null", StandardError="null", **more)
        return files
    with Stage(units) as (s, d):
        d.ctl("start", "--no-wait", *["%s-%s" % (c, m) for c in CAUSES for m in MODES])

        def settled():
            rows = {u["name"][:-len(".service")]: u for u in d.status()["units"] if u["name"].endswith(".service")}
            wrong = []
            for cause, (_, _, result, restarting) in CAUSES.items():
                for mode in MODES:
                    u = rows.get("%s-%s" % (cause, mode))
                    if mode in restarting:
                        ok = u["n_restarts"] == 1 and u["sub_state"] == "running"
                    else:
                        ok = u["n_restarts"] == 0 and u["result"] == result and u["active_state"] == ("inactive" if result == "success" else "failed")
                    if not ok:
                        wrong.append((cause, mode, u and (u["sub_state"], u["result"], u["n_restarts"])))
            settled.wrong = wrong
            return not wrong
        wait_for(settled, 20, lambda: "the table to be true; wrong: %s" % settled.wrong)
        want = sum(1 + (m in r) for _, (_, _, _, r) in CAUSES.items() for m in MODES)
        starts = []

        def all_told():  # "running" is true before the program's first word
            starts.extend(e for e in s.puppets.drain() if e.name == "start")
            return len(starts) >= want
        wait_for(all_told, 20, lambda: "%d starts, of %d" % (want, len(starts)))
        check(len(starts) == want, "%d starts for %d expected" % (len(starts), want))


@test
def exit_status_lists_override_the_mode():
    with Stage(lambda s: {
            "prevent.service": s.puppets.unit("exit:3", Restart="always", RestartPreventExitStatus="3 SIGUSR2"),
            "prevent-sig.service": s.puppets.unit("kill:USR2", Restart="always", RestartPreventExitStatus="3 SIGUSR2"),
            "force.service": s.puppets.unit(s.once("f", "exit:5"), Restart="no", RestartForceExitStatus="5", RestartSec="0"),
            "success.service": s.puppets.unit("exit:75", SuccessExitStatus="TEMPFAIL SIGUSR1", Restart="on-failure"),
            "success-sig.service": s.puppets.unit("kill:USR1", SuccessExitStatus="TEMPFAIL SIGUSR1", Restart="on-failure"),
            "stopped.service": s.puppets.unit("on-term:0", Restart="always", RestartSec="0")}) as (s, d):
        d.ctl("start", "--no-wait", "prevent", "prevent-sig", "force", "success", "success-sig", "stopped")
        d.wait_unit("prevent.service", active_state="failed", result="exit-code", n_restarts=0)
        d.wait_unit("prevent-sig.service", active_state="failed", result="signal", n_restarts=0)
        d.wait_unit("force.service", sub_state="running", n_restarts=1)
        d.wait_unit("success.service", active_state="inactive", result="success", exec_main_status=75, n_restarts=0)
        d.wait_unit("success-sig.service", active_state="inactive", result="success", n_restarts=0)
        d.wait_unit("stopped.service", sub_state="running")
        d.ctl("stop", "stopped")
        check(d.unit("stopped.service")["active_state"] == "inactive", "an asked-for stop is not undone by Restart=always")


@test
def a_start_limit_ends_a_loop_and_a_manual_start_begins_anew():
    with Stage(lambda s: {"a.service": s.puppets.unit("exit:1", prefix="[Unit]\nStartLimitBurst=3\nStartLimitIntervalSec=1h\n",
                                                      Restart="always", RestartSec="0")}) as (s, d):
        d.ctl("start", "a", check=False)
        u = d.wait_unit("a.service", active_state="failed", result="start-limit-hit")
        check(u["n_restarts"] == 3, u)
        check("start-limit" in d.ctl("events", "a").out, d.ctl("events", "a").out)
        check(len([e for e in s.puppets.drain() if e.name == "start"]) == 4, "one asked for, three restarts")
        d.ctl("start", "a", check=False)
        d.wait_unit("a.service", active_state="failed", result="start-limit-hit", n_restarts=3)
        check(len([e for e in s.puppets.drain() if e.name == "start"]) == 4, "four again: a manual start is not counted")
        d.ctl("reset-failed", "a")
        u = d.unit("a.service")
        check((u["active_state"], u["result"], u["n_restarts"]) == ("inactive", "success", 0), u)


@test
def on_limit_slow_goes_on_slowly():
    with Stage(lambda s: {"a.service": s.puppets.unit(
            "exit:1", prefix="[Unit]\nStartLimitBurst=2\nStartLimitIntervalSec=1h\n", Restart="always", RestartSec="0",
            section="[X-Restart]\nOnLimit=slow\n")}) as (s, d):
        d.ctl("start", "a", check=False)
        e = wait_for(lambda: (lambda t: "slowing down" in t and t)(d.ctl("events", "a").out), 10, "the limit")
        u = d.wait_unit("a.service", lambda u: u["sub_state"] == "auto-restart" and "restart in" in u["detail"])
        check("restart in" in u["detail"], (e, u))
        d.ctl("stop", "a")
        check(d.unit("a.service")["active_state"] == "inactive", d.unit("a.service"))


def delays(d, unit):
    """Seconds of each `restart N in T` event."""
    found = re.findall(r"number (\d+) in ([0-9a-z. ]+), after", d.ctl("events", unit).out)

    def seconds(t):
        return sum(float(n) * {"us": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600}[x] for n, x in re.findall(r"([0-9.]+)(us|ms|s|min|h)", t))
    return [seconds(t) for _, t in found]


@test
def the_delay_grows_to_its_maximum_and_is_reset_by_a_manual_start():
    even = "[X-Restart]\nJitterPercent=0\n"
    with Stage(lambda s: {
            "a.service": s.puppets.unit("exit:1", prefix="[Unit]\nStartLimitIntervalSec=0\n", Restart="always", RestartSec="10ms",
                                        RestartSteps="4", RestartMaxDelaySec="160ms", section=even),
            "flat.service": s.puppets.unit("exit:1", prefix="[Unit]\nStartLimitIntervalSec=0\n", Restart="always", RestartSec="20ms",
                                           section=even),
            "jitter.service": s.puppets.unit("exit:1", prefix="[Unit]\nStartLimitIntervalSec=0\n", Restart="always", RestartSec="100ms",
                                             section="[X-Restart]\nJitterPercent=50\n")}) as (s, d):
        d.ctl("start", "--no-wait", "a", "flat", "jitter")
        d.wait_unit("a.service", lambda u: u["n_restarts"] >= 6)
        d.wait_unit("jitter.service", lambda u: u["n_restarts"] >= 6)
        got = delays(d, "a.service")[:6]
        for have, want in zip(got, (0.01, 0.02, 0.04, 0.08, 0.16, 0.16)):
            check(abs(have - want) < 0.002, got)
        check(set(delays(d, "flat.service")) == {0.02}, delays(d, "flat.service"))
        got = delays(d, "jitter.service")
        check(all(0.05 <= x <= 0.15 for x in got) and len(set(got)) > 1, got)
        d.ctl("stop", "a")
        n = len(delays(d, "a.service"))
        d.ctl("start", "--no-wait", "a")
        d.wait_unit("a.service", lambda u: u["n_restarts"] >= 1)
        check(wait_for(lambda: delays(d, "a.service")[n:], 5)[0] < 0.015, delays(d, "a.service")[n:])


@test
def a_stable_run_forgets_earlier_failures():
    with Stage(lambda s: {"a.service": s.puppets.unit(
            s.once("1", "exit:1"), s.once("2", "exit:1"), s.control("c"), "event:stable",
            prefix="[Unit]\nStartLimitIntervalSec=0\n", Restart="always", RestartSec="10ms", RestartSteps="2", RestartMaxDelaySec="1000s",
            section="[X-Restart]\nResetAfterSec=%gs\nJitterPercent=0\n" % SLOW)}) as (s, d):
        d.ctl("start", "--no-wait", "a")
        d.ctl("events", "a")
        e = d.wait_unit("a.service", lambda u: u["n_restarts"] == 2)
        d.ctl("start", "a")  # do not wait for the second delay
        s.puppets.wait("stable")
        pid = d.unit("a.service")["main_pid"]
        end = time.monotonic() + 1.5 * SLOW
        wait_for(lambda: time.monotonic() > end, 5, "a stable run")
        s.tell("c", "exit:1")
        d.wait_unit("a.service", lambda u: u["sub_state"] == "running" and u["main_pid"] not in (0, pid))
        check(abs(delays(d, "a.service")[-1] - 0.01) < 0.002, delays(d, "a.service"))


@test
def a_stop_during_the_back_off_ends_it_and_a_start_skips_it():
    with Stage(lambda s: {"a.service": s.puppets.unit(s.once("x", "exit:1"), "event:up", Restart="always", RestartSec="1h")}) as (s, d):
        d.ctl("start", "a", check=False)
        u = d.wait_unit("a.service", sub_state="auto-restart", active_state="activating")
        check("restart in" in u["detail"], u)
        d.ctl("start", "a")
        s.puppets.wait("up")
        os.kill(d.unit("a.service")["main_pid"], signal.SIGKILL)
        d.wait_unit("a.service", sub_state="auto-restart")
        d.ctl("stop", "a")
        check(d.unit("a.service")["active_state"] == "inactive" or d.unit("a.service")["active_state"] == "failed", d.unit("a.service"))


main()
