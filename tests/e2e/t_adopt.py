#!/usr/bin/python3
"""Keeper is killed -9 where stayd is not PID 1: the next stayd takes over what it left.

Each process goes on as it was (pid, invocation, n_restarts, since), its end is seen with its status, its
output loses no line, and nothing is started a second time; with records as they were, damaged, cut, of
another version, or gone. And a second stayd for the same directories is turned away."""
import fcntl, struct

from lib import *
from orphans import children

without_leak_checks()

KEPT = ("main_pid", "n_restarts", "invocation_id", "since", "sub_state", "port", "release", "revision", "health")
TRACKINGS = {"cgroup": [], "shim": ["--tracking=shim"]}


def each_tracking(fn):
    for name, args in TRACKINGS.items():
        try:
            fn(args)
        except AssertionError as e:
            raise AssertionError("tracking by %s: %s" % (name, e)) from e


def rows(d, names):
    return {n: {k: u.get(k) for k in KEPT} for n, u in ((n, d.unit(n)) for n in names)}


def unit(steps, *service, more=""):
    return "[Unit]\nDefaultDependencies=no\n[Service]\n%sExecStart=%s %s\n%s" % (
        "".join(s + "\n" for s in service), SVC, " ".join(steps), more)


def start_again(d):
    d.wait_at_start = False
    d.start()
    d.wait_taken_over()


def bereave(d, meanwhile=lambda: None):
    """Kills keeper, lets that happen, and starts the next stayd."""
    d.kill_keeper()
    meanwhile()
    start_again(d)


def settled(d, names):
    """Rows once all of them run with a main process."""
    for n in names:
        d.wait_unit(n, lambda u: u["active_state"] == "active" and u["main_pid"], deadline=20)
    return rows(d, names)


def lines_of(d, unit_name):
    text = ""
    directory = os.path.join(d.log_dir, unit_name)
    for name in sorted(os.listdir(directory)):
        with open(os.path.join(directory, name), errors="replace") as f:
            text += f.read()
    return text


# ---- life goes on ------------------------------------------------------------------------------

@test
def processes_go_on_under_the_next_stayd_as_they_were():
    def run(args):
        units = {"plain.service": unit(["fork", "wait"], "Restart=always", "RestartSec=10ms"),
                 "notify.service": unit(["notify:READY=1", "wait"], "Type=notify", "Restart=on-failure"),
                 "fork.service": unit(["daemonize", "wait"], "Type=forking"),
                 "no.service": unit(["wait"])}
        with Daemon(units, args=args, targets=sorted(units)) as d:
            before = settled(d, units)
            os.kill(before["plain.service"]["main_pid"], 9)
            d.wait_unit("plain.service", lambda u: u["n_restarts"] == 1 and u["sub_state"] == "running" and u["main_pid"])
            before = settled(d, units)
            for _ in range(2):  # and the one behind it
                bereave(d)
                check(settled(d, units) == before, "before %s, after %s" % (before, rows(d, units)))
            d.kill_core()
            check(settled(d, units) == before, "before %s, after the death of core %s" % (before, rows(d, units)))
            pid = before["plain.service"]["main_pid"]
            wait_for(lambda: children_of(pid), 10, "its child to live")
            d.ctl("restart", "plain")
            wait_for(lambda: not is_alive(pid), 10, "the end of the old tree")
            now = settled(d, units)
            check(now["plain.service"]["main_pid"] != pid, "restarted")
            check({n: r for n, r in now.items() if n[0] != "p"} == {n: r for n, r in before.items() if n[0] != "p"}, "others untouched")
    each_tracking(run)


@test
def a_service_whose_environment_is_closed_to_core_is_taken_over_by_its_record():
    need_root()
    need("setpriv")  # as in a container: services have capabilities that core gave up, and it may not trace
    units = {"a.service": unit(["fork", "wait"], "Restart=always"), "n.service": unit(["wait"], "User=nobody", "Restart=always")}
    with Daemon(units, args=["--tracking=shim"], wrap=["setpriv", "--bounding-set=-sys_ptrace"], targets=sorted(units)) as d:
        before = settled(d, units)
        for how in (bereave, Daemon.kill_core, bereave):
            how(d)
            check(settled(d, units) == before, "before %s, after %s" % (before, rows(d, units)))
        d.ctl("restart", "a", "n")
        check(not [r for r in before.values() if is_alive(r["main_pid"])], "they are gone")


def children_of(pid):
    with open("/proc/%d/task/%d/children" % (pid, pid)) as f:
        return f.read().split()


@test
def the_end_of_a_process_taken_over_is_told_with_its_status():
    def run(args):
        with temp_dir() as t:
            units = {"e%d.service" % i: unit(["control:%s/c%d" % (t, i), "wait"], "LimitCORE=0") for i in range(4)}
            with Daemon(units, args=args, targets=sorted(units)) as d:
                before = settled(d, units)
                bereave(d)
                tell = Puppets(t)
                tell.command(t + "/c0", "exit:7")
                tell.command(t + "/c1", "exit:0")
                os.kill(before["e2.service"]["main_pid"], signal.SIGSEGV)
                core = d.status()["daemon"]["core_pid"]
                os.kill(core, signal.SIGSTOP)  # it ends while nobody decides: keeper holds its pidfd
                tell.command(t + "/c3", "exit:9")
                wait_for(lambda: reap() or not is_alive(before["e3.service"]["main_pid"]), 10, "its end")
                os.kill(core, signal.SIGKILL)
                wait_for(lambda: d.ctl("status", "--json", check=False).rc == 0 and d.status()["daemon"]["core_pid"] != core, 20, "a new core")
                for i, want in enumerate([("failed", "exit-code", 1, 7), ("inactive", "success", 1, 0),
                                          ("failed", "signal", 2, 11), ("failed", "exit-code", 1, 9)]):
                    u = wait_for(lambda: reap() or (lambda u: u["main_pid"] == 0 and u)(d.unit("e%d.service" % i)), 20, "e%d to end" % i)
                    got = (u["active_state"], u["result"], u["exec_main_code"], u["exec_main_status"])
                    check(got == want, "e%d: %s, not %s" % (i, got, want))
                tell.close()
    each_tracking(run)


# seccomp(2): ioctl(PIDFD_GET_INFO) is ENOTTY, as on kernels before 6.13, for stayd and all below it.
OLD_KERNEL = """
import ctypes, os, struct, sys
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 38, 22
IOCTL, REQUEST = %d, 0xc040ff0b
rows = [(0x20, 0, 0, 0), (0x15, 0, 3, IOCTL), (0x20, 0, 0, 24), (0x15, 0, 1, REQUEST), (6, 0, 0, 0x00050000 | 25), (6, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *r) for r in rows))
prog = ctypes.create_string_buffer(struct.pack("@HP", len(rows), ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, 2, ctypes.c_void_p(ctypes.addressof(prog)), 0, 0):
    sys.exit("seccomp: %%d" %% ctypes.get_errno())
os.execv(sys.argv[1], sys.argv[1:])
""" % (29 if os.uname().machine == "aarch64" else 16)


@test
def where_the_kernel_does_not_tell_an_exit_status_it_is_lost_and_a_failure():
    with temp_dir() as t, lib_reaper():
        units = {"%s.service" % m: unit(["control:%s/%s" % (t, m), "wait"], "Restart=" + m, "RestartSec=10ms") for m in ("no", "on-failure")}
        with Daemon(units, wrap=["/usr/bin/python3", "-c", OLD_KERNEL], targets=sorted(units)) as d:
            before = settled(d, units)
            bereave(d)
            core, tell = d.status()["daemon"]["core_pid"], Puppets(t)
            os.kill(core, signal.SIGSTOP)  # until they are reaped: a zombie would still show its status
            for m, r in before.items():
                tell.command("%s/%s" % (t, m.split(".")[0]), "exit:0")
                wait_for(lambda: not os.path.exists("/proc/%d" % r["main_pid"]), 10, "its end")
            os.kill(core, signal.SIGCONT)
            u = d.wait_unit("no.service", active_state="failed")
            check(u["result"] == "lost", u)
            d.wait_unit("on-failure.service", lambda u: u["n_restarts"] == 1 and u["main_pid"] not in (0, before["on-failure.service"]["main_pid"]))
            check("its status is not known" in d.log_text(), d.log_text())
            tell.close()


@contextlib.contextmanager
def lib_reaper():
    """Whoever takes in orphans reaps them at once, as an init does."""
    from orphans import Reaper
    r = Reaper(0.0005)
    r.start()
    try:
        yield
    finally:
        r.stopping = True
        r.join()


@test
def what_ended_while_nobody_was_there_counts_as_a_failure():
    def run(args):
        units = {m + ".service": unit(["wait"], "Restart=" + m, "RestartSec=10ms") for m in ("no", "always", "on-failure", "on-success")}
        with Daemon(units, args=args, targets=sorted(units)) as d:
            before = settled(d, units)

            def meanwhile():
                for r in before.values():
                    os.kill(r["main_pid"], signal.SIGTERM)
                    wait_for(lambda: reap() or not is_alive(r["main_pid"]), 10, "its end")
            bereave(d, meanwhile)
            for m in ("always", "on-failure"):
                d.wait_unit(m + ".service", lambda u: u["n_restarts"] == 1 and u["sub_state"] == "running")
            for m in ("no", "on-success"):
                u = d.wait_unit(m + ".service", active_state="failed")
                check(u["result"] == "lost", u)
    each_tracking(run)


@test
def a_stop_reaches_the_whole_tree_of_a_unit_taken_over():
    def run(args):
        with Daemon({"t.service": unit(["fork", "double-fork", "setsid-fork", "ignore:TERM", "wait"], "TimeoutStopSec=300ms")},
                    args=args, targets=["t.service"]) as d:
            settled(d, ["t.service"])
            pid = d.unit("t.service")["main_pid"]
            wait_for(lambda: sum(SVC in cmdline(p) for p in list(strangers()) + list(descendants(d.proc.pid))) >= 4, 10, "its tree")
            bereave(d)
            d.ctl("stop", "t")
            wait_for(lambda: not [p for p in strangers() if SVC in cmdline(p)], 10, lambda: "an empty tree: %s" % {p: cmdline(p) for p in strangers()})
            check(not is_alive(pid), "main is gone")
    each_tracking(run)


@test
def helpers_left_behind_keep_their_unit_as_it_was():
    def run(args):
        with Daemon({"h.service": unit(["daemonize", "wait"], "Type=oneshot", "RemainAfterExit=yes")}, args=args, targets=["h.service"]) as d:
            d.wait_unit("h.service", sub_state="exited")
            helper = wait_for(lambda: [p for p in list(descendants(d.proc.pid)) if SVC in cmdline(p)], 10, "the helper")[0]
            for how in (lambda: bereave(d), d.kill_core):
                how()
                check(d.unit("h.service")["sub_state"] == "exited", d.unit("h.service"))
                check(is_alive(helper), "the helper lives")
            d.ctl("stop", "h")
            wait_for(lambda: reap() or not is_alive(helper), 10, "the end of the helper")
    each_tracking(run)


@test
def the_first_process_of_a_service_that_named_another_main_lives_on():
    def run(args):
        def units(s):
            return {"a.service": s.puppets.unit("double-fork", s.control("a"), "event:up", NotifyAccess="all", Restart="always")}
        with Stage(units, args=args) as (s, d):
            d.ctl("start", "a")
            main, first = s.puppets.wait("child").pid, s.puppets.wait("up").pid
            s.tell("a", "notify:MAINPID=%d" % main)
            d.wait_unit("a.service", main_pid=main)
            for how in (d.kill_core, lambda: bereave(d), d.kill_core):
                how()
                u = d.unit("a.service")
                check(u["sub_state"] == "running" and u["main_pid"] == main and u["n_restarts"] == 0, u)
                check(is_alive(first) and is_alive(main), d.log_text())
            d.ctl("stop", "a")
            wait_for(lambda: reap() or not (is_alive(first) or is_alive(main)), 10, "the end of both")
    each_tracking(run)


@test
def the_end_of_a_daemonized_main_is_seen_by_the_next_core():
    def run(args):
        with Stage(lambda s: {"a.service": s.puppets.unit("daemonize", "event:up", Type="forking")}, args=args) as (s, d):
            d.ctl("start", "a")
            main, core = s.puppets.wait("up").pid, d.pid_of("core")
            d.wait_unit("a.service", main_pid=main, sub_state="running")
            os.kill(core, signal.SIGSTOP)  # what it is told now it does not live to read
            parent = proc_stat(main)[1]
            os.kill(main, signal.SIGSEGV)
            wait_for(lambda: not is_alive(main) and (parent == d.keeper_pid or not is_alive(parent)), 10, "the end of it and of its shim")
            os.kill(core, signal.SIGKILL)
            d.wait_unit("a.service", sub_state="failed", result="signal", exec_main_status=signal.SIGSEGV)
    each_tracking(run)


def daemonizing(s):
    return {"a.service": s.puppets.unit("daemonize", "event:up", Type="forking", Restart="always", RestartSec="1ms",
                                        prefix="[Unit]\nDefaultDependencies=no\nStartLimitIntervalSec=0\n")}


@test
def nothing_is_left_of_main_processes_that_ended():
    def run(args):
        with Stage(daemonizing, args=args) as (s, d):
            d.ctl("start", "a")
            for _ in range(4):
                pid = s.puppets.wait("up").pid
                d.wait_unit("a.service", main_pid=pid)
                os.kill(pid, signal.SIGKILL)
            d.wait_unit("a.service", main_pid=s.puppets.wait("up").pid)
            d.kill_core()
            check("no record" not in d.log_text(), d.log_text())
    each_tracking(run)


@test
def descriptors_lost_with_the_keeper_are_told():
    text = unit(["notify-fd:memory", "notify:READY=1", "wait"], "Type=notify", "FileDescriptorStoreMax=4")
    with Daemon({"f.service": text}, targets=["f.service"]) as d:
        settled(d, ["f.service"])
        bereave(d)
        check("f.service: descriptors it had stored (FDSTORE=1) went with the keeper" in d.log_text(), d.log_text())


@test
def without_any_record_a_service_is_restarted_as_ever():
    """Its requirements without processes count as up; else its restart would wait for targets that nobody wants."""
    units = {"a.service": "[Unit]\nRequires=once.service\nAfter=once.service\n[Service]\nExecStart=%s\nRestart=always\nRestartSec=1ms\n" % SVC,
             "once.service": "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=%s exit:0\n" % SVC,
             "off.service": "[Install]\nWantedBy=basic.target\n[Service]\nExecStart=%s\n" % SVC}

    def run(args):
        for lose in (lambda d: d.kill_core(), bereave):
            with Daemon(units, args=args) as d:
                d.ctl("start", "a", check=True)
                main = d.unit("a.service")["main_pid"]
                with open(d.dir + "/run/state", "r+b") as f:
                    f.write(b"\0" * os.fstat(f.fileno()).st_size)
                lose(d)
                u = d.unit("a.service")
                check(u["main_pid"] == main and u["active_state"] == "active", u)
                os.kill(main, signal.SIGKILL)
                d.wait_unit("a.service", lambda u: u["main_pid"] not in (0, main), sub_state="running")
                check((d.unit("off.service") or {"active_state": "inactive"})["active_state"] == "inactive", "nothing else was started")
    each_tracking(run)


# ---- logs ---------------------------------------------------------------------------------------

WRITER = "[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=%s spam:%d:100 wait\n"


def writers_through(d, args, n_lines, disturb):
    units = {"w%d.service" % i: WRITER % (SVC, n_lines) for i in range(2)}
    for name, text in units.items():
        d.write_unit(name, text)
    d.ctl("start", *sorted(units))
    before = rows(d, units)
    disturb()
    for name in units:
        wait_for(lambda: re.search(r"o %010d " % (n_lines - 1), lines_of(d, name)), 60, lambda: "all lines of %s; the last is %r" % (name, lines_of(d, name)[-130:]))
    check({n: r["main_pid"] for n, r in rows(d, units).items()} == {n: r["main_pid"] for n, r in before.items()}, "no writer died of it")
    got = {name: [int(x) for x in re.findall(r"^\S+ o (\d{10}) ", lines_of(d, name), re.M)] for name in units}
    d.ctl("stop", *sorted(units))
    return got


@test
def no_line_is_lost_or_torn_when_keeper_is_killed():
    def run(args):
        with Daemon(args=args) as d:
            def disturb():
                for i in range(3):
                    time.sleep(0.02 * i)  # another moment each time
                    bereave(d)
            n = 40000
            for name, got in writers_through(d, args, n, disturb).items():
                check(got == list(range(n)), "%s: %d lines, %d of them new; first gap at %s" % (
                    name, len(got), len(set(got)), next((i for i, x in enumerate(got) if i != x), None)))
    each_tracking(run)


# Is the pipe and something else in turns, so that who looks and then opens may get the latter.
SWAPS = r"""
import os, signal, sys
secret = os.open(sys.argv[1], os.O_PATH)
os.dup2(1, 100)
os.dup2(secret, 101)
while True:
    for fd in 0, 1, 2:
        os.dup2(100, fd)
    for fd in 0, 1, 2:
        os.dup2(101, fd)
"""


def held_by(pid):
    held, where = [], "/proc/%d/fd/" % pid
    for n in os.listdir(where):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            held.append(os.readlink(where + n))
    return held


@test
def nothing_but_its_pipe_is_taken_from_a_service():
    need_root()
    with temp_dir() as t:
        secret, script = os.path.join(t, "secret"), os.path.join(t, "swaps.py")
        os.chmod(t, 0o755)
        for path, text, mode in (secret, "a secret\n", 0o600), (script, SWAPS, 0o644):
            with open(path, "w") as f:
                f.write(text)
            os.chmod(path, mode)
        with Daemon({"a.service": "[Unit]\nDefaultDependencies=no\n[Service]\nUser=nobody\nExecStart=/usr/bin/python3 %s %s\n" % (script, secret)}) as d:
            d.ctl("start", "a")
            pid = d.unit("a.service")["main_pid"]
            wait_for(lambda: os.path.exists("/proc/%d/fd/101" % pid), 10, "it to swap them")
            for _ in range(20):
                bereave(d)
                for role in "keeper", "core", "logger":
                    held = held_by(wait_for(lambda: d.pid_of(role), 20, "a " + role))
                    check(held and secret not in held, "%s holds %s" % (role, held))
                check(d.unit("a.service")["main_pid"] == pid, "it is taken over")


@test
def a_writer_waits_when_keeper_and_logger_are_killed_at_once():
    def run(args):
        with Daemon(args=args) as d:
            lost = []

            def disturb():
                logger = wait_for(lambda: d.pid_of("logger"), 10, "a logger")
                os.kill(logger, signal.SIGKILL)
                bereave(d)
            n = 40000
            for name, got in writers_through(d, args, n, disturb).items():
                check(got == sorted(set(got)), "%s: in order, once each" % name)
                lost.append(n - len(got))
            # What the dead logger had read and not written: at most one read of a pipe, and a batch under way.
            check(max(lost) <= 2 * 65536 / 100 + 2, "%s lines lost" % lost)
            print("# keeper and logger killed at once: %s of %d lines lost" % (lost, n))
    each_tracking(run)


# ---- two daemons --------------------------------------------------------------------------------------

@test
def a_second_stayd_is_turned_away_and_told_by_whom():
    with Daemon({"a.service": unit(["wait"])}, targets=["a.service"]) as d:
        before = settled(d, ["a.service"])
        for option, other in (("--runtime-dir", "--state-dir"), ("--state-dir", "--runtime-dir"), ("--runtime-dir", None)):
            with temp_dir() as t:
                dirs = {"--runtime-dir": d.run_dir, "--state-dir": d.state_dir}
                if other:
                    dirs[other] = t
                argv = [STAYD, "--unit-path", d.units_dir, "--log-dir", d.log_dir]
                for k, v in dirs.items():
                    argv += [k, v]
                p = subprocess.run(argv, capture_output=True, text=True, timeout=60 * PATIENCE, start_new_session=True)
                check(p.returncode == 155, "status %s: %s" % (p.returncode, p.stderr))
                check("pid %d " % d.proc.pid in p.stderr and "--unit-path " + d.units_dir in p.stderr and "since 20" in p.stderr, p.stderr)
        for _ in range(2):
            check(settled(d, ["a.service"]) == before, "the first did not notice")
            d.kill_core()  # the lock outlives it
        p = subprocess.run(argv, capture_output=True, text=True, timeout=60 * PATIENCE, start_new_session=True)
        check(p.returncode == 155, "status %s: %s" % (p.returncode, p.stderr))
    with temp_dir() as t:
        for _ in range(2):  # nothing is stale after an orderly end
            with Daemon({"a.service": unit(["wait"])}, directory=t, targets=["a.service"]) as d:
                settled(d, ["a.service"])
                check("took over" not in d.log_text(), d.log_text())


@test
def what_is_left_of_a_daemon_is_waited_for_and_then_named():
    with Daemon({"a.service": unit(["wait"], "Restart=always")}, targets=["a.service"]) as d:
        before, old, argv = settled(d, ["a.service"]), d.proc.pid, d.proc.args
        d.kill_keeper()
        with open(d.run_dir + "/lock") as held:  # as a core that hangs on its disk would
            wait_for(lambda: try_lock(held), 10, "the old core to end")
            p = subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=60 * PATIENCE, start_new_session=True)
            check(p.returncode == 155 and "what is left of another stayd" in p.stderr and "pid %d" % old in p.stderr, (p.returncode, p.stderr))
            d.wait_at_start = False
            d.start()  # waits
        d.wait_taken_over()
        check(settled(d, ["a.service"]) == before, "taken over all the same")


@test
def a_core_that_dies_before_it_has_taken_over_leaves_that_to_the_next():
    def run(args):
        units = {"a.service": unit(["fork", "wait"], "Restart=always", "RestartSec=10ms"), "no.service": unit(["wait"]),
                 "pre.service": unit(["wait"], "ExecStartPre=%s wait" % SVC, "TimeoutStartSec=infinity")}
        with Daemon(units, args=args, targets=["a.service", "no.service"]) as d:
            before = settled(d, ["a.service", "no.service"])
            d.ctl("start", "--no-wait", "pre")
            d.wait_unit("pre.service", sub_state="start-pre")
            ours = wait_for(lambda: (lambda v: len(v) == 4 and v)(puppets_alive()), 10, "the processes")
            d.kill_keeper()
            with open(d.run_dir + "/lock") as held:  # the first core gets as far as this
                wait_for(lambda: try_lock(held), 10, "the old core to end")
                d.wait_at_start = False
                d.start()
                first = wait_for(lambda: waiting_core(d), 10, "a core")
                wait_for(lambda: [f for f in os.listdir("/proc/%d/fd" % first) if os.path.realpath("/proc/%d/fd/%s" % (first, f)) == held.name], 10, "it to ask for the lock")
                os.kill(first, signal.SIGKILL)
                wait_for(lambda: waiting_core(d) not in (None, first), 10, "the next core")
            d.wait_taken_over()
            check(settled(d, ["a.service", "no.service"]) == before, "before %s, after %s" % (before, rows(d, before)))
            check(d.unit("pre.service")["sub_state"] == "start-pre", "what it runs before the start is taken over, too")
            check(puppets_alive() == ours, "%s, then %s" % (ours, puppets_alive()))
    each_tracking(run)


def puppets_alive():
    return sorted(p for p in descendants(os.getpid()) if is_alive(p) and cmdline(p).startswith(SVC))


def waiting_core(d):
    return next((p for p, (state, _) in descendants(d.proc.pid).items() if state != "Z" and "--role=core" in cmdline(p)), None)


def try_lock(file):
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True


# ---- records that are not what they were -----------------------------------------------------------------

RECORD_HEAD = 64


def fleet(n=6):
    return {"u%d.service" % i: unit(["wait"], "Restart=always", "RestartSec=10ms") for i in range(n)}


def spoil(d, change):
    path = d.run_dir + "/state"
    with open(path, "rb") as f:
        data = bytearray(f.read())
    data = change(data)
    with open(path, "wb") as f:
        f.write(data)


def crc_fixed_head(data):
    import zlib
    data[12:16] = bytes(4)
    data[12:16] = struct.pack("<I", zlib.crc32(bytes(data[:32])))
    return data


def flip(at, n=1):
    def change(data):
        for i in range(at, min(at + n, len(data))):
            data[i] ^= 0x5a
        return data
    return change


def newer(data):
    data[4:8] = struct.pack("<I", struct.unpack("<I", data[4:8])[0] + 2)
    return crc_fixed_head(data)


def stride_of(d):
    with open(d.run_dir + "/state", "rb") as f:
        return struct.unpack("<IIII", f.read(16))[2]


def damages(stride, size):
    """(what it is, change, what the log must say of it)."""
    yield "a version beyond the next", newer, "too new"
    yield "the head", flip(0, 64), "head is damaged"
    yield "no byte", lambda data: bytearray(), "missing"
    yield "half a head", lambda data: data[:20], "it is cut"
    for part, at in (("generation", 0), ("name", 16), ("state", 280), ("ids", 400), ("end", stride - 1)):
        yield "the %s of every copy" % part, lambda data, at=at: [flip(RECORD_HEAD + k * stride + at)(data) for k in range((size - RECORD_HEAD) // stride)][-1], "cannot be read|is damaged"
    for slots in range(0, (size - RECORD_HEAD) // (2 * stride) + 1, 2):
        yield "cut behind %d records" % slots, lambda data, n=slots: data[:RECORD_HEAD + 2 * n * stride], "missing|adopted"
    yield "cut in a record", lambda data: data[:RECORD_HEAD + stride * 3 + 100], "missing|damaged"
    yield "the newest copy of every record", newest_damaged(stride), "is damaged|cannot be read"


def newest_damaged(stride):
    def change(data):
        for at in range(RECORD_HEAD, len(data) - stride, 2 * stride):
            a, b = (struct.unpack("<Q", data[x:x + 8])[0] for x in (at, at + stride))
            flip((at if a > b else at + stride) + 300)(data)
        return data
    return change


def nothing_is_harmed(args, kill):
    units = fleet()
    with Daemon(units, args=args, targets=sorted(units)) as d:
        settled(d, units)
        stride, size = stride_of(d), os.path.getsize(d.run_dir + "/state")
        for what, change, said in damages(stride, size):
            before = {n: r["main_pid"] for n, r in settled(d, units).items()}
            log = len(d.log_text())
            kill(d, lambda: spoil(d, change))
            after = {n: r["main_pid"] for n, r in settled(d, units).items()}
            check(after == before, "%s: before %s, after %s\n%s" % (what, before, after, d.log_text()[log:]))
            check(all(is_alive(p) for p in before.values()), "%s: somebody was killed" % what)
            check(re.search(said, d.log_text()[log:]), "%s: nothing like %r in the log:\n%s" % (what, said, d.log_text()[log:]))
        d.ctl("restart", "u0")
        check(d.unit("u0.service")["main_pid"] != before["u0.service"], "and they are supervised")
        os.kill(before["u1.service"], 9)
        d.wait_unit("u1.service", lambda u: u["main_pid"] not in (0, before["u1.service"]))


@test
def damaged_records_harm_no_service_when_keeper_was_killed():
    each_tracking(lambda args: nothing_is_harmed(args, lambda d, spoil_it: bereave(d, lambda: (wait_roles_gone(d), spoil_it()))))


def wait_roles_gone(d):
    """The old core may still write."""
    wait_for(lambda: not [p for p in strangers() if "--role=core" in cmdline(p)], 20, "the end of the old core")


def kill_core_and(d, spoil_it):
    core = d.status()["daemon"]["core_pid"]
    os.kill(core, signal.SIGSTOP)
    spoil_it()
    os.kill(core, signal.SIGKILL)
    wait_for(lambda: d.ctl("status", "--json", check=False).rc == 0 and d.status()["daemon"]["core_pid"] != core, 20, "a new core")


@test
def damaged_records_harm_no_service_when_core_was_killed():
    each_tracking(lambda args: nothing_is_harmed(args, kill_core_and))


@test
def a_new_program_that_cannot_read_the_keepers_state_takes_the_services_over():
    def run(args):
        units = dict(fleet(3), **{"writer.service": WRITER % (SVC, 20)})
        with Daemon(units, args=args, targets=sorted(units)) as d:
            before, keeper = settled(d, units), d.keeper_pid
            other = os.path.join(d.dir, "stayd-other")
            with open(STAYD, "rb") as ours, open(other, "wb") as out:  # to it, every state is damaged
                out.write(ours.read().replace(b"staydpk\0", b"staydpx\0"))
            os.chmod(other, 0o755)
            r = d.ctl("reexec", other)
            check("took over; " in r.out and "could not read" in r.out, r)
            check("the state is damaged" in d.log_text(), d.log_text())
            for how in (lambda: None, d.kill_core, lambda: d.ctl("reexec"), lambda: d.ctl("reexec", STAYD), d.kill_core):
                how()
                check(settled(d, units) == before and d.keeper_pid == keeper, "before %s, after %s" % (before, rows(d, units)))
            pid = before["u0.service"]["main_pid"]
            os.kill(pid, signal.SIGTERM)
            d.wait_unit("u0.service", lambda u: u["main_pid"] not in (0, pid), sub_state="running", n_restarts=1)
            d.ctl("restart", "u1")
            d.ctl("restart", "writer")
            wait_for(lambda: len(re.findall(r"o 0000000019 ", lines_of(d, "writer.service"))) == 2, 20, "the lines of both processes")
    each_tracking(run)


@test
def a_set_whose_files_are_damaged_keeps_its_members_count_and_revision():
    web = unit(["wait"], "Restart=always", "RestartSec=10ms", more="[X-Replicas]\nCount=1\n[X-Rollout]\nMinReadySec=0\n")
    n = ["web@%d.service" % i for i in (1, 2, 3)]

    def state(d):
        return [(s["name"], s["revision"], s["count"]) for s in d.status()["sets"]]

    def damage(d, file, data):
        with open(os.path.join(d.state_dir, "sets/web", file), "wb") as f:
            f.write(data)
    for kill in (bereave, lambda d, meanwhile: kill_core_and(d, meanwhile)):
        with Daemon({"web@.service": web}) as d:
            d.ctl("start", "web")
            d.ctl("scale", "web=3")
            d.ctl("deploy", "web")
            before = settled(d, n)
            for data in (b"", b"garbage\n", b"1\n# stayd state 1 crc 00000000\n", b"1\n# stayd state 9 crc 00000000\n", b"1"):
                for files in (("count",), ("count", "current")):
                    log = len(d.log_text())
                    kill(d, lambda: [damage(d, f, data) for f in files])
                    check(settled(d, n) == before, "%s %r: somebody was replaced" % (files, data))
                    check(state(d) == [("web", 1, 3)], "%s %r: %s\n%s" % (files, data, state(d), d.log_text()[log:]))
                    said = d.log_text()[log:]
                    check("number of members is lost: 3" in said and re.search("count.*(damaged|too new|no number)", said), said)
            d.ctl("deploy", "web")
            check(all(d.unit(u)["revision"] == 2 for u in n), "all of them were rolled")


@test
def a_daemonized_service_without_its_record_is_supervised():
    def run(args):
        with Stage(daemonizing, args=args) as (s, d):
            d.ctl("start", "a")
            main = s.puppets.wait("up").pid
            d.wait_unit("a.service", main_pid=main, sub_state="running")
            kill_core_and(d, lambda: spoil(d, lambda data: bytearray()))
            d.wait_unit("a.service", main_pid=main, sub_state="running")
            os.kill(main, signal.SIGKILL)
            d.wait_unit("a.service", main_pid=s.puppets.wait("up").pid, sub_state="running")
    each_tracking(run)


@test
def a_start_that_nobody_saw_is_not_made_beside_what_it_left():
    """The launcher makes a process that daemonizes and ends while core does not look; then all of them are killed:
    the record says that it was asked for, and no more."""
    def run(args):
        def units(s):
            return {"f.service": s.puppets.unit("daemonize", "pidfile:%s.pid" % s.puppets.path, "event:main", Type="forking",
                                                PIDFile=s.puppets.path + ".pid", Restart="always", RestartSec="0", TimeoutStopSec="2")}
        with Stage(units, args=args) as (s, d):
            daemon = d.status()["daemon"]
            core, launcher = daemon["core_pid"], daemon["launcher_pid"]
            os.kill(launcher, signal.SIGSTOP)
            d.ctl("start", "--no-wait", "f")
            d.wait_unit("f.service", sub_state="start")
            os.kill(core, signal.SIGSTOP)
            os.kill(launcher, signal.SIGCONT)
            first = s.puppets.wait("main").pid
            wait_for(lambda: not [p for p in children(d.proc.pid) if "daemonize" in cmdline(p) and p != first], 10, "its parent to end")
            for pid in (d.proc.pid, core, launcher):
                os.kill(pid, signal.SIGKILL)
            d.kill_keeper()
            start_again(d)
            second = s.puppets.wait("main", deadline=20).pid
            check(not is_alive(first), "%d runs beside %d" % (second, first))
            d.wait_unit("f.service", lambda u: u["main_pid"] == second, deadline=20)
    each_tracking(run)


if __name__ == "__main__":
    main()
