"""sd_notify(3): what services say and what becomes of it, on the real daemon."""
from lib import *


@test
def status_errno_and_stopping_show():
    with Stage(lambda s: {"a.service": s.puppets.unit(s.control("a"), "notify:READY=1\\nSTATUS=one", Type="notify")}) as (s, d):
        d.ctl("start", "a")
        check(d.unit("a.service")["status_text"] == "one", d.unit("a.service"))
        s.tell("a", "notify:STATUS=two \x1b[31m red")
        u = d.wait_unit("a.service", lambda u: u["status_text"].startswith("two"))
        check("\x1b" not in u["status_text"], u)
        check("\x1b" not in d.ctl("status", "a", check=False).out, "no escape sequence gets to a terminal")
        s.tell("a", "notify:ERRNO=13\\nSTATUS=no access")
        s.tell("a", "notify:STOPPING=1")
        d.wait_unit("a.service", sub_state="stop-sigterm")
        s.tell("a", "exit:1")
        u = d.wait_unit("a.service", active_state="failed")
        check("EACCES" in d.ctl("status", "a", check=False).out, d.ctl("status", "a", check=False).out)


@test
def mainpid_moves_to_a_process_of_the_unit_and_to_no_other():
    with Stage(lambda s: {"a.service": s.puppets.unit("double-fork", s.control("a"), "event:up", NotifyAccess="all"),
                          "b.service": s.puppets.unit("event:b")}) as (s, d):
        d.ctl("start", "a", "b")
        child, main = s.puppets.wait("child").pid, s.puppets.wait("up").pid
        other = d.unit("b.service")["main_pid"]
        for bad in (other, os.getpid(), 1, 99999999):
            s.tell("a", "notify:MAINPID=%d\\nSTATUS=%d" % (bad, bad))
            d.wait_unit("a.service", status_text=str(bad))
            check(d.unit("a.service")["main_pid"] == main, "MAINPID=%d was believed" % bad)
        check("MAINPID" in d.log_text(), "the refusal is in the log")
        s.tell("a", "notify:MAINPID=%d" % child)
        d.wait_unit("a.service", main_pid=child)
        s.tell("a", "exit:0")
        wait_for(lambda: not is_alive(main), 10, "the first process to end")
        u = d.unit("a.service")
        check(u["sub_state"] == "running" and u["main_pid"] == child, u)
        os.kill(child, signal.SIGKILL)
        d.wait_unit("a.service", active_state="failed", result="signal", exec_main_status=9)


@test
def mainpid_moves_back_and_its_end_and_signals_are_seen():
    for args in ([], ["--tracking=shim"]):
        with Stage(lambda s: {"a.service": s.puppets.unit("double-fork", s.control("a"), "event:up", NotifyAccess="all")}, args=args) as (s, d):
            for last in ("there", "and back"):
                d.ctl("start", "a")
                child, main = s.puppets.wait("child").pid, s.puppets.wait("up").pid
                for pid in (child, main, child) if last == "there" else (child, main, child, main):
                    s.tell("a", "notify:MAINPID=%d" % pid)
                    d.wait_unit("a.service", main_pid=pid)
                d.kill_core()
                check(is_alive(child) and is_alive(main), d.log_text())
                d.ctl("kill", "-s", "KILL", "--who", "main", "a")
                d.wait_unit("a.service", active_state="failed", result="signal", exec_main_status=9)
                wait_for(lambda: not (is_alive(child) or is_alive(main)), 10, "the end of both")


@test
def a_main_process_that_is_another_ones_child_is_signalled_and_its_end_seen():
    for args in ([], ["--tracking=shim"]):
        with Stage(lambda s: {"a.service": s.puppets.unit("fork", s.control("a"), "event:up", NotifyAccess="all", TimeoutStopSec="30s")},
                   args=args) as (s, d):
            def named():
                d.ctl("start", "a")
                child, main = s.puppets.wait("child").pid, s.puppets.wait("up").pid
                s.tell("a", "notify:MAINPID=%d" % child)
                d.wait_unit("a.service", main_pid=child)
                return child, main
            for meanwhile in (lambda: None, d.kill_core):
                child, main = named()
                meanwhile()
                check(is_alive(child) and is_alive(main), d.log_text())
                d.ctl("kill", "-s", "USR1", "--who", "main", "a")
                s.puppets.wait("signal", pid=child, detail="USR1")
                os.kill(child, signal.SIGKILL)
                d.wait_unit("a.service", active_state="failed", result="signal", exec_main_status=9)
                child, main = named()
                meanwhile()
                d.ctl("stop", "a")
                check(d.unit("a.service")["result"] == "success", d.unit("a.service"))
            check("timeout" not in d.log_text(), d.log_text())


@test
def a_control_process_does_not_become_the_main_one():
    with Stage(lambda s: {"a.service": s.puppets.unit(s.control("a"), "event:up", NotifyAccess="all", Type="exec",
                                                      ExecStartPost="%s %s event:post" % (SVC, s.control("post")))}) as (s, d):
        d.ctl("start", "--no-wait", "a")
        main, post = s.puppets.wait("up").pid, s.puppets.wait("post").pid
        s.tell("a", "notify:MAINPID=%d\\nSTATUS=told" % post)
        d.wait_unit("a.service", status_text="told", main_pid=main, sub_state="start-post")
        s.tell("post", "exit:0")
        d.wait_unit("a.service", sub_state="running", main_pid=main)
        check("is the control process" in d.log_text(), d.log_text())


@test
def notify_access_says_who_is_heard():
    def units(s):
        return {m + ".service": s.puppets.unit(s.control(m), "event:up", NotifyAccess=m, ExecStartPost="-" + SVC + " notify:STATUS=post event:post exit:0")
                for m in ("none", "main", "exec", "all")}
    with Stage(units) as (s, d):
        for m in ("none", "main", "exec", "all"):
            d.ctl("start", m)
            pid = d.unit(m + ".service")["main_pid"]
            s.puppets.wait("up", pid=pid)
            s.tell(m, "event:synced")
            s.puppets.wait("synced")
            check(d.unit(m + ".service")["status_text"] == ("post" if m in ("exec", "all") else ""), (m, d.unit(m + ".service")))
            s.tell(m, "notify:STATUS=main")
            s.puppets.wait("no-notify-socket" if m == "none" else "notified", pid=pid)
            if m != "none":
                d.wait_unit(m + ".service", status_text="main")
            s.tell(m, "notify-child:STATUS=child")
            s.tell(m, "event:done")
            s.puppets.wait("done")
            u = d.unit(m + ".service")
            check(u["status_text"] == {"none": "", "all": "child"}.get(m, "main"), (m, u))


@test
def a_stranger_is_not_heard():
    with Stage(lambda s: {"a.service": s.puppets.unit("notify:READY=1\\nSTATUS=mine", Type="notify", NotifyAccess="all")}) as (s, d):
        d.ctl("start", "a")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as k:
            for text in (b"STATUS=theirs", b"MAINPID=1", b"", b"\0" * 100, b"=" * 4000, b"X" * 60000, b"WATCHDOG=trigger"):
                k.sendto(text, os.path.join(d.run_dir, "notify"))
        d.ctl("ping")
        u = d.unit("a.service")
        check(u["status_text"] == "mine" and u["sub_state"] == "running", u)


@test
def a_watchdog_kills_what_hangs_and_can_be_changed_by_the_service():
    fed = 5 * SLOW
    with Stage(lambda s: {
            "fed.service": s.puppets.unit("env:WATCHDOG_USEC", "notify:READY=1", "watchdog:100000", Type="notify", WatchdogSec="%gs" % fed),
            "hangs.service": s.puppets.unit("notify:READY=1", "event:up", Type="notify", WatchdogSec="500ms"),
            "longer.service": s.puppets.unit("notify:READY=1\\nWATCHDOG_USEC=600000000", "event:up", Type="notify", WatchdogSec="500ms"),
            "trigger.service": s.puppets.unit("notify:READY=1", s.control("t"), "event:up", Type="notify", WatchdogSec="10min"),
            "signal.service": s.puppets.unit("notify:READY=1", "event:up", Type="notify", WatchdogSec="500ms", WatchdogSignal="SIGUSR2",
                                             TimeoutAbortSec="%gs" % SLOW)}) as (s, d):
        d.ctl("start", "fed", "hangs", "longer", "trigger", "signal")
        check(s.puppets.wait("env").detail == "WATCHDOG_USEC=%d" % (fed * 1e6), "WATCHDOG_USEC")
        end = time.monotonic() + 1.2 * fed
        u = d.wait_unit("hangs.service", active_state="failed", result="watchdog")
        check(u["exec_main_status"] == signal.SIGABRT, u)
        pid = d.unit("signal.service")["main_pid"]
        d.wait_unit("signal.service", active_state="failed", result="watchdog")
        s.puppets.wait("signal", detail="USR2")
        s.tell("t", "notify:WATCHDOG=trigger")
        d.wait_unit("trigger.service", active_state="failed", result="watchdog")
        wait_for(lambda: time.monotonic() > end, 2 * fed, "more than what is fed has without food")
        for n in ("fed", "longer"):
            u = d.unit(n + ".service")
            check(u["sub_state"] == "running" and u["n_restarts"] == 0, u)


@test
def reloading_and_ready_move_the_state():
    with Stage(lambda s: {"a.service": s.puppets.unit(s.control("a"), "notify:READY=1", Type="notify")}) as (s, d):
        d.ctl("start", "a")
        s.tell("a", "notify:RELOADING=1")
        d.wait_unit("a.service", active_state="reloading")
        s.tell("a", "notify:READY=1")
        d.wait_unit("a.service", active_state="active", sub_state="running")


@test
def stored_descriptors_come_back_after_restarts_and_a_dead_core():
    with Stage(lambda s: {
            "a.service": s.puppets.unit("env:LISTEN_FDS", "env:LISTEN_FDNAMES", s.control("a"), "event:up", Restart="always", RestartSec="0",
                                        FileDescriptorStoreMax="3"),
            "none.service": s.puppets.unit("notify-fd:x", "env:LISTEN_FDS", s.control("n"), "event:up", NotifyAccess="main")}) as (s, d):
        d.ctl("start", "a")
        s.puppets.wait("env", detail="LISTEN_FDS=(unset)")
        s.puppets.wait("env", detail="LISTEN_FDNAMES=(unset)")
        s.puppets.wait("up")

        def store(*names):
            for n in names:
                s.tell("a", "notify-fd:" + n)
            s.tell("a", "notify:STATUS=%s" % "+".join(names))
            d.wait_unit("a.service", status_text="+".join(names))

        def after(what, fds, names):
            what()
            s.puppets.wait("env", detail="LISTEN_FDS=%s" % fds)
            check(s.puppets.wait("env", detail="LISTEN_FDNAMES").detail == "LISTEN_FDNAMES=" + names, names)
            s.puppets.wait("up")

        def crash():
            os.kill(d.unit("a.service")["main_pid"], signal.SIGKILL)
        store("one", "two")
        after(crash, 2, "one:two")
        after(lambda: d.ctl("restart", "a"), 2, "one:two")
        d.kill_core()
        after(crash, 2, "one:two")
        store("three", "four")
        check("FileDescriptorStoreMax=3" in d.log_text(), "the quota is said")
        after(crash, 3, "one:two:three")
        s.tell("a", "notify:FDSTOREREMOVE=1\\nFDNAME=two\\nSTATUS=removed")
        d.wait_unit("a.service", status_text="removed")
        after(crash, 2, "one:three")
        d.ctl("stop", "a")
        after(lambda: d.ctl("start", "a"), "(unset)", "(unset)")
        d.ctl("start", "none")
        s.puppets.wait("up")
        os.kill(d.unit("none.service")["main_pid"], signal.SIGKILL)


@test
def systemd_notify_itself_is_content():
    need("systemd-notify")
    with Stage(lambda s: {"a.service": "[Service]\nType=notify\nNotifyAccess=all\nTimeoutStartSec=20\n"
                          "ExecStart=/bin/sh -c 'systemd-notify --ready --status=hello && exec sleep 1000'\n"}) as (s, d):
        d.ctl("start", "a")
        check(d.unit("a.service")["status_text"] == "hello", d.unit("a.service"))


@test
def a_barrier_is_answered_after_what_came_before():
    with Stage(lambda s: {"a.service": s.puppets.unit("event:up")}) as (s, d):
        d.ctl("start", "a")
        for _ in range(20):
            r, w = os.pipe()
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as k:
                k.connect(os.path.join(d.run_dir, "notify"))
                socket.send_fds(k, [b"BARRIER=1"], [w])
            os.close(w)
            check(select.select([r], [], [], 5 * PATIENCE)[0], "the barrier's descriptor is closed")
            os.close(r)


main()
