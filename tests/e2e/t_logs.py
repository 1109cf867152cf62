"""Logs of real services: nothing is lost when core or logger are killed, and the log reads in order."""
import os, signal

from lib import *


def texts(d, unit):
    """Stored lines of a unit as the logger wrote them, without stamps: "o text"."""
    with open(os.path.join(d.log_dir, unit, "current"), errors="replace") as f:
        return [l[25:].rstrip("\n") for l in f]


def wait_text(d, unit, text):
    return wait_for(lambda: text in texts(d, unit) and texts(d, unit), 10, lambda: "%r in the log of %s" % (text, unit))


class Talker:
    """A daemon with one puppet that prints what it is told."""

    def __enter__(self):
        self.tmp = temp_dir()
        self.dir = self.tmp.__enter__()
        self.puppets = Puppets(self.dir)
        self.control = os.path.join(self.dir, "control")
        unit = self.puppets.unit("control:" + self.control, "print:hello", "event:up", Restart="always", RestartSec="0")
        self.daemon = Daemon({"a.service": unit})
        d = self.daemon.__enter__()
        d.ctl("start", "a")
        self.puppets.wait("up")
        return self, d

    def say(self, text):
        self.puppets.command(self.control, "print:" + text)

    def __exit__(self, *exc):
        try:
            return self.daemon.__exit__(*exc)
        finally:
            self.puppets.close()
            self.tmp.__exit__(None, None, None)


@test
def output_and_the_daemons_word_are_in_one_log_in_order():
    with Talker() as (t, d):
        wait_text(d, "a.service", "o hello")
        t.puppets.command(t.control, "print-raw:last words")
        t.puppets.command(t.control, "exit:3")
        t.puppets.wait("up")  # restarted
        lines = wait_for(lambda: (lambda l: l if l.count("o hello") == 2 and any("exited" in x for x in l) else None)(texts(d, "a.service")), 10,
                         lambda: "the second hello and the daemon's word: %s" % texts(d, "a.service"))
        i = lines.index("o last words")
        check(any(l.startswith("d ") and "exited" in l for l in lines[i:]), lines)
        check("last words" in d.ctl("logs", "a").out, d.ctl("logs", "a"))


@test
def a_killed_logger_loses_no_line_and_breaks_no_service():
    with Talker() as (t, d):
        wait_text(d, "a.service", "o hello")
        pid = d.unit("a.service")["main_pid"]
        for i in range(5):
            logger = wait_for(lambda: d.pid_of("logger"), 10, "a logger")
            os.kill(logger, signal.SIGKILL)
            t.say("round %d" % i)
            wait_text(d, "a.service", "o round %d" % i)
            wait_for(lambda: d.pid_of("logger") not in (None, 0, logger), 10, "another logger")
        check(d.unit("a.service")["main_pid"] == pid, "the service did not notice")


@test
def output_goes_on_while_the_core_is_dead_and_after():
    with Talker() as (t, d):
        wait_text(d, "a.service", "o hello")
        for i in range(3):
            core = d.pid_of("core")
            os.kill(core, signal.SIGSTOP)  # as good as dead: the logger needs nothing of it
            t.say("without %d" % i)
            wait_text(d, "a.service", "o without %d" % i)
            os.kill(core, signal.SIGKILL)
            wait_for(lambda: not is_alive(core), 10, "the end of core")
            d.wait_answering()
            t.say("with %d" % i)
            wait_text(d, "a.service", "o with %d" % i)
        said = [l for l in texts(d, "a.service") if l.startswith("o ")]
        check(said == ["o hello"] + [w % i for i in range(3) for w in ("o without %d", "o with %d")], said)


@test
def options_count_behind_a_unit_too():
    with Stage(lambda s: {"a.service": s.puppets.unit("print:hello there")}, targets=("a.service", "--log-console")) as (s, d):
        wait_for(lambda: "hello there" in d.log_text(), 10, lambda: "the line: %s" % d.log_text())
        check(d.unit("a.service")["active_state"] in ("active", "inactive"), d.unit("a.service"))
        check("no unit" not in d.log_text(), d.log_text())


main()
