"""The control server against clients that are slow, huge, many, broken or do not read: it lives, others are served as before,
its memory and descriptors come back, and each of them is told why."""
import resource, statistics
from lib import *

PING = b'{"method":"org.stayd.Control.Ping"}\0'
CLIENTS_UID_MAX, MESSAGE_MAX = 64, 64 * 1024


def dial(d):
    k = socket.socket(socket.AF_UNIX)
    k.connect(d.socket)  # blocking, as stayctl's: it waits for its turn where the backlog is full
    k.settimeout(60 * PATIENCE)
    return k


def answer(k):
    """The next message, or None at the end of the stream."""
    data = b""
    while not data.endswith(b"\0"):
        try:
            more = k.recv(1 << 16)
        except ConnectionResetError:
            more = b""
        if not more:
            return json.loads(data) if data else None
        data += more
    return json.loads(data[:-1].split(b"\0")[0])


def ask(k, text):
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may be cut off before all of it is sent
        k.sendall(text)
    return answer(k)


def is_closed(k):
    k.settimeout(20 * PATIENCE)
    try:
        while k.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


def latency(d, n=25):
    """Median of connecting, asking and being answered."""
    times = []
    for _ in range(n):
        t = time.monotonic()
        with dial(d) as k:
            check("parameters" in ask(k, PING), "no answer to Ping")
        times.append(time.monotonic() - t)
    return statistics.median(times)


def served_as_before(d, quiet, factor=4, tries=8):
    """Others' latency within a factor of the quiet one. A loaded machine gets some tries, and when it stays loaded
    an order of magnitude more: who is behind a queue waits for seconds."""
    seen = []
    for _ in range(tries):
        seen.append(latency(d))
        if seen[-1] <= factor * max(quiet, latency_floor):
            return
    print("# Ping takes %s ms, %.2f ms before" % (" ".join("%.2f" % (x * 1e3) for x in seen), quiet * 1e3))
    check(min(seen) <= 10 * factor * max(quiet, latency_floor), "Ping takes %.2f ms, %.2f ms before" % (min(seen) * 1e3, quiet * 1e3))


latency_floor = 0.0005


def rss(pid):
    with open("/proc/%d/statm" % pid) as f:
        return int(f.read().split()[1]) * 4  # KiB


def fds(pid):
    return len(os.listdir("/proc/%d/fd" % pid))


@contextlib.contextmanager
def unharmed(d, rss_more=4096):
    """The same core before and after, with its memory and descriptors as they were."""
    core = d.pid_of("core")
    wait_for(lambda: d.pid_of("launcher"), 20, "a launcher")  # core answers before it has all its links
    latency(d)  # whatever it allocates for the first clients it has
    wait_for(lambda n=[]: n.append((fds(core), latency(d, 1))) or len(n) > 1 and n[-1][0] == n[-2][0], 20, "as many descriptors as before")
    before = fds(core), rss(core)
    yield core, latency(d)
    check(d.status()["daemon"]["core_pid"] == core, "core died of it")
    wait_for(lambda: fds(core) <= before[0], 20, lambda: "descriptors to come back to %d, there are %d" % (before[0], fds(core)))
    # a sanitizer keeps what was freed
    more = rss_more if "-san" not in os.path.basename(BUILD) else 1 << 20
    wait_for(lambda: rss(core) <= before[1] + more, 20, lambda: "memory to come back to %d KiB, it is %d" % (before[1], rss(core)))


AS = """
import json, os, resource, socket, sys, time
def dial():
    k = socket.socket(socket.AF_UNIX); k.connect(sys.argv[1]); return k
"""


def as_user(d, uid, code):
    """A process of another user that runs this code; it says a line when it is so far, and ends with its stdin."""
    return adopt(Popen(["/usr/bin/python3", "-c", AS + code, d.socket], user=uid, group=uid, extra_groups=[], cwd="/",
                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))


def end(p):
    p.stdin.close()
    p.wait()


@test
def a_message_must_be_complete_in_five_seconds_however_slowly_it_comes():
    with Stage(lambda s: {}) as (s, d), unharmed(d) as (core, quiet):
        began = time.monotonic()  # the time of the last of them begins later
        slow = [dial(d) for _ in range(20)]
        closed = 0
        while closed < len(slow) and time.monotonic() - began < 30 * PATIENCE:
            for k in slow:
                with contextlib.suppress(OSError):
                    k.send(b"x")
            closed = 0
            for k in slow:
                p = select.poll()
                p.register(k, select.POLLRDHUP)
                closed += any(e & (select.POLLHUP | select.POLLRDHUP) for _, e in p.poll(0))
            select.select([], [], [], 0.2)
            if time.monotonic() - began < 3:
                served_as_before(d, quiet, tries=3)
        check(closed == len(slow), "%d of %d were closed although they sent on" % (closed, len(slow)))
        check(time.monotonic() - began >= 4.9, "not before their time")
        for k in slow:
            k.close()


@test
def what_is_no_message_is_answered_once_and_cut_off():
    with Stage(lambda s: {}) as (s, d), unharmed(d):
        deep = b'{"method":"org.stayd.Control.Ping","parameters":' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}\0"
        for text, why in ((b"x" * (MESSAGE_MAX + 2), "too large"), (b"[" * 60000 + b"\0", "deep"), (deep, "deep"), (b"\xff\xfe\0", ""),
                          (b"\0", ""), (b"null\0", ""), (b"[]\0", "varlink"), (b'{"method":7}\0', "varlink"),
                          (b'{"method":"a.b","parameters":[]}\0', "varlink"), (b'{"method":"a.b","more":1}\0', "varlink"),
                          (b'{"method":"org.stayd.Control.Ping"} x\0', ""), (b'{"method":"org.stayd.Control.Ping"\0', ""),
                          (b'{"method":"\\ud800"}\0', "")):
            with dial(d) as k:
                r = ask(k, text)
                check(r and r["error"] == "org.stayd.Malformed" and why in r["parameters"]["message"], (text[:60], r))
                check(is_closed(k), text[:60])
        with dial(d) as k:  # ten megabytes without an end
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for _ in range(160):
                    k.sendall(b"y" * 65536)
            check(is_closed(k), "cut off")
        for text, error in ((b'{"method":"org.stayd.Control.Nosuch"}\0', "org.varlink.service.MethodNotFound"),
                            (b'{"method":"no.such.Thing"}\0', "org.varlink.service.InterfaceNotFound"),
                            (b'{"method":"org.stayd.Control.Stop","parameters":{"names":"a"}}\0', "org.varlink.service.InvalidParameter"),
                            (b'{"method":"org.stayd.Control.Stop","parameters":{"names":["a"],"no_wiat":true}}\0',
                             "org.varlink.service.InvalidParameter")):
            with dial(d) as k:
                check(ask(k, text)["error"] == error, (text, error))
                check("parameters" in ask(k, PING), "a wrong call is no reason to hang up")


@test
def half_a_connection_is_enough_for_an_answer():
    with Stage(lambda s: {"a.service": s.puppets.unit("event:up")}) as (s, d):
        d.ctl("start", "a")
        half_connections(s, d)


def half_connections(s, d):
    with unharmed(d):
        with dial(d) as k:
            k.sendall(PING)
            k.shutdown(socket.SHUT_WR)
            check("parameters" in answer(k) and is_closed(k), "answered, then closed")
        with dial(d) as k:
            k.sendall(b'{"method":"org.stayd.Control.Start","parameters":{"names":["a"]}}\0')
            k.shutdown(socket.SHUT_WR)
            check(answer(k)["parameters"]["outcomes"][0]["result"] == "done", "a change, too")
        with dial(d) as k:
            k.shutdown(socket.SHUT_WR)
            check(is_closed(k), "nothing more can come")
        with dial(d) as k:
            k.sendall(b'{"method"')
            k.shutdown(socket.SHUT_WR)
            check(is_closed(k), "half a message will never be a whole one")
        with dial(d) as k:
            k.sendall(b'{"method":"org.stayd.Control.Stop","parameters":{"names":["a"]}}\0')  # and gone
        d.wait_unit("a.service", active_state="inactive")


STATUS_ONEWAY = b'{"method":"org.stayd.Control.Status","oneway":true}\0'


@test
def calls_that_want_no_answer_leave_others_their_turns():
    with Stage(lambda s: {"u%d.service" % i: s.puppets.unit("event:up") for i in range(50)}) as (s, d):
        d.ctl("stop", *("u%d" % i for i in range(50)))  # which loads them
        n, served = 1000, 0
        with dial(d) as k:
            k.sendall(STATUS_ONEWAY * n + PING)
            while not select.select([k], [], [], 0)[0]:
                latency(d, 1)
                served += 1
        check(served > 12, "others were served %d times during %d calls" % (served, n))


@test
def calls_that_want_no_answer_are_heard_although_the_client_has_gone():
    with Stage(lambda s: {u + ".service": s.puppets.unit("event:up") for u in "abc"}) as (s, d):
        with dial(d) as k:
            k.sendall(b"".join(b'{"method":"org.stayd.Control.Start","parameters":{"names":["%s"],"no_wait":true},"oneway":true}\0' % u
                               for u in (b"a", b"b", b"c")))
        for u in "abc":
            d.wait_unit(u + ".service", active_state="active")


def question(method, **params):
    return json.dumps({"method": "org.stayd.Control." + method, "parameters": params}).encode() + b"\0"


@test
def units_named_a_thousand_times_are_answered_and_waited_for_once():
    plain = ["u%03d.service" % i for i in range(150)]
    with Stage(lambda s: {**{u: s.puppets.unit("event:up") for u in plain},
                          "set@.service": s.puppets.unit("event:up") + "[X-Replicas]\nCount=2\n"}) as (s, d):
        d.ctl("stop", "set", *plain)  # which loads them
        with unharmed(d), dial(d) as k, dial(d) as waiting:
            for names in (["u*"] * 500 + ["set"] * 300 + ["set@"] * 200, ["u*", "set@*"] + plain * 4 + ["set"] * 3):
                a = ask(k, question("Status", names=names))
                units = [u["name"] for u in a["parameters"]["units"]]
                check(len(units) == len(set(units)) >= len(plain), "%d units, %d of them different" % (len(units), len(set(units))))
                check([x["name"] for x in a["parameters"]["sets"]] == ["set"], a["parameters"]["sets"])
            before = rss(d.pid_of("core"))
            waiting.sendall(question("Wait", names=["*"] * 1000, **{"for": "ready"}))
            latency(d)
            more = rss(d.pid_of("core")) - before
            check(more < 4096 or "-san" in BUILD, "who waits for %d units takes %d KiB" % (len(plain), more))


@test
def files_and_patterns_that_a_guest_asks_for_at_once_are_limited():
    need_root()
    with Stage(lambda s: {"u.service": s.puppets.unit("event:up")}) as (s, d):
        d.ctl("stop", "u")
        for method, names, more in (("Status", ["x%d"], {}), ("IsEnabled", ["x%d"], {}), ("Wait", ["u*"], {"for": "stopped"})):
            for uid, n, is_good in ((65534, 64, True), (65534, 65, False), (0, 1000, True)):
                text = question(method, names=[x % i if "%" in x else x for i in range(n) for x in names], **more)
                p = as_user(d, uid, "k = dial(); k.sendall(%r); b = b''\nwhile not b.endswith(b'\\0'): b += k.recv(65536)\n"
                            "print(b[:-1].decode(), flush=True)" % text)
                a = json.loads(p.line())
                end(p)
                check((a.get("error") is None) == is_good, (method, uid, n, str(a)[:300]))
                check(is_good or "more than 64" in a["parameters"]["message"], a)


@test
def deploys_that_come_to_nothing_take_a_bounded_place_on_the_disk():
    with Stage(lambda s: {"set@.service": s.puppets.unit("event:up", section="[X-Replicas]\nCount=1\n")}) as (s, d):
        kept = lambda what: os.listdir(s.path("state/sets/set/" + what))
        d.ctl("start", "set")
        d.ctl("deploy", "set", "v1")
        for _ in range(110):
            wait_for(lambda: d.ctl("deploy", "set", "v2", "--no-wait", check=False).rc == 0, 20, "the end of the rollout before")
            d.ctl("rollout", "abort", "set", "--no-wait")
        check(len(kept("revisions")) <= 25, sorted(kept("revisions")))
        check(len(kept("rollouts")) == 100, "%d journals are kept" % len(kept("rollouts")))
        d.write_unit("set@.service", "[Service]\nExecStart=\n[X-Replicas]\nCount=1\n")
        for _ in range(40):
            check(d.ctl("deploy", "set", "v3", check=False).rc == 152, "it is refused")
        check(len(kept("revisions")) <= 25, sorted(kept("revisions")))


@test
def owner_of_a_template_takes_neither_all_units_nor_all_followers():
    need_root()
    owners = (4201, 4202, 4203, 4204)
    with Stage(lambda s: {"t@.service": "[Service]\nExecStart=/bin/sleep 1000\n[X-Access]\nOwner=%s\n" % " ".join(map(str, owners))}) as (s, d):
        calls = "".join("c(%r)\n" % question(m, names=["t@x%d-%d" % (r, i) for i in range(60)], no_wait=True)
                        for r in range(5) for m in ("Start", "Stop"))
        p = as_user(d, owners[0], "k = dial()\ndef c(t):\n    k.sendall(t); b = b''\n    while not b.endswith(b'\\0'): b += k.recv(65536)\n"
                    "    print(json.loads(b[:-1]).get('error', 'good'), flush=True)\n" + calls)
        got = [p.line().strip() for _ in range(10)]
        end(p)
        check(got == ["good"] * 10, got)
        n = len([u for u in d.status()["units"] if u["name"].startswith("t@")])
        check(n == 300, "%d instances" % n)
        d.ctl("start", "t@by-root")
        p = as_user(d, owners[1], "k = dial()\nk.sendall(%r); print(k.recv(65536).split(b'\\0')[0].decode(), flush=True)\n" % question("Start", names=["t@new"]))
        a = json.loads(p.line())
        end(p)
        check(a["error"] == "org.stayd.Refused" and "no more than 256" in a["parameters"]["message"], a)
        follow = "ks = [dial() for _ in range(20)]\nn = 0\nfor k in ks:\n    k.sendall(%r); n += b'Busy' not in k.recv(65536)\nprint(n, flush=True)\nsys.stdin.read()" % (
            json.dumps({"method": "org.stayd.Control.Logs", "more": True, "parameters": {"names": ["t@x0-0"]}}).encode() + b"\0")
        ps, places = [], []
        for uid in owners:
            ps.append(as_user(d, uid, follow))
            places.append(int(ps[-1].line()))
        check(places == [8, 8, 8, 0], places)
        with dial(d) as k:
            k.sendall(json.dumps({"method": "org.stayd.Control.Logs", "more": True, "parameters": {"names": ["t@x0-0"]}}).encode() + b"\0")
            check("continues" in answer(k), "root follows")
        for p in ps:
            end(p)


@test
def ten_thousand_connections_of_one_user_shut_nobody_out():
    need_root()
    with Stage(lambda s: {}) as (s, d), unharmed(d) as (core, quiet):
        resource.setrlimit(resource.RLIMIT_NOFILE, (12000, max(12000, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
        flood = as_user(d, 4201, "kept=[]\nfor i in range(10000):\n kept.append(dial())\n if i == 100: print(i, flush=True)\n"
                        # Behind the last connection the daemon still has its backlog to answer.
                        "import select\np = select.poll()\nby_fd = {k.fileno(): k for k in kept}\n"
                        "for fd in by_fd: p.register(fd, select.POLLIN)\nn = 0\n"
                        "while n < %d and (ready := p.poll(%d)):\n for fd, _ in ready:\n"
                        "  n += b'Busy' in by_fd[fd].recv(200)\n  p.unregister(fd)\n"
                        "print('refused', n + len(p.poll(0)), flush=True)\nsys.stdin.read()\n"
                        % (10000 - CLIENTS_UID_MAX, 60000 * PATIENCE))
        others = ("k=dial()\nk.sendall(b'{\"method\":\"org.stayd.Control.Ping\"}\\0')\nassert b'version' in k.recv(4096)\nprint('in', flush=True)\n"
                  "sys.stdin.read()\n")
        check(flood.line(), "the flood has ended")
        n_others = 0
        said = []
        reader = threading.Thread(target=lambda: said.append(flood.line()), daemon=True)
        reader.start()
        while reader.is_alive():  # while it floods
            served_as_before(d, quiet, factor=20)
            if n_others < 5:
                other = as_user(d, 4210 + n_others, others)
                check(other.line() == "in\n", "another user gets in")
                end(other)
                n_others += 1
        check(said and said[0], "the flood has ended")
        n = int(said[0].split()[1])
        check(n == 10000 - CLIENTS_UID_MAX, "%d were told that there are too many" % n)
        check(fds(core) < 200, "%d descriptors" % fds(core))
        served_as_before(d, quiet)  # and while they are held
        more = [as_user(d, 4220 + i, "kept=[dial() for i in range(64)]\nprint('in', flush=True)\nsys.stdin.read()\n") for i in range(4)]
        for p in more:
            check(p.line() == "in\n", "they connect")
        # Answered behind all of them: none is in the backlog any more.
        check("parameters" in ask(dial(d), PING), "and root always gets in")
        check(fds(core) < 300, "users together are bounded as well: %d descriptors" % fds(core))
        for p in [flood] + more:
            end(p)


@test
def who_does_not_read_is_let_go_and_costs_little():
    with Stage(lambda s: {"a.service": s.puppets.unit("spam:40000", "event:up")}) as (s, d):
        d.ctl("start", "a")
        s.puppets.wait("up", deadline=60)
        wait_for(lambda: "0000039999" in d.ctl("logs", "a", "-n", "1").out, 30, "the log")
        with unharmed(d, rss_more=8192) as (core, quiet):
            before, base = rss(core), fds(core)
            big = b'{"method":"org.stayd.Control.Logs","parameters":{"names":["a"],"lines":0}}\0'
            deaf = [dial(d) for _ in range(50)]
            for k in deaf:
                k.sendall(big)
            first = {k: k.recv(4096, socket.MSG_DONTWAIT | socket.MSG_PEEK) for k in deaf if select.select([k], [], [], 5 * PATIENCE)[0]}
            served = [k for k in first if b"not being read" not in first[k]]
            check(2 <= len(served) < len(first), "several wait for large answers, and the later ones are told")
            check(rss(core) - before < 64 * 1024 or "-san" in BUILD, "%d KiB for answers nobody reads" % (rss(core) - before))
            check("parameters" in ask(dial(d), PING), "small answers are still given")
            served[0].settimeout(60 * PATIENCE)
            # The others are let go after half a minute; who begins to read meanwhile gets it all.
            whole = answer(served[0])
            check("0000039999" in whole["parameters"]["logs"][0]["text"][-200:], "all of it")
            served_as_before(d, quiet, tries=3)
            n_left = len(served) - 1
            wait_for(lambda: fds(core) <= base + len(deaf) - n_left, 60, lambda: "%d who read nothing to be let go" % n_left)
            for k in deaf:
                k.close()


@test
def a_follower_that_stops_reading_holds_up_nobody_and_misses_nothing():
    with Stage(lambda s: {"a.service": s.puppets.unit("print:first", s.control("a"), "event:up")}) as (s, d):
        d.ctl("start", "a")
        wait_for(lambda: "first" in d.ctl("logs", "a", check=False).out, 20, "a log")
        with unharmed(d, rss_more=8192) as (core, quiet):
            follow(s, d, core, quiet)


def follow(s, d, core, quiet):
    k = dial(d)
    k.sendall(b'{"method":"org.stayd.Control.Logs","parameters":{"names":["a"],"lines":1},"more":true}\0')
    check(answer(k)["continues"], "it follows")
    before = rss(core)
    s.tell("a", "spam:100000")
    s.tell("a", "event:spammed")
    s.puppets.wait("spammed", deadline=60)
    served_as_before(d, quiet)
    check(rss(core) - before < 8192 or "-san" in BUILD, "%d KiB for one who does not read" % (rss(core) - before))
    seen, data = 0, b""
    while seen < 100000:
        more = k.recv(1 << 20)
        check(more, "the connection ended behind line %d" % seen)
        data += more
        *messages, data = data.split(b"\0")
        for m in messages:
            for log in json.loads(m)["parameters"]["logs"]:
                for n in re.findall(r"\b(\d{10})\b", log["text"]):
                    check(int(n) == seen, "line %s after %d" % (n, seen - 1))
                    seen += 1
    k.close()


@test
def nothing_at_the_sockets_path_is_followed_or_believed():
    need_root()

    class Trapped(Stage):
        def __init__(self):
            super().__init__(lambda s: {})
            self.victim = self.path("victim")
            with open(self.victim, "w") as f:
                f.write("precious")
            os.chmod(self.victim, 0o600)
            for n in ("control.sock", "notify", "audit.head"):
                os.symlink(self.victim, os.path.join(self.daemon.run_dir, n))
    with Trapped() as (s, d):
        check(open(s.victim).read() == "precious" and os.stat(s.victim).st_mode & 0o777 == 0o600, "the target is untouched")
        for n in ("control.sock", "notify"):
            st = os.lstat(os.path.join(d.run_dir, n))
            check((st.st_mode & 0o170777) == 0o140666 and st.st_uid == 0, "%s: %o" % (n, st.st_mode))
    for which, mode in (("run", 0o777), ("run", 0o1777), ("state", 0o777)):
        d = Daemon({}, wait=False)
        os.chmod(os.path.join(d.dir, which), mode)
        try:
            d.start()
            wait_for(lambda: "others can write it" in d.log_text() and "chmod go-w" in d.log_text(), 30, "cause and remedy")
            check(d.proc.wait(30 * PATIENCE) == 6, "it ends, as nothing changes by itself")
            check(not os.path.exists(d.socket), "nothing is begun there")
        finally:
            d.destroy()


@test
def overlapping_pools_give_no_port_twice():
    """Who was given a port binds it some time later; until then nobody else may have it."""
    first = 15000 + (os.getpid() * 61) % 12000
    unit = "[Service]\nExecStart=%s\n[X-Replicas]\nCount=3\nPorts=%d-%d\n"
    with Daemon({"a@.service": unit % (SVC, first, first + 3), "b@.service": unit % (SVC, first + 1, first + 4)}) as d:
        got = [d.ctl_start("start", "a"), d.ctl_start("start", "b")]
        out = [p.communicate(timeout=60)[0] for p in got]
        had = {u["name"]: u["port"] for u in d.members("a") + d.members("b") if u["active_state"] == "active"}
        check(len(had) == len(set(had.values())) and len(had) in (4, 5), "of five ports, each once: %s" % had)
        check("no free port in %d-" % first in "".join(out) or "no free port in %d-" % (first + 1) in "".join(out), out)
        d.kill_core()
        d.ctl("start", "a", "b", check=False)
        d.ctl("restart", "--no-wait", min(had))
        now = wait_for(lambda: (lambda m: m if set(had) <= set(m) else None)(
            {u["name"]: u["port"] for u in d.members("a") + d.members("b") if u["active_state"] == "active"}), 20, "those to be up")
        check(len(now) == len(set(now.values())) and had.items() <= now.items(), "another core: %s, before %s" % (now, had))


def timers(pid):
    """{descriptor: (how often it has expired unread, is it armed)} of the timers of a process."""
    found = {}
    for fd in os.listdir("/proc/%d/fdinfo" % pid):
        try:
            with open("/proc/%d/fdinfo/%s" % (pid, fd)) as f:
                text = f.read()
        except FileNotFoundError:
            continue
        m = re.search(r"^ticks: (\d+)$.*^it_value: \((\d+), (\d+)\)$", text, re.M | re.S)
        if m:
            found[fd] = (int(m.group(1)), m.group(2) != "0" or m.group(3) != "0")
    return found


@test
def message_whose_rest_came_in_time_is_answered_though_core_had_no_processor_for_it():
    with Daemon({}) as d:
        core = d.status()["daemon"]["core_pid"]
        with dial(d) as k:
            before = {fd for fd, (_, armed) in timers(core).items() if armed}

            def new():
                return [fd for fd, (_, armed) in timers(core).items() if armed and fd not in before]
            k.sendall(PING[:20])
            wait_for(new, 10, "the time of a message to be measured")
            clock = new()[0]
            os.kill(core, signal.SIGSTOP)
            try:
                k.sendall(PING[20:])
                wait_for(lambda: timers(core)[clock][0], 20, "that time to be over")
            finally:
                os.kill(core, signal.SIGCONT)
            check("parameters" in (answer(k) or {}), "it is answered")


@test
def reader_of_the_daemons_own_lines_who_stops_for_a_while_misses_none():
    """On a serial console or a terminal after ^S: they wait, and go out by themselves when there is room."""
    with temp_dir() as directory:
        d = Daemon({"s%d.service" % i: "[Service]\nExecStart=%s\n" % SVC for i in range(40)})
        d.output = os.path.join(directory, "output")
        os.mkfifo(d.output)
        reader = os.open(d.output, os.O_RDONLY | os.O_NONBLOCK)
        fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
        os.set_blocking(reader, True)
        d.log_text = lambda: said.decode(errors="replace")
        said = b""
        with d:
            d.ctl("start", *["s%d" % i for i in range(40)])
            while b"done: s39.service is up" not in said:
                check(select.select([reader], [], [], 20 * PATIENCE)[0], "its lines came to an end:\n%s" % said.decode()[-2000:])
                said += os.read(reader, 65536)
            text = said.decode()
            missing = [i for i in range(40) if "stayd: s%d.service: starting: as asked for\n" % i not in text]
            check(not missing and "dropped" not in text, "%s: %s" % (missing, text))
        os.close(reader)


main()
