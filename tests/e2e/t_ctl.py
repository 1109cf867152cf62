"""Every verb of stayctl against the real daemon: exit codes, JSON, messages; and unit files that are meant to hurt."""
from lib import *


def rows(text):
    return [l.split() for l in text.splitlines() if l.strip()]


@test
def exit_codes_are_those_of_the_contract():
    with Stage(lambda s: {
            "up.service": s.puppets.unit("event:up"), "down.service": s.puppets.unit(),
            "fails.service": s.puppets.unit("exit:3"), "broken.service": "[Service]\nRestart=always\n",
            "refuses.service": s.puppets.unit(prefix="[Unit]\nRefuseManualStart=yes\n")}) as (s, d):
        d.ctl("start", "up")
        d.ctl("start", "fails", check=False)
        d.wait_unit("fails.service", active_state="failed")
        for want, words in (
                (0, "status"), (0, "status up"), (3, "status down"), (3, "status fails"), (4, "status nosuch"),
                (0, "is-active up"), (3, "is-active down"), (4, "is-active nosuch"), (0, "is-failed fails"), (1, "is-failed up"),
                (0, "is-enabled up"), (5, "start nosuch"), (5, "stop nosuch"), (6, "start broken"), (152, "start refuses"),
                (7, "reload down"), (2, "strat up"), (2, "start"), (2, "start --nosuchflag up"), (2, "kill -s NOSUCH up"),
                (0, "start up"), (0, "stop down"), (0, "ping"), (0, "version"), (0, "plan --help"), (0, "--help"),
                (0, "list-units"), (0, "ps"), (0, "show up"), (0, "cat up"), (0, "logs up"), (0, "events"), (0, "explain Restart"),
                (0, "reset-failed fails"), (0, "daemon-reload"), (0, "completion bash"), (2, "completion nosuch")):
            r = d.ctl(*words.split(), check=False)
            check(r.rc == want, "stayctl %s: exit %d, want %d\n%s%s" % (words, r.rc, want, r.out, r.err))
            check("Traceback" not in r.err and (r.rc == 0 or r.err or words.startswith(("is-", "status"))), r)
        r = subprocess.run([STAYCTL, "--socket", s.path("none"), "start", "up"], capture_output=True, text=True)
        check(r.returncode == 154 and "hint:" in r.stderr, r)
        r = d.ctl("start", "--timeout", "200ms", "slow", check=False)
        d.write_unit("slow.service", s.puppets.unit(Type="notify"))
        r = d.ctl("start", "--timeout", "300ms", "slow", check=False)
        check(r.rc == 153 and "r-" in r.err, r)
        d.ctl("stop", "slow")


@test
def mistakes_are_answered_with_what_was_meant():
    with Stage(lambda s: {"database.service": s.puppets.unit()}) as (s, d):
        for words, meant in (("strat database", "start"), ("start databse", "database"), ("status databse", "database"),
                             ("start --no-wiat database", "--no-wait")):
            r = d.ctl(*words.split(), check=False)
            check(r.rc != 0 and meant in r.err and "hint:" in r.err, r)


@test
def json_is_one_document_that_begins_with_its_schema():
    with Stage(lambda s: {"a.service": s.puppets.unit("print:hello")}) as (s, d):
        d.ctl("start", "a")
        for words in ("status", "status a", "ps", "list-units", "show a", "cat a", "logs a", "events", "is-active a", "is-enabled a",
                      "version", "ping", "start a", "wait a", "disable --now a", "enable --now a", "check a"):
            r = d.ctl(*words.split(), "--json", check=False, env=dict(os.environ, STAYD_UNIT_PATH=d.units_dir))
            if words == "check a":
                continue  # reads files of its own search path
            doc = r.json
            check(next(iter(doc)) == "schema" and doc["schema"].startswith("stay."), (words, r.out[:200]))
            check(len(r.out.strip().splitlines()) == 1, (words, "one line"))
        u = d.unit("a.service")
        for key in ("name load_state active_state sub_state result main_pid n_restarts exec_main_code exec_main_status invocation_id "
                    "control_group since status_text set instance release revision health lb_state port degraded").split():
            check(key in u, "status --json has no %s" % key)


@test
def a_failed_start_names_the_cause_and_shows_the_log():
    with Stage(lambda s: {"a.service": s.puppets.unit("print:reading the configuration", "eprint:no such table: users", "exit:3", Type="notify"),
                          "b.service": s.puppets.unit("print:hello")}) as (s, d):
        d.ctl("start", "b")
        wait_for(lambda: "hello" in d.ctl("logs", "b").out, 10, "the logger, which is waited for a second only, to be there")
        r = d.ctl("start", "a", check=False)
        check(r.rc == 1 and r.out == "", r)
        check(r.err.startswith("error: start a.service: failed: main process: code=exited, status=3"), r)
        check("no such table: users" in r.err and "reading the configuration" in r.err, r)
        check(r.err.count("hint:") == 1 and r.err.strip().splitlines()[-1].strip().startswith("hint: stayctl logs a.service"), r)


@test
def logs_have_counts_times_and_follow():
    with Stage(lambda s: {"a.service": s.puppets.unit("spam:50", s.control("a"), "event:up")}) as (s, d):
        d.ctl("start", "a")
        s.puppets.wait("up")
        wait_for(lambda: "0000000049" in d.ctl("logs", "a").out, 10, "the last line")
        check(len([l for l in d.ctl("logs", "a", "-n", "5").out.splitlines()]) == 5, d.ctl("logs", "a", "-n", "5").out)
        check(len(d.ctl("logs", "a", "-n", "0").out) == 0, "-n 0 shows none")
        check("0000000000" in d.ctl("logs", "a", "--since", "10min").out, "since ten minutes")
        check(d.ctl("logs", "a", "--since", "nonsense", check=False).rc == 2, "bad time")
        p = d.ctl_start("logs", "-f", "-n", "1", "a")
        seen = queue.Queue()
        threading.Thread(target=lambda: [seen.put(l) for l in p.stdout], daemon=True).start()
        seen.get(timeout=10 * PATIENCE)
        s.tell("a", "print:followed")
        while "followed" not in seen.get(timeout=10 * PATIENCE):
            pass
        p.kill()
        p.wait()


@test
def events_follow_and_say_why():
    with Stage(lambda s: {"a.service": s.puppets.unit("event:up", Restart="on-failure", RestartSec="50ms")}) as (s, d):
        e = d.events()
        d.ctl("start", "a")
        e.wait(lambda x: any(y.get("unit") == "a.service" and y["event"] == "ready" for y in x.get("events", [x])), what="ready")
        os.kill(d.unit("a.service")["main_pid"], signal.SIGSEGV)
        e.wait(lambda x: any(y.get("event") == "restart" for y in x.get("events", [x])), what="restart")
        d.wait_unit("a.service", sub_state="running", n_restarts=1)
        d.ctl("stop", "a")
        text = d.ctl("events", "a").out
        for want in ("Start a.service by uid %d" % os.getuid(), "as asked for", "signal=SIGSEGV", "number 1 in", "restart 1", "stopping"):
            check(want in text, "%r in\n%s" % (want, text))
        for line in text.splitlines() + d.log_text().splitlines():
            check(not re.search(r"\b(\w+): \1$|request \d+ by|starting\s+starting|stopped\s+stopped", line), line)


@test
def kill_wait_show_and_cat_do_what_they_say():
    with Stage(lambda s: {"a.service": s.puppets.unit("ignore:USR1", "double-fork", s.control("a"), "event:up"),
                          "b.service": s.puppets.unit("event:b", Type="notify")}) as (s, d):
        d.ctl("start", "a")
        child, main = s.puppets.wait("child").pid, s.puppets.wait("up").pid
        d.ctl("kill", "-s", "USR1", "a", "--who", "main")
        s.puppets.wait("signal", pid=main, detail="USR1")
        d.ctl("kill", "-s", "SIGHUP", "a")
        check({s.puppets.wait("signal", detail="HUP").pid, s.puppets.wait("signal", detail="HUP").pid} == {main, child}, "all by default")
        p = d.ctl_start("wait", "a", "--for", "stopped", "--timeout", "30s")
        d.ctl("stop", "a")
        check(p.wait(20 * PATIENCE) == 0, p.stdout.read())
        check(d.ctl("kill", "a", check=False).rc == 7, "nothing to kill")
        check(d.ctl("wait", "a", "--for", "ready", "--timeout", "100ms", check=False).rc == 153, "a wait has an end")
        d.ctl("start", "a")
        check(d.ctl("show", "-p", "main_pid", "a").out.strip() == "main_pid=%d" % d.unit("a.service")["main_pid"], d.ctl("show", "-p", "main_pid", "a"))
        text = d.ctl("cat", "a").out
        check("ExecStart=" in text and "a.service" in text, text)
        names = [r[0] for r in rows(d.ctl("list-units", "--state=active").out)]
        check(any("a.service" in " ".join(r) for r in rows(d.ctl("list-units", "--state=active").out)), names)
        check("a.service" not in d.ctl("list-units", "--state=failed").out, "by state")


@test
def hostile_unit_files_are_refused_and_harm_nothing():
    big = {
        "long.service": "[Service]\nExecStart=/bin/true %s\n" % ("x" * (1 << 20)),
        "huge.service": "[Service]\nExecStart=/bin/true\n" + "# comment\n" * (1 << 20),
        "many.service": "[Service]\nExecStart=/bin/true\n" + "Environment=A=1\n" * 100000,
        "endless.service": "[Service]\nExecStart=/bin/true \\\n" + "a \\\n" * 50000,
    }
    raw = {
        "nul.service": b"[Service]\nExecStart=/bin/true\0 --evil\n",
        "utf8.service": b"[Unit]\nDescription=\xff\xfe bad\n[Service]\nExecStart=/bin/true\n",
        "bom.service": b"\xef\xbb\xbf[Service]\nType=oneshot\nExecStart=/bin/true\n",
        "crlf.service": b"[Service]\r\nType=oneshot\r\nExecStart=/bin/true\r\n",
        "binary.service": bytes(range(256)) * 4096,
        "empty.service": b"",
        "section.service": b"[" * 100000,
    }
    with Stage(lambda s: dict({"good.service": s.puppets.unit("event:up")}, **big)) as (s, d):
        for name, data in raw.items():
            with open(os.path.join(d.units_dir, name), "wb") as f:
                f.write(data)
        for i in range(1000):
            d.write_unit("c%03d.service" % i, "[Unit]\nAfter=c%03d.service\nWants=c%03d.service\n[Service]\nType=oneshot\nExecStart=/bin/true\n"
                         % ((i + 1) % 1000, (i + 1) % 1000))
        os.symlink("loop.service", os.path.join(d.units_dir, "loop.service"))
        os.mkfifo(os.path.join(d.units_dir, "fifo.service"))
        os.mkdir(os.path.join(d.units_dir, "dir.service"))
        d.ctl("start", "good")
        pid, core = d.unit("good.service")["main_pid"], d.status()["daemon"]["core_pid"]
        outcomes = {}
        for name in list(big) + list(raw) + ["loop.service", "fifo.service", "dir.service", "../../etc/passwd.service", "a/../b.service",
                                             "..service", "x" * 300 + ".service", "\x1b[31m.service"]:
            r = d.ctl("start", name, check=False, timeout=30)
            outcomes[name] = r.rc
            check(r.rc == 0 or r.err.startswith("error:") and len(r.err) < 4000 and "\x1b" not in r.err, (name, r))
        check(outcomes["bom.service"] == 0 and outcomes["crlf.service"] == 0, outcomes)
        check(all(outcomes[n] != 0 for n in ("empty.service", "binary.service", "section.service", "loop.service", "fifo.service",
                                             "dir.service", "../../etc/passwd.service", "a/../b.service")), outcomes)
        d.ctl("daemon-reload", timeout=60)
        d.ctl("start", "c000", timeout=60)
        wait_for(lambda: "cycle" in d.log_text(), 20, "the cycle of 1000 units to be said")
        check(max(len(l) for l in d.log_text().splitlines()) < 8192, "no endless line in the log")
        check(d.status()["daemon"]["core_pid"] == core and d.status()["daemon"]["restarts_of_core"] == 0, "the core is the same")
        check(d.unit("good.service")["main_pid"] == pid and is_alive(pid), "and so is the service")


class Answers:
    """A daemon that says what it is told to, and what it was asked."""

    def __init__(self, path, answers):
        self.answers, self.asked = answers, queue.Queue()
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(path)
        self.sock.listen(16)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                k, _ = self.sock.accept()
                with k, k.makefile("rb") as f:
                    method = json.loads(f.read1(65536).rstrip(b"\0"))["method"].rsplit(".", 1)[1]
                    k.sendall(json.dumps({"parameters": self.answers[method]}).encode() + b"\0")
                self.asked.put(method)


@test
def a_reexec_that_is_waited_for_can_be_interrupted():
    with temp_dir() as dir:
        a = Answers(dir + "/sock", {"Status": {"daemon": {"reexecs": 0}}, "Reexec": {}})
        p = subprocess.Popen([STAYCTL, "--socket", dir + "/sock", "reexec"], stderr=subprocess.PIPE, text=True)
        for want in ("Status", "Reexec", "Status", "Status"):  # and so on: no other core comes
            check(a.asked.get(timeout=10 * PATIENCE) == want, want)
        p.send_signal(signal.SIGINT)
        err = p.communicate(timeout=10 * PATIENCE)[1]
        check(p.returncode == 130 and "goes on in the daemon" in err, (p.returncode, err))


main()
