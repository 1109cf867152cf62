"""Health checks of services: http, tcp and exec probes, rise and fall, liveness, on the real daemon."""
from lib import *

private_network()  # where it is allowed: nobody else's ports


def checks(d, name):
    return {c["check"]: c for c in d.unit(name)["checks"]}


def wait_check(d, name, kind, state, deadline=15.0):
    return wait_for(lambda: (lambda c: c if c["state"] == state else None)(checks(d, name)[kind]), deadline,
                    lambda: "%s check of %s to be %s: %s" % (kind, name, state, checks(d, name)))


@test
def exec_probes_rise_and_fall():
    with Stage(lambda s: {"a.service": s.puppets.unit("event:up", section=(
            "[X-Health]\nReady=exec:/bin/sh -c 'echo p >>%s; exec test -e %s'\nIntervalSec=50ms\nTimeoutSec=5s\nRise=3\nFall=2\n"
            % (s.path("probes"), s.path("ok"))))}) as (s, d):
        d.ctl("start", "a")
        pid = d.unit("a.service")["main_pid"]
        c = wait_check(d, "a.service", "ready", "failing")
        check(c["answer"] == "exit status 1", c)
        check(d.unit("a.service")["health"] == "failing" and not d.unit("a.service")["available"], d.unit("a.service"))
        check("exit status 1" in d.ctl("status", "a").out, d.ctl("status", "a"))
        open(s.path("ok"), "w").close()
        before = os.path.getsize(s.path("probes"))
        wait_check(d, "a.service", "ready", "passing")
        check(os.path.getsize(s.path("probes")) - before >= 4, "three good ones in a row")
        check(d.unit("a.service")["available"], d.unit("a.service"))
        os.unlink(s.path("ok"))
        wait_check(d, "a.service", "ready", "failing")
        u = d.unit("a.service")
        check(u["main_pid"] == pid and u["sub_state"] == "running", "a failing ready check ends nothing")
        events = d.ctl("events", "a").out
        check("unhealthy" in events and "healthy" in events, events)


@test
def http_and_tcp_probes_see_the_port():
    need(STAY_NET)
    ports = free_ports(2)
    server = ("import http.server\nclass H(http.server.BaseHTTPRequestHandler):\n"
              "    def do_GET(self):\n        self.send_response(200 if self.path == \"/ok\" else 503)\n        self.end_headers()\n"
              "    def log_message(self, *a):\n        pass\nimport sys\n"
              "http.server.HTTPServer((\"127.0.0.1\", int(sys.argv[1])), H).serve_forever()\n")
    with Stage(lambda s: {
            "h.service": "[Service]\nEnvironment=PORT=%d\nExecStart=/usr/bin/python3 %s %d\n[X-Health]\nReady=http://127.0.0.1:${PORT}/ok\n"
                         "Live=http://127.0.0.1:${PORT}/bad\nIntervalSec=100ms\nTimeoutSec=5s\nFall=1000\n" % (ports[0], s.path("server.py"), ports[0]),
            "t.service": "[Service]\nExecStart=/usr/bin/python3 %s %d\n[X-Health]\nReady=tcp://127.0.0.1:%d\nIntervalSec=100ms\n"
                         % (s.path("server.py"), ports[1], ports[1]),
            "n.service": "[Service]\nExecStart=/bin/sleep 1000\n[X-Health]\nReady=tcp://127.0.0.1:1\nIntervalSec=100ms\nFall=2\n"}) as (s, d):
        with open(s.path("server.py"), "w") as f:
            f.write(server)
        d.ctl("start", "h", "t", "n")
        c = wait_check(d, "h.service", "ready", "passing", 20)
        check("200" in c["answer"] and c["latency_us"] > 0, c)
        wait_for(lambda: "503" in checks(d, "h.service")["live"]["answer"], 10, lambda: "the answer of the live check: %s" % checks(d, "h.service"))
        wait_check(d, "t.service", "ready", "passing", 20)
        c = wait_check(d, "n.service", "ready", "failing")
        check("refused" in c["answer"].lower(), c)


@test
def a_startup_check_holds_the_start_and_its_timeout_fails_it():
    with Stage(lambda s: {
            "a.service": s.puppets.unit("event:up", section=(
                "[X-Health]\nStartup=exec:/usr/bin/test -e %s\nIntervalSec=50ms\n" % s.path("ok"))),
            "b.service": s.puppets.unit("event:up", TimeoutStartSec="%gs" % (2 * SLOW), section=(
                "[X-Health]\nStartup=exec:/bin/false\nIntervalSec=50ms\n"))}) as (s, d):
        p = d.ctl_start("start", "a")
        s.puppets.wait("up")
        wait_for(lambda: checks(d, "a.service")["startup"]["answer"], 10, "a first answer")
        check(p.poll() is None, "start waits for the startup check")
        open(s.path("ok"), "w").close()
        check(p.wait(20 * PATIENCE) == 0, p.stdout.read())
        r = d.ctl("start", "b", check=False)
        check(r.rc == 1 and "exit status 1" in r.err and "/bin/false" in r.err, r)
        check(d.unit("b.service")["result"] == "timeout", d.unit("b.service"))


@test
def a_failed_live_check_replaces_the_instance():
    with Stage(lambda s: {"a.service": s.puppets.unit("event:up", Restart="on-failure", RestartSec="0", section=(
            "[X-Health]\nLive=exec:/usr/bin/test ! -e %s\nIntervalSec=50ms\nFall=2\n" % s.path("sick")))}) as (s, d):
        d.ctl("start", "a")
        pid = s.puppets.wait("up").pid
        wait_check(d, "a.service", "live", "passing")
        open(s.path("sick"), "w").close()
        s.puppets.wait("signal", pid=pid, detail="TERM")
        os.unlink(s.path("sick"))
        s.puppets.wait("up")
        u = d.wait_unit("a.service", lambda u: u["sub_state"] == "running" and u["main_pid"] not in (0, pid))
        check(u["n_restarts"] >= 1, u)
        check("live check" in d.ctl("events", "a").out, d.ctl("events", "a").out)


@test
def a_stopped_process_is_found_killed_and_replaced():
    with Stage(lambda s: {"a.service": s.puppets.unit("watchdog:1000000", Restart="on-failure", RestartSec="0", TimeoutStopSec="1s", section=(
            "[X-Health]\nLive=exec:/bin/sh -c 'grep -q \"State:.[SRD]\" /proc/$(cat %s)/status'\nIntervalSec=50ms\nFall=2\n" % s.path("pid")),
            ExecStartPost=sh("echo $MAINPID >%s" % s.path("pid")).replace("$$MAINPID", "$MAINPID"))}) as (s, d):
        d.ctl("start", "a")
        pid = d.unit("a.service")["main_pid"]
        wait_check(d, "a.service", "live", "passing")
        os.kill(pid, signal.SIGSTOP)
        d.wait_unit("a.service", lambda u: u["sub_state"] == "running" and u["main_pid"] not in (0, pid), deadline=20)
        check(not is_alive(pid), "the stopped one is gone")
        wait_check(d, "a.service", "live", "passing")



@test
def variables_of_a_target_are_those_the_service_has():
    need(STAY_NET)
    port = free_ports(1)[0]
    server = ("import http.server, sys\nclass H(http.server.BaseHTTPRequestHandler):\n"
              "    def do_GET(self):\n        self.send_response(200 if self.path == \"/ok\" else 503)\n        self.end_headers()\n"
              "    def log_message(self, *a):\n        pass\n"
              "http.server.HTTPServer((\"127.0.0.1\", int(sys.argv[1])), H).serve_forever()\n")
    # PORT=9 is for systemd, where nobody else gives one
    with Stage(lambda s: {"h@.service": "[Service]\nEnvironment=PORT=9 WHERE=bad\nEnvironment=WHERE=ok\n"
                                        "ExecStart=/usr/bin/python3 %s ${PORT}\n[X-Replicas]\nCount=1\nPorts=%d-%d\n"
                                        "[X-Health]\nReady=http://127.0.0.1:${PORT}/${WHERE}\nIntervalSec=100ms\nTimeoutSec=5s\n"
                                        % (s.path("server.py"), port, port)}) as (s, d):
        with open(s.path("server.py"), "w") as f:
            f.write(server)
        d.ctl("start", "--no-wait", "h")
        wait_check(d, "h@1.service", "ready", "passing", 20)


@test
def a_probe_that_hangs_is_ended_and_counts_as_failed():
    with Stage(lambda s: {"a.service": s.puppets.unit("event:up", section=(
            "[X-Health]\nReady=exec:/bin/sh -c 'echo $$$$ >>%s; exec sleep 1000'\nIntervalSec=100ms\nTimeoutSec=500ms\nFall=1\n" % s.path("probes")))}) as (s, d):
        d.ctl("start", "a")
        c = wait_check(d, "a.service", "ready", "failing")
        check("timed out" in c["answer"], c)

        def said():  # one may be ended before it has said who it is
            with open(s.path("probes")) as f:
                return [int(l) for l in f if l.endswith("\n")]
        first = wait_for(said, 10, "a probe's pid")[0]
        wait_for(lambda: not is_alive(first), 10, "the end of the probe's process")


@test
def checks_go_on_after_the_core_was_killed():
    with Stage(lambda s: {"a.service": s.puppets.unit("event:up", section=(
            "[X-Health]\nReady=exec:/usr/bin/test -e %s\nIntervalSec=50ms\nFall=2\nRise=1\n" % s.path("ok")))}) as (s, d):
        open(s.path("ok"), "w").close()
        d.ctl("start", "a")
        wait_check(d, "a.service", "ready", "passing")
        d.kill_core()
        check(checks(d, "a.service")["ready"]["state"] == "passing", "the verdict is remembered")
        os.unlink(s.path("ok"))
        wait_check(d, "a.service", "ready", "failing")


main()
