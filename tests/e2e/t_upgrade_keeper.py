#!/usr/bin/python3
"""To the next version and back, with services running: their exits are told right by whoever is there.

build-next/stayd is the same source with STAYD_NEXT: its state and frames have members more. Launchers,
shims and services of one version speak to the keeper of the other. And a core that hangs is replaced."""
from lib import *

without_leak_checks()

STAYD_NEXT = os.path.join(NEXT, "stayd")


def version(d):
    return d.status()["daemon"]["version"]


class Services:
    """One that lives through everything, one that is restarted, one that says how it ends."""

    def __init__(self, directory, args):
        self.puppets = Puppets(directory)
        texts = {"still.service": self.puppets.unit(Restart="always", RestartSec="0"),
                 "again.service": self.puppets.unit(Restart="always", RestartSec="0")}
        for i in range(4):
            self.control = os.path.join(directory, "end-%d")
            texts["end%d.service" % i] = self.puppets.unit("control:" + self.control % i)
        self.names = sorted(texts)
        texts["all.target"] = "[Unit]\nWants=%s\n" % " ".join(self.names)
        self.d = Daemon(texts, directory=directory, targets=["all.target"], args=args)
        self.d.owns_dir = True

    def end(self, i, code):
        """The i-th one ends by itself with that code, and that is what status says."""
        self.puppets.command(self.control % i, "exit:%d" % code)
        u = self.d.wait_unit("end%d.service" % i, deadline=20, active_state="failed")
        check((u["exec_main_code"], u["exec_main_status"]) == (os.CLD_EXITED, code), "told wrong: %r" % u)

    def crash(self):
        before = self.d.wait_unit("again.service", deadline=20, active_state="active")
        os.kill(before["main_pid"], signal.SIGKILL)
        self.d.wait_unit("again.service", lambda u: u["n_restarts"] == before["n_restarts"] + 1 and u["main_pid"] not in
                         (0, before["main_pid"]), deadline=20, active_state="active")


def there_and_back(*args):
    need(STAYD_NEXT)
    directory = tempfile.mkdtemp(prefix="stayd-upgrade-")
    s = Services(directory, list(args))
    with s.d as d:
        for name in s.names:
            d.wait_unit(name, deadline=20, active_state="active")
        for _ in range(4):  # active is what runs: it may not listen yet
            s.puppets.wait("control", deadline=20)
        keeper, still = d.keeper_pid, d.unit("still.service")["main_pid"]
        old = version(d)
        for i, (program, expected) in enumerate(((STAYD_NEXT, old + "+next"), (STAYD, old), (STAYD_NEXT, old + "+next"))):
            d.ctl("reexec", program)
            check(version(d) == expected, "version is %s, not %s" % (version(d), expected))
            s.end(i, 41 + i)  # started by the first version, reported to the present one
            s.crash()         # ended under this one, started again by its launcher
            check(d.unit("still.service")["main_pid"] == still and is_alive(still), "still.service was touched")
        s.crash()
        d.ctl("reexec", STAYD)
        s.crash()
        check(d.unit("still.service")["n_restarts"] == 0, "still.service was restarted")
        check(d.keeper_pid == keeper and d.unit("still.service")["main_pid"] == still, "keeper and still.service go on")
        check(not re.search("damaged|not usable|broken|killing it", d.log_text()), d.log_text())
    s.puppets.close()


@test
def services_go_to_the_next_version_and_back_in_cgroups():
    there_and_back()


@test
def services_go_to_the_next_version_and_back_below_shims():
    there_and_back("--tracking=shim")


@test
def a_reexec_without_a_path_is_the_same_program_again():
    with Daemon({"a.service": "[Service]\nExecStart=%s\n" % SVC, }, targets=["a.service"]) as d:
        pid, core = d.wait_unit("a.service", active_state="active")["main_pid"], d.pid_of("core")
        r = d.ctl("reexec")
        check("took over" in r.out, repr(r))
        check(d.pid_of("core") != core, "a new core")
        check(d.unit("a.service")["main_pid"] == pid, "the same service: %r" % d.unit("a.service"))


@test
def a_program_that_is_no_stayd_is_refused_with_the_reason():
    with Daemon({}, targets=[]) as d:
        core = d.pid_of("core")
        r = d.ctl("reexec", "/bin/true", check=False)
        check(r.rc == 1 and "no stayd" in r.err, repr(r))
        check(d.status()["daemon"]["reexec_state"] == "refused" and d.pid_of("core") == core, "nothing is replaced")


@test
def a_core_that_hangs_is_replaced_and_its_news_are_not_lost():
    with Daemon({"a.service": "[Service]\nExecStart=%s\nRestart=always\nRestartSec=0\n" % SVC}, targets=["a.service"],
                env={"STAYD_TEST_HANG_MS": str(int(1500 * SLOW))}) as d:
        pid, core = d.wait_unit("a.service", active_state="active")["main_pid"], d.pid_of("core")
        os.kill(core, signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not is_alive(core), 30, "the core that hangs to be replaced")
        d.wait_unit("a.service", lambda u: u["main_pid"] not in (0, pid), deadline=30, active_state="active")
        check("core hangs" in d.log_text(), d.log_text())


@test
def a_daemon_that_was_stopped_as_a_whole_keeps_its_core():
    with Daemon({"a.service": "[Service]\nExecStart=%s\nRestart=always\nRestartSec=0\n" % SVC}, targets=["a.service"],
                env={"STAYD_TEST_HANG_MS": str(int(3000 * SLOW))}) as d:
        pid, core = d.wait_unit("a.service", active_state="active")["main_pid"], d.pid_of("core")
        restarts = d.status()["daemon"]["restarts_of_core"]
        for p in (d.keeper_pid, core):
            os.kill(p, signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)
        time.sleep(7 * SLOW)  # what it must bear: twice the time a core has
        for p in (d.keeper_pid, core):
            os.kill(p, signal.SIGCONT)
        d.wait_unit("a.service", lambda u: u["main_pid"] not in (0, pid), deadline=20, active_state="active")
        check(d.pid_of("core") == core and d.status()["daemon"]["restarts_of_core"] == restarts, "the same core")


main()
