"""The instruments themselves: the load generator counts what is so, the service loses nothing."""
import os, signal, socket

from lib import *

for tool in (WEBSVC, LOAD, SVC):
    check(os.path.exists(tool), "%s is not built" % tool)


def web(*args, env=None):
    port = free_ports(1)[0]
    return port, service(WEBSVC, "--port", str(port), *args, env=dict({"RELEASE": "v1", "INSTANCE": "web@1"}, **(env or {})),
                         until="ready on port")


def url(port):
    return "http://127.0.0.1:%d/" % port


@test
def load_counts_no_failure_against_a_good_service():
    for options in ({}, {"close": True}, {"post": 5000}):
        port, s = web("--work-ms", "10")
        with s, Load(url(port), rate=500, **options) as load:
            load.wait_ok(300)
            t = load.finish()
            check(t["failed"] == 0 and t["ok"] == t["sent"] and t["in_flight"] == 0, t)
            check(t["releases"] == {"v1": t["ok"]}, t)
            check(t["p50_ms"] >= 10, "latency is not below the work: %s" % t)


@test
def load_sees_a_killed_service():
    port, s = web("--work-ms", "20")
    with s as p, Load(url(port), rate=500) as load:
        load.wait_ok(200)
        load.mark("killed")
        p.kill()
        p.wait()
        wait_for(lambda: load.peek()["failed"] > 100, 10, "failures")
        t = load.finish()
        check(t["kinds"].get("connect_refused", 0) >= 50 and t["kinds"].get("closed_reused", 0) >= 1, t)
        check(t["sent"] == t["ok"] + t["failed"], t)


@test
def load_counts_a_stall_as_late_requests():
    port, s = web()
    with s as p, Load(url(port), rate=200, connections=8) as load:
        load.wait_ok(50)
        load.mark("stall")
        p.send_signal(signal.SIGSTOP)
        # while it is stopped nothing may end; what was due meanwhile is late by as much
        load.wait_sent(load.peek()["sent"] + 100)
        p.send_signal(signal.SIGCONT)
        t = load.finish()
        check(t["failed"] == 0 and t["max_ms"] >= 400 and t["p99_ms"] >= 300, t)


@test
def load_tells_bad_answers_and_time_outs():
    port, s = web("--errors-percent", "50")
    with s, Load(url(port), rate=200) as load:
        load.wait_ok(50)
        t = load.finish()
        check(t["kinds"].get("http_500", 0) > 10 and t["sent"] == t["ok"] + t["failed"], t)
    port, s = web("--work-ms", "5000")
    with s, Load(url(port), rate=100, timeout_ms=100) as load:
        wait_for(lambda: load.peek()["failed"] > 20, 10, "time-outs")
        check(load.finish()["kinds"].keys() == {"timeout"}, load.total)


@test
def websvc_answers_what_was_queued_when_it_is_told_to_stop():
    port, s = web("--work-ms", "50")
    with s as p:
        p.send_signal(signal.SIGSTOP)
        clients = []
        for _ in range(100):
            c = socket.create_connection(("127.0.0.1", port), timeout=5 * PATIENCE)
            c.sendall(b"GET / HTTP/1.1\r\n\r\n")
            clients.append(c)
        p.send_signal(signal.SIGTERM)
        p.send_signal(signal.SIGCONT)
        answers = [c.recv(4096) for c in clients]
        check(all(b" 200 OK" in a and b"Connection: close" in a for a in answers), answers[0])
        check(p.wait(5 * PATIENCE) == 0, "exit code")
        [c.close() for c in clients]


@test
def websvc_reads_chunked_bodies_and_pipelined_requests():
    port, s = web()
    with s, socket.create_connection(("127.0.0.1", port), timeout=5 * PATIENCE) as c:
        c.sendall(b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;abc\r\nhello\r\n1A\r\nabcdefghijklmnopqrstuvwxyz\r\n"
                  b"0\r\nT: x\r\n\r\nPOST /b HTTP/1.1\r\nContent-Length: 3\r\nConnection: close\r\n\r\nxyz")
        text = b""
        while True:
            b = c.recv(4096)
            if not b:
                break
            text += b
        check(b"POST /a, 31 bytes" in text and b"POST /b, 3 bytes" in text, text)


@test
def websvc_has_the_faults_it_is_asked_for():
    with temp_dir() as d:
        with open(d + "/mode", "w") as f:
            f.write('healthz-503 "db: connection refused"\nignore-term\n')
        port, s = web(env={"RELEASE_DIR": d})
        with s as p:
            status, headers, body = http_get(port, "/healthz")
            check((status, body) == (503, "db: connection refused\n"), (status, body))
            check(headers["X-Release"] == "v1" and headers["X-Instance"] == "web@1", headers)
            p.send_signal(signal.SIGTERM)
            wait_for(lambda: any("ignoring" in l for l in p.lines), 5, "SIGTERM to be ignored")
            check(http_get(port)[0] == 200, "still serving")
    with service(WEBSVC, "--port", "0", "--crash-after-ms", "10") as p:
        check(p.wait(5 * PATIENCE) == -signal.SIGABRT, p.returncode)


@test
def svc_reports_its_steps_and_leaves_the_children_it_was_told_to():
    with temp_dir() as d:
        puppets = Puppets(d)
        with service(SVC, "fork", "double-fork", "on-term:7", env={"PUPPET": puppets.path}) as p:
            e = puppets.wait("start")
            check(e.pid == p.pid, e)
            children = [puppets.wait("child").pid for _ in range(2)]
            p.send_signal(signal.SIGTERM)
            check(puppets.wait("signal", detail="TERM").pid == p.pid and p.wait(5 * PATIENCE) == 7, p.returncode)
            left = strangers()
            check(set(left) == set(children), "a subreaper finds what stays: %s %s" % (left, children))
            for c in children:
                os.kill(c, 9)
            wait_for(lambda: not strangers(), 5, "no stranger")
        puppets.close()


main()
