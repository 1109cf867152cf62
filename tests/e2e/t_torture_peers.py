"""Torture list 34: a load balancer that hangs, answers errors, or never drains. The real HAProxy cannot be made to
lie, so a go-between on its admin socket does; requests go through HAProxy itself, and none may fail.
(What stay-net makes of nonsense by itself is in t_net; real reloads, restarts and losses in t_rollout_lb.)"""
import socketserver, threading

import rollout_rig
from lib import *
from rollout_rig import *


class Liar:
    """Stands at `path` for the admin socket `real`. mode: honest, hang, error, busy (sessions that never end)."""

    def __init__(self, path, real):
        self.real, self.mode, self.lies = real, "honest", 0
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                with contextlib.suppress(OSError):
                    outer.one(self.request)

        class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
            daemon_threads = True
        self.server = Server(path, Handler)
        os.chmod(path, 0o666)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def one(self, c):
        question = c.recv(1 << 20)
        if self.mode == "hang":
            self.lies += 1
            wait_for(lambda: self.mode != "hang", 60)
            return
        if self.mode == "error":
            self.lies += 1
            c.sendall(b"Internal error: no memory.\n\n")
            return
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(self.real)
            s.sendall(question)
            s.shutdown(socket.SHUT_WR)
            answer = b""
            while part := s.recv(1 << 16):
                answer += part
        c.sendall(self.busy(answer) if self.mode == "busy" else answer)

    def busy(self, text):
        """Every server has three sessions, always."""
        out = []
        for line in text.split(b"\n"):
            f = line.split(b",")
            if len(f) > 20 and f[0] == b"web" and f[1].startswith(b"web") and f[4].isdigit():
                f[4] = b"3"  # scur
                self.lies += 1
            out.append(b",".join(f))
        return b"\n".join(out)

    def close(self):
        self.mode = "honest"
        self.server.shutdown()
        self.server.server_close()


class LiedTo(rollout_rig.Rig):
    def __init__(self, **more):
        super().__init__(replicas=2, **more)

    def __enter__(self):
        for l in self.lbs:
            l.start()
            self.stack.callback(l.stop)
        self.hide()
        self.liar = Liar(self.address(), self.lb.socket)
        self.stack.callback(self.liar.close)
        self.lbs, started = [], self.lbs
        try:
            return super().__enter__()
        finally:
            self.lbs = started


def lied_to(mode, until):
    """A deploy during which the load balancer is like that for a while: it waits, says so, and goes on."""
    def run():
        # It soaks so long that it is not over before the lie begins.
        with LiedTo(rollout={"ProgressDeadlineSec": "60", "MinReadySec": "%dms" % (500 * SLOW)}) as r:
            r.wait_up()
            r.start_load()
            before = r.d.status()["daemon"]
            with r.accounted("load balancer: " + mode):
                p = r.d.ctl_start("deploy", "web", "v2")
                r.wait_step(1, "draining", "stopping", "waiting for ready", "entering the load balancer", "soaking")
                r.liar.mode = mode
                wait_for(lambda: re.search(until, r.rollout()["waits_for"]), 30, lambda: "the wait to be said; it is %r" % r.rollout()["waits_for"])
                check(r.rollout()["state"] == "rolling" and len(r.active()) >= 1, r.rollout())
                r.liar.mode = "honest"
                out = p.communicate(timeout=90 * PATIENCE)[0]
                check(p.returncode == 0, "exit code %d: %s" % (p.returncode, out))
            r.check_all_on("v2")
            now = r.d.status()["daemon"]
            check(now["core_pid"] == before["core_pid"] and r.liar.lies, (before, now, r.liar.lies))
    return run


@test
def load_balancer_that_hangs_or_answers_errors_is_waited_for_with_a_word():
    fork_each({"hang": lied_to("hang", "unreachable|answer"), "error": lied_to("error", "unreachable|error|no such|answer")})


def never_drains(how, rc):
    def run():
        with LiedTo(balancer={"DrainTimeoutSec": "2", "OnDrainTimeout": how}) as r:
            r.wait_up()
            r.start_load()
            r.liar.mode = "busy"
            with r.accounted("load balancer never drains, OnDrainTimeout=" + how):
                out = r.deploy("v2", rc=rc, timeout=90)
            check(re.search("drain|session", out.out + out.err), "why is said: %r" % out)
            r.check_all_on("v2" if rc == 0 else "v1")
            check(r.liar.lies, "it was asked")
            r.liar.mode = "honest"
            r.wait_up()
    return run


@test
def load_balancer_that_never_drains_is_forced_or_given_up_as_configured():
    fork_each({"force": never_drains("force", 0), "abort": never_drains("abort", 150)})


main()
