"""Service types and their commands, as systemd.service(5) has them, on the real daemon."""
from lib import *


def service(*lines, unit=""):
    return "[Unit]\n%s\n[Service]\n%s\n" % (unit, "\n".join(lines))


def state(u):
    return u["active_state"], u["sub_state"], u["result"]


@test
def simple_is_up_once_its_program_runs():
    with Stage(lambda s: {"a.service": s.puppets.unit("event:ran"), "b.service": service("ExecStart=/nonexistent/prog"),
                          "c.service": service("ExecStart=-/nonexistent/prog")}) as (s, d):
        d.ctl("start", "a")
        check(d.unit("a.service")["main_pid"] == s.puppets.wait("ran").pid, "the main pid is the program's")
        r = d.ctl("start", "b", check=False)
        check(r.rc == 1 and "/nonexistent/prog" in r.err and "ENOENT" in r.err and "203/EXEC" in r.err, r)
        u = d.wait_unit("b.service", active_state="failed", result="exit-code")
        check(u["exec_main_code"] == 1 and u["exec_main_status"] == 203, u)
        d.ctl("start", "c")
        d.wait_unit("c.service", active_state="inactive", result="success")


@test
def exec_fails_when_the_program_cannot_be_executed():
    with Stage(lambda s: {"a.service": s.puppets.unit("event:ran", Type="exec"),
                          "b.service": service("Type=exec", "ExecStart=/nonexistent/prog"),
                          "c.service": service("Type=exec", "User=nosuchuser", "ExecStart=/bin/true"),
                          "d.service": service("Type=exec", "WorkingDirectory=/nonexistent", "ExecStart=/bin/true")}) as (s, d):
        d.ctl("start", "a")
        for name, code, words in (("b", 203, ("203/EXEC", "/nonexistent/prog", "ENOENT")), ("c", 217, ("217/USER", "nosuchuser")),
                                  ("d", 200, ("200/CHDIR", "/nonexistent", "ENOENT"))):
            r = d.ctl("start", name, check=False)
            check(r.rc == 1 and all(w in r.err for w in words), r)
            u = d.unit(name + ".service")
            check(state(u) == ("failed", "failed", "exit-code") and u["exec_main_status"] == code, u)


@test
def forking_finds_its_main_process():
    def units(s):
        pid = os.path.join(s.dir, "c.pid")
        return {
            "guess.service": s.puppets.unit("daemonize", "event:guess", Type="forking"),
            "file.service": s.puppets.unit("fork", "daemonize", "pidfile:" + pid, s.control("control"), "event:file",
                                           Type="forking", PIDFile=pid),
            "nofile.service": s.puppets.unit("daemonize", Type="forking", PIDFile="/nonexistent/pid", TimeoutStartSec="1"),
            "bad.service": service("Type=forking", "ExecStart=/bin/sh -c 'exit 4'"),
        }
    with Stage(units) as (s, d):
        d.ctl("start", "guess", "file")
        check(d.unit("guess.service")["main_pid"] == s.puppets.wait("guess").pid, "guessed")
        main = s.puppets.wait("file").pid
        check(d.unit("file.service")["main_pid"] == main, d.unit("file.service"))
        s.tell("control", "exit:7")
        u = d.wait_unit("file.service", active_state="failed", result="exit-code")
        check((u["exec_main_code"], u["exec_main_status"]) == (1, 7), "the status of a process that is not our child: %s" % u)
        os.kill(d.unit("guess.service")["main_pid"], signal.SIGKILL)
        d.wait_unit("guess.service", active_state="failed", result="signal", exec_main_status=9)
        r = d.ctl("start", "bad", check=False)
        check(r.rc == 1 and "status=4" in r.err, r)
        r = d.ctl("start", "nofile", check=False)
        check(r.rc == 1 and d.unit("nofile.service")["result"] == "timeout", r)


@test
def oneshot_runs_its_commands_one_after_the_other():
    with Stage(lambda s: {
            "a.service": service("Type=oneshot", "ExecStart=" + s.say("1"), "ExecStart=-/bin/false", "ExecStart=" + s.say("2"),
                                 "ExecStop=" + s.say("stop")),
            "b.service": service("Type=oneshot", "RemainAfterExit=yes", "ExecStart=/bin/true", "ExecStop=" + s.say("b-stop")),
            "c.service": service("Type=oneshot", "ExecStart=/bin/sh -c 'exit 3'", "ExecStart=" + s.say("never"),
                                 "ExecStopPost=" + s.say("$SERVICE_RESULT $EXIT_CODE $EXIT_STATUS")),
            "d.service": service("Type=oneshot", "RemainAfterExit=yes", "ExecStop=" + s.say("d-stop"))}) as (s, d):
        d.ctl("start", "a")
        check(s.trace() == ["1", "2", "stop"], s.trace())
        check(state(d.unit("a.service")) == ("inactive", "dead", "success"), d.unit("a.service"))
        d.ctl("start", "b", "d")
        check(state(d.unit("b.service")) == ("active", "exited", "success"), d.unit("b.service"))
        check(state(d.unit("d.service")) == ("active", "exited", "success"), d.unit("d.service"))
        d.ctl("stop", "b", "d")
        check(sorted(s.trace()[3:]) == ["b-stop", "d-stop"], s.trace())
        r = d.ctl("start", "c", check=False)
        check(r.rc == 1 and "status=3" in r.err, r)
        check(s.trace()[5:] == ["exit-code exited 3"], s.trace())


@test
def notify_is_up_with_ready_and_fails_without():
    with Stage(lambda s: {
            "a.service": s.puppets.unit(s.control("a"), "event:waits", Type="notify"),
            "b.service": s.puppets.unit("exit:0", Type="notify"),
            "c.service": s.puppets.unit("event:silent", Type="notify", TimeoutStartSec="1s"),
            "after.service": s.puppets.unit("event:after", prefix="[Unit]\nAfter=a.service\nRequires=a.service\n")}) as (s, d):
        p = d.ctl_start("start", "after")
        s.puppets.wait("waits")
        check(d.unit("a.service")["sub_state"] == "start", d.unit("a.service"))
        check(d.unit("after.service")["sub_state"] == "dead", d.unit("after.service"))
        s.tell("a", "notify:READY=1\\nSTATUS=all well")
        s.puppets.wait("after")
        check(p.wait(10 * PATIENCE) == 0, p.stdout.read())
        check(d.unit("a.service")["status_text"] == "all well", d.unit("a.service"))
        check("all well" in d.ctl("status", "a").out, d.ctl("status", "a"))
        r = d.ctl("start", "b", check=False)
        check(r.rc == 1 and d.unit("b.service")["result"] == "protocol", (r, d.unit("b.service")))
        r = d.ctl("start", "c", check=False)
        check(r.rc == 1 and d.unit("c.service")["result"] == "timeout", (r, d.unit("c.service")))


@test
def notify_reload_reloads_by_signal():
    with Stage(lambda s: {
            "a.service": s.puppets.unit("answer-reload", "notify:READY=1", Type="notify-reload"),
            "b.service": s.puppets.unit("event:up", ExecReload="/bin/kill -HUP $MAINPID"),
            "c.service": s.puppets.unit("event:up", ExecReload="/bin/sh -c 'exit 5'"),
            "d.service": s.puppets.unit("event:up")}) as (s, d):
        d.ctl("start", "a", "b", "c", "d")
        pids = {n: d.unit(n + ".service")["main_pid"] for n in "abcd"}
        for n in "bcd":
            s.puppets.wait("up", pid=pids[n])  # before that a signal is its end
        d.ctl("reload", "a")
        s.puppets.wait("signal", pid=pids["a"], detail="HUP")
        d.ctl("reload", "b")
        s.puppets.wait("signal", pid=pids["b"], detail="HUP")
        r = d.ctl("reload", "c", check=False)
        check(r.rc == 1 and "status=5" in r.err, r)
        check(d.ctl("reload", "d", check=False).rc != 0, "nothing to reload")
        for n in "abcd":
            u = d.unit(n + ".service")
            check(u["active_state"] == "active" and u["main_pid"] == pids[n] and u["n_restarts"] == 0, u)


@test
def idle_runs_like_simple():
    with Stage(lambda s: {"a.service": s.puppets.unit("event:ran", Type="idle")}) as (s, d):
        d.ctl("start", "a")
        s.puppets.wait("ran")


@test
def commands_run_in_their_order_with_their_variables():
    def units(s):
        return {"a.service": s.puppets.unit(
            "env:MAINPID", s.control("a"), "notify:READY=1", Type="notify",
            ExecCondition=s.say("condition"), ExecStartPre=s.say("pre ${MAINPID:-none}"),
            ExecStartPost=s.say("post $MAINPID"), ExecReload=s.say("reload $MAINPID"),
            ExecStop=s.say("stop $MAINPID ${SERVICE_RESULT}"),
            ExecStopPost=s.say("stop-post ${MAINPID:-gone} $SERVICE_RESULT ${EXIT_CODE} ${EXIT_STATUS}"))}
    with Stage(units) as (s, d):
        d.ctl("start", "a")
        pid = d.unit("a.service")["main_pid"]
        d.ctl("reload", "a")
        d.ctl("stop", "a")
        want = ["condition", "pre none", "post %d" % pid, "reload %d" % pid, "stop %d success" % pid, "stop-post gone success exited 0"]
        check(s.trace() == want, s.trace())
        d.ctl("start", "a")
        pid = d.unit("a.service")["main_pid"]
        s.tell("a", "kill:SEGV")
        d.wait_unit("a.service", active_state="failed")
        how = "core-dump" if d.unit("a.service")["result"] == "core-dump" else "signal"
        want = ["stop " + how, "stop-post gone %s %s SEGV" % (how, "dumped" if how == "core-dump" else "killed")]
        check(s.trace()[9:] == want, "also after a crash ExecStop= runs, without $MAINPID: %s" % s.trace()[9:])


@test
def a_failing_command_fails_the_start_unless_it_has_a_dash():
    def units(s):
        post = "ExecStopPost=" + s.say("%n $SERVICE_RESULT").replace("%%n", "%n")
        main = "ExecStart=/bin/sleep 1000"
        return {
            "cond.service": service("ExecCondition=/bin/sh -c 'exit 1'", main, post),
            "cond255.service": service("ExecCondition=/bin/sh -c 'exit 255'", main, post),
            "pre.service": service("ExecStartPre=/bin/sh -c 'exit 6'", main, post),
            "predash.service": service("ExecStartPre=-/bin/sh -c 'exit 6'", main),
            "post.service": service("ExecStartPost=/bin/sh -c 'exit 7'", main, post),
            "postdash.service": service("ExecStartPost=-/nonexistent", main),
            "stop.service": service("ExecStop=/bin/sh -c 'exit 8'", main, post),
            "stopdash.service": service("ExecStop=-/bin/sh -c 'exit 8'", main, post),
            "stoppost.service": service("ExecStopPost=/bin/sh -c 'exit 9'", main),
        }
    with Stage(units) as (s, d):
        r = d.ctl("start", "cond")
        check("skipped" in r.out, r)
        check(state(d.unit("cond.service")) == ("inactive", "dead", "exec-condition"), d.unit("cond.service"))
        for name, words in (("cond255", "status=255"), ("pre", "status=6"), ("post", "status=7")):
            r = d.ctl("start", name, check=False)
            check(r.rc == 1 and words in r.err, r)
            check(d.unit(name + ".service")["result"] == "exit-code", d.unit(name + ".service"))
        d.ctl("start", "predash", "postdash", "stop", "stopdash", "stoppost")
        for name in ("predash", "postdash", "stop", "stopdash", "stoppost"):
            check(state(d.unit(name + ".service")) == ("active", "running", "success"), d.unit(name + ".service"))
        d.ctl("stop", "stop", "stopdash", "stoppost", "predash", check=False)
        check(d.unit("stop.service")["result"] == "exit-code", d.unit("stop.service"))
        check(d.unit("stopdash.service")["result"] == "success", d.unit("stopdash.service"))
        check(d.unit("stoppost.service")["result"] == "exit-code", d.unit("stoppost.service"))
        check(d.unit("predash.service")["result"] == "success", d.unit("predash.service"))
        check(sorted(s.trace()) == ["cond.service exec-condition", "cond255.service exit-code", "post.service exit-code",
                                    "pre.service exit-code", "stop.service exit-code", "stopdash.service success"], s.trace())


@test
def timeouts_end_a_start_a_stop_and_a_run():
    with Stage(lambda s: {
            "pre.service": service("ExecStartPre=/bin/sleep 1000", "ExecStart=/bin/true", "TimeoutStartSec=500ms"),
            "stop.service": s.puppets.unit("ignore:TERM", "event:up", TimeoutStopSec="500ms"),
            "nokill.service": s.puppets.unit("ignore:TERM", s.control("n"), "event:up", TimeoutStopSec="500ms", SendSIGKILL="no"),
            "run.service": s.puppets.unit("event:up", RuntimeMaxSec="500ms"),
            "extend.service": s.puppets.unit("event:up", "notify:EXTEND_TIMEOUT_USEC=60000000", s.control("e"), "event:extended",
                                             Type="notify", TimeoutStartSec="%gs" % (2 * SLOW))}) as (s, d):
        r = d.ctl("start", "pre", check=False)
        check(r.rc == 1 and "start-pre takes more than" in r.err, r)
        d.ctl("start", "stop", "nokill", "run")
        for n in ("stop", "nokill"):  # "up" is only what ignores SIGTERM by now
            s.puppets.wait("up", pid=d.unit(n + ".service")["main_pid"])
        r = d.ctl("stop", "stop", check=False)
        u = d.unit("stop.service")
        check(state(u) == ("failed", "failed", "timeout") and u["exec_main_status"] == 9, u)
        pid = d.unit("nokill.service")["main_pid"]
        d.ctl("stop", "nokill", check=False)
        check(is_alive(pid) and d.unit("nokill.service")["active_state"] == "failed", "SendSIGKILL=no leaves it")
        s.tell("n", "exit:0")
        u = d.wait_unit("run.service", active_state="failed", result="timeout")
        p = d.ctl_start("start", "extend")
        s.puppets.wait("extended")
        end = time.monotonic() + 2.5 * SLOW
        wait_for(lambda: time.monotonic() > end, 10, "the first timeout to pass")
        check(d.unit("extend.service")["sub_state"] == "start", d.unit("extend.service"))
        s.tell("e", "notify:READY=1")
        check(p.wait(20 * PATIENCE) == 0, p.stdout.read())


@test
def kill_modes_reach_whom_they_say():
    def units(s):
        return {m + ".service": s.puppets.unit("double-fork", "ignore:USR1", s.control(m), "event:up", KillMode=m, **more)
                for m, more in (("control-group", {}), ("mixed", {}), ("process", {}), ("none", {"TimeoutStopSec": "1s"}))}
    with Stage(units) as (s, d):
        main, child = {}, {}
        for m in ("control-group", "mixed", "process", "none"):
            d.ctl("start", m)
            child[m] = s.puppets.wait("child").pid
            main[m] = s.puppets.wait("up").pid
        d.ctl("stop", "control-group", "mixed", "process", "none", check=False)
        events = s.puppets.drain()
        signals = {(e.pid, e.detail.split()[0]) for e in events if e.name == "signal"}
        check((main["control-group"], "TERM") in signals and (child["control-group"], "TERM") in signals, "control-group: both")
        check((main["mixed"], "TERM") in signals and (child["mixed"], "TERM") not in signals, "mixed: SIGTERM for main only")
        check((main["process"], "TERM") in signals and (child["process"], "TERM") not in signals, "process: main only")
        for m in ("control-group", "mixed"):
            check(not is_alive(main[m]) and not is_alive(child[m]), m)
        check(not is_alive(main["process"]) and is_alive(child["process"]), "process leaves the rest")
        check(is_alive(main["none"]) and is_alive(child["none"]), "none kills nobody")
        for pid in (child["process"], main["none"], child["none"]):
            os.kill(pid, signal.SIGKILL)


@test
def what_comes_after_a_sigkill_can_run():
    with Stage(lambda s: {"a.service": s.puppets.unit(
            "ignore:TERM", "fork", "event:up", TimeoutStopSec="%gs" % SLOW, Restart="always", RestartSec="0",
            ExecStopPost=s.say("post $SERVICE_RESULT"))}) as (s, d):
        d.ctl("start", "a")
        for i in range(3):
            s.puppets.wait("up")
            d.ctl("restart", "a", check=False)
        pid = s.puppets.wait("up").pid
        d.wait_unit("a.service", sub_state="running", main_pid=pid)
        check(s.trace() == ["post timeout"] * 3, "ExecStopPost= was not killed with the others: %s" % s.trace())


@test
def kill_signals_are_those_of_the_file():
    with Stage(lambda s: {
            "a.service": s.puppets.unit("event:up", KillSignal="SIGINT", SendSIGHUP="yes", RestartKillSignal="SIGUSR1",
                                        TimeoutStopSec="%gs" % SLOW),
            "b.service": s.puppets.unit("ignore:TERM", "event:up", FinalKillSignal="SIGQUIT", TimeoutStopSec="300ms")}) as (s, d):
        d.ctl("start", "a", "b")
        a, b = (d.unit(n)["main_pid"] for n in ("a.service", "b.service"))
        s.puppets.wait("up", pid=a), s.puppets.wait("up", pid=b)
        d.ctl("restart", "a", check=False)
        s.puppets.wait("signal", pid=a, detail="USR1")
        a = d.unit("a.service")["main_pid"]
        s.puppets.wait("up", pid=a)
        d.ctl("stop", "a")
        names = [s.puppets.wait("signal", pid=a).detail.split()[0]]
        check("INT" in names or "HUP" in names, names)
        d.ctl("stop", "b", check=False)
        s.puppets.wait("signal", pid=b, detail="QUIT")


main()
