"""Dependencies, targets, conditions, install links, templates, drop-ins, reloads, on the real daemon."""
from lib import *

QUIET = "StandardOutput=null\nStandardError=null\n"


def flag_unit(s, name, unit="", **service):
    """A oneshot that stays and writes when it comes and goes."""
    more = "".join("%s=%s\n" % kv for kv in service.items())
    return "[Unit]\n%s\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=%s\nExecStop=%s\n%s%s" % (
        unit, s.say("+" + name), s.say("-" + name), QUIET, more)


def states(d, *names):
    return [d.unit(n + ".service")["active_state"] for n in names]


@test
def starts_follow_the_order_and_stops_reverse_it():
    with Stage(lambda s: {
            "a.service": flag_unit(s, "a", "After=b.service\nRequires=b.service"),
            "b.service": flag_unit(s, "b", "Before=a.service\nAfter=c.service\nRequires=c.service"),
            "c.service": flag_unit(s, "c", "Requires=d.service", ExecStartPre="/bin/sleep 0.2"),
            "d.service": flag_unit(s, "d", "Before=c.service"),
            "all.target": "[Unit]\nWants=a.service d.service\nAfter=a.service\n"}) as (s, d):
        d.ctl("start", "all.target")
        check(s.trace() == ["+d", "+c", "+b", "+a"], s.trace())
        check(d.unit("all.target")["active_state"] == "active", "the target is up")
        d.ctl("stop", "d")
        t = s.trace()[4:]
        check(sorted(t) == ["-a", "-b", "-c", "-d"] and t.index("-a") < t.index("-b") < t.index("-c") < t.index("-d"), t)


@test
def requires_stops_with_and_starts_when_the_other_comes_back():
    with Stage(lambda s: {
            "bad.service": "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'test -e %s'\n" % s.path("good"),
            "needs.service": flag_unit(s, "needs", "Requires=bad.service\nAfter=bad.service"),
            "wants.service": flag_unit(s, "wants", "Wants=bad.service\nAfter=bad.service")}) as (s, d):
        r = d.ctl("start", "needs", check=False)
        check(r.rc == 1 and "bad.service" in r.err, r)
        check("bad.service" in d.ctl("status", "needs", check=False).out, d.ctl("status", "needs", check=False).out)
        d.ctl("start", "wants")
        check(s.trace() == ["+wants"], s.trace())
        open(s.path("good"), "w").close()
        d.ctl("start", "bad")
        d.wait_unit("needs.service", active_state="active")
        d.ctl("stop", "bad")
        check(states(d, "bad", "needs", "wants") == ["inactive", "inactive", "active"], states(d, "bad", "needs", "wants"))


@test
def binds_to_part_of_and_requisite_do_what_they_say():
    with Stage(lambda s: {
            "main.service": s.puppets.unit(s.control("m"), "event:up", Restart="no"),
            "bound.service": s.puppets.unit(prefix="[Unit]\nBindsTo=main.service\nAfter=main.service\n"),
            "part.service": s.puppets.unit("event:part", prefix="[Unit]\nPartOf=main.service\nAfter=main.service\n"),
            "requisite.service": s.puppets.unit(prefix="[Unit]\nRequisite=main.service\nAfter=main.service\n")}) as (s, d):
        r = d.ctl("start", "requisite", check=False)
        check(r.rc == 1 and "main.service" in r.err and d.unit("main.service")["active_state"] == "inactive", r)
        d.ctl("start", "bound", "part")
        check(states(d, "main", "bound", "part") == ["active"] * 3, "BindsTo= starts it")
        d.ctl("start", "requisite")
        part = d.unit("part.service")["main_pid"]
        d.ctl("restart", "main")
        u = d.wait_unit("part.service", lambda u: u["active_state"] == "active" and u["main_pid"] not in (0, part))
        d.wait_unit("bound.service", active_state="active")
        s.puppets.drain()
        s.tell("m", "exit:1")
        d.wait_unit("main.service", active_state="failed")
        d.wait_unit("bound.service", active_state="inactive")
        check(d.unit("part.service")["main_pid"] == u["main_pid"], "a crash does not stop what is only part of it")
        d.ctl("start", "main")
        d.wait_unit("bound.service", active_state="active")
        d.ctl("stop", "main")
        check(states(d, "bound", "part", "requisite") == ["inactive"] * 3, states(d, "bound", "part", "requisite"))


@test
def conflicts_stop_each_other_and_on_failure_starts_a_helper():
    with Stage(lambda s: {
            "a.service": flag_unit(s, "a"),
            "b.service": flag_unit(s, "b", "Conflicts=a.service"),
            "fails.service": s.puppets.unit("exit:1", prefix="[Unit]\nOnFailure=report@%n.service\n"),
            "ends.service": s.puppets.unit("exit:0", prefix="[Unit]\nOnSuccess=report@%p.service\n"),
            "report@.service": "[Service]\nType=oneshot\nExecStart=%s\n" % s.say("report %i").replace("%%i", "%i")}) as (s, d):
        d.ctl("start", "a")
        d.ctl("start", "b")
        check(s.trace() == ["+a", "-a", "+b"], s.trace())
        d.ctl("start", "a")
        check(s.trace()[3:] == ["-b", "+a"] and states(d, "a", "b") == ["active", "inactive"], s.trace())
        d.ctl("start", "--no-wait", "fails", "ends")
        wait_for(lambda: {"report fails.service", "report ends"} <= set(s.trace()), 10, lambda: "the reports: %s" % s.trace())


@test
def a_cycle_is_said_and_broken():
    with Stage(lambda s: {
            "a.service": flag_unit(s, "a", "Wants=b.service\nAfter=b.service"),
            "b.service": flag_unit(s, "b", "Wants=c.service\nAfter=c.service"),
            "c.service": flag_unit(s, "c", "After=a.service")}) as (s, d):
        d.ctl("start", "a")
        d.wait_unit("c.service", active_state="active")
        check(sorted(s.trace()) == ["+a", "+b", "+c"], s.trace())
        text = d.log_text() + d.ctl("events").out
        check("cycle" in text and all(n + ".service" in text for n in "abc"), [l for l in text.splitlines() if "cycle" in l])


@test
def conditions_skip_and_asserts_fail():
    with Stage(lambda s: {
            "skip.service": flag_unit(s, "skip", "ConditionPathExists=/nonexistent"),
            "not.service": flag_unit(s, "not", "ConditionPathExists=!/nonexistent\nConditionPathIsDirectory=/"),
            "or.service": flag_unit(s, "or", "ConditionPathExists=|/nonexistent\nConditionPathExists=|/dev/null"),
            "assert.service": flag_unit(s, "assert", "AssertPathExists=/nonexistent"),
            "dep.service": flag_unit(s, "dep", "Requires=skip.service\nAfter=skip.service")}) as (s, d):
        r = d.ctl("start", "skip")
        check("skipped" in r.out and "/nonexistent" in r.out, r)
        check(d.unit("skip.service")["result"] == "condition", d.unit("skip.service"))
        d.ctl("start", "not", "or", "dep")
        r = d.ctl("start", "assert", check=False)
        check(r.rc == 1 and "/nonexistent" in r.err, r)
        check(sorted(s.trace()) == ["+dep", "+not", "+or"], s.trace())


@test
def templates_have_instances_and_specifiers():
    with Stage(lambda s: {
            "t@.service": "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=%s\n" % s.say("%n %p %i %I").replace("%%", "%"),
            "t@two.service": "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=%s\n" % s.say("own")}) as (s, d):
        d.ctl("start", "t@one", "t@two", "t@a-b")
        check(sorted(s.trace()) == ["own", "t@a-b.service t a-b a/b", "t@one.service t one one"], s.trace())
        r = d.ctl("start", "t@", check=False)
        check(r.rc != 0 and "template" in r.err, r)


@test
def drop_ins_apply_and_daemon_reload_shows_what_changed():
    with Stage(lambda s: {
            "a.service": s.puppets.unit("env:X", "env:Y", "event:up", Environment="X=1"),
            "a.service.d/10.conf": "[Service]\nEnvironment=X=2\n",
            "a.service.d/20.conf": "[Service]\nEnvironment=Y=3\n"}) as (s, d):
        d.ctl("start", "a")
        check(s.puppets.wait("env").detail == "X=2" and s.puppets.wait("env").detail == "Y=3", "drop-ins in order")
        text = d.ctl("cat", "a").out
        check("10.conf" in text and "Environment=X=2" in text, text)
        pid = d.unit("a.service")["main_pid"]
        d.write_unit("a.service.d/30.conf", "[Service]\nEnvironment=X=4\n")
        d.write_unit("new.service", flag_unit(s, "new"))
        d.ctl("daemon-reload")
        check(d.unit("a.service")["main_pid"] == pid, "a reload restarts nothing")
        d.ctl("start", "new")
        d.ctl("restart", "a")
        check(s.puppets.wait("env").detail == "X=4", "the new text is in force at the next start")
        d.write_unit("a.service.d/40.conf", "[Service]\nExecStart=\nRestart=nonsense\n")
        r = d.ctl("daemon-reload", check=False)
        check("40.conf" in r.err + r.out, r)
        check(d.unit("a.service")["active_state"] == "active", "a broken file ends nothing")
        os.unlink(d.write_unit("a.service.d/40.conf", ""))
        d.ctl("daemon-reload")
        d.ctl("restart", "a")


def puppets_of(d):
    return sorted(p for p in descendants(d.proc.pid) if is_alive(p) and cmdline(p).startswith(SVC))


@test
def a_service_whose_file_becomes_a_link_keeps_its_name_while_it_runs():
    text = "[Service]\nExecStart=%s fork wait\nRestart=always\nRestartSec=1ms\n# %%s\n" % SVC

    def change(d, meanwhile):
        os.unlink(d.units_dir + "/old.service")
        os.symlink("new.service", d.write_unit("new.service", text % "new").replace("new.service", "old.service"))
        meanwhile(d)

    def run(meanwhile, targets):
        with Daemon({n + ".service": text % n for n in targets}, targets=["%s.service" % n for n in targets]) as d:
            before = {n: d.wait_unit(n + ".service", lambda u: u["main_pid"])["main_pid"] for n in targets}
            ours = wait_for(lambda: (lambda v: len(v) == 2 * len(targets) and v)(puppets_of(d)), 10, "the processes")
            change(d, meanwhile)
            core = d.status()["daemon"]["core_pid"]
            now = {n: d.unit(n + ".service")["main_pid"] for n in targets}
            check(now == before and puppets_of(d) == ours, "%s %s, then %s %s" % (before, ours, now, puppets_of(d)))
            r = d.ctl("start", "new", check=False)
            check((r.rc == 0) == ("new" in targets) and puppets_of(d) == ours, "not a second time: %s" % r)
            os.kill(before["old"], signal.SIGKILL)
            d.wait_unit("old.service", lambda u: u["n_restarts"] == 1 and u["main_pid"] not in (0, before["old"]))
            d.ctl("stop", "old")
            check(len(puppets_of(d)) == 2 * len(targets) - 2, "all of it has ended: %s" % puppets_of(d))
            d.ctl("start", "old")  # from now on that means the other one
            check(d.unit("new.service")["main_pid"] == before.get("new", d.unit("new.service")["main_pid"]), "once is enough")
            d.ctl("restart", "new")
            wait_for(lambda: len(puppets_of(d)) == 2, 10, "one service")
            check(d.status()["daemon"]["core_pid"] == core, "core has ended:\n" + d.log_text())
            d.kill_core()
            check(d.unit("new.service")["main_pid"] and len(puppets_of(d)) == 2, "what is down is forgotten")
    for meanwhile in (lambda d: d.ctl("daemon-reload"), lambda d: d.kill_core()):
        for targets in (["old"], ["old", "new"]):
            run(meanwhile, targets)


@test
def a_service_whose_file_is_gone_runs_on_and_is_not_started_again():
    with Daemon({"a.service": "[Service]\nExecStart=%s wait\n" % SVC}, targets=["a.service"]) as d:
        pid = d.wait_unit("a.service", lambda u: u["main_pid"])["main_pid"]
        text = open(d.units_dir + "/a.service").read()
        os.unlink(d.units_dir + "/a.service")
        check("it keeps its settings while it runs" in d.ctl("daemon-reload").out + d.ctl("daemon-reload").err, "said")
        check(d.unit("a.service")["main_pid"] == pid, "it runs on")
        d.kill_core()
        d.wait_unit("a.service", main_pid=pid)
        check("a.service: its file is gone: it runs on, but" in d.log_text(), "a core that has never seen it says so")
        d.ctl("stop", "a")
        r = d.ctl("start", "a", check=False)
        check(r.rc != 0 and d.unit("a.service")["active_state"] == "inactive", r)
        d.ctl("reset-failed", "a")
        d.write_unit("a.service", text)
        d.ctl("daemon-reload")
        d.ctl("start", "a")


@test
def a_masked_unit_does_not_start():
    with Stage(lambda s: {"b.service": flag_unit(s, "b", "Wants=m.service")}) as (s, d):
        os.symlink("/dev/null", os.path.join(d.units_dir, "m.service"))
        d.ctl("daemon-reload")
        r = d.ctl("start", "m", check=False)
        check(r.rc != 0 and "masked" in r.err, r)
        d.ctl("start", "b")
        check(d.ctl("status", "m", check=False).rc in (3, 4) and "masked" in d.ctl("status", "m", check=False).out, d.ctl("status", "m", check=False))


@test
def enabled_units_start_with_the_default_target():
    with temp_dir() as top:
        run = os.path.join(top, "trace")
        unit = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'echo %s >>" + run + "'\n[Install]\nWantedBy=multi-user.target\n"
        os.makedirs(top + "/d")
        with Daemon({"a.service": unit % "a", "b.service": unit % "b", "i.service": "[Service]\nExecStart=/bin/true\n"},
                    directory=top + "/d") as d:
            r = d.ctl("is-enabled", "a", check=False)
            check(r.rc == 1 and "disabled" in r.out, r)
            check("multi-user.target.wants" in d.ctl("enable", "a").out, "enable says what it links")
            check(d.ctl("is-enabled", "a").out.strip() == "enabled", "enabled")
            check(d.ctl("is-enabled", "i", check=False).out.strip() == "static", d.ctl("is-enabled", "i", check=False))
            d.ctl("enable", "--now", "b")
            check(d.unit("b.service")["active_state"] == "active", "--now starts it")
            d.ctl("disable", "b")
            check(d.unit("b.service")["active_state"] == "active", "disable alone stops nothing")
        os.unlink(run)
        with Daemon(directory=top + "/d") as d:
            d.wait_unit("a.service", active_state="active")
            with open(run) as f:
                check(f.read() == "a\n", "only the enabled one was started")


main()
