#!/usr/bin/python3
"""A sample of the fault matrix (tests/fault/matrix.py; all of it: make fault)."""
import glob, re

from lib import *

without_leak_checks()

FAULT = os.path.join(TOP, "tests/fault")
CELLS = int(os.environ.get("STAYD_CELLS", "200"))


# Sanitizers bring functions of their own: what is looked at is the other build, where there is one.
PLAIN = os.path.join(TOP, os.path.basename(BUILD).replace("-san", ""))


def symbols(pattern):
    """(undefined, defined) of objects and archives."""
    undefined, defined = set(), set()
    for path in glob.glob(os.path.join(PLAIN, pattern), recursive=True):
        for line in subprocess.run(["nm", path], capture_output=True, text=True).stdout.splitlines():
            f = line.split()
            if len(f) >= 2 and f[-2] == "U":
                undefined.add(f[-1])
            elif len(f) >= 2 and f[-2].isupper():
                defined.add(f[-1])
    return undefined, defined


@test
def every_function_that_may_fail_is_in_the_table():
    if "-san" in BUILD and not os.path.exists(PLAIN + "/core.a"):
        skip("sanitizers bring functions of their own, and there is no build without")
    undefined, defined = symbols("*.a")
    more = symbols("supervisord/net/**/*.o")
    check(undefined, "no archives in %s" % PLAIN)
    with open(FAULT + "/calls.def") as f:
        calls = set(re.findall(r"^CALL\((\w+)", f.read(), re.M))
    with open(FAULT + "/pure.txt") as f:
        pure = set(f.read().split("\n\n", 1)[1].split())
    missing = (undefined | more[0]) - defined - more[1] - calls - pure
    missing = {m for m in missing if not m.startswith(("_GLOBAL_OFFSET", "_ITM", "__gmon"))}
    check(not missing, "neither in tests/fault/calls.def nor in pure.txt: %s" % " ".join(sorted(missing)))


@test
def a_sample_of_all_faults_leaves_nothing_lost_stuck_or_leaked():
    need_root()
    need(os.path.join(BUILD, "fault/stayd"))
    p = subprocess.run(["/usr/bin/python3", FAULT + "/matrix.py", "--build", BUILD, "--cells", str(CELLS), "--seconds", str(int(120 * SLOW))],
                       capture_output=True, text=True, errors="replace", timeout=120 * PATIENCE)
    last = p.stdout.rstrip().splitlines()[-1:] or [p.stderr]
    print("# " + last[0])
    check(p.returncode == 0, "matrix: %d\n%s\n%s" % (p.returncode, p.stdout[-6000:], p.stderr[-3000:]))
    check(int(last[0].split()[0]) > CELLS // 10, "too few cells: " + last[0])


def killed_in_a_move(rig, r, s, call, n):
    """MAINPID= of its child by a service that stays itself; core is killed in its n-th such call. Both
    live on, and one of them is the main process. Returns what core called."""
    r.client.call("Start", names=["a.service"])
    first = s.wait("up").pid
    s.command(s.path + ".control", "double-fork")
    second = s.wait("child").pid
    r.fault.arm(rig.KILL if call else rig.COUNT, "core", call or "open", n)
    s.command(s.path + ".control", "notify:MAINPID=%d" % second)

    def moved():
        with contextlib.suppress(rig.Lost, KeyError):
            return r.units()["a.service"]["main_pid"] == second
    wait_for(moved, 10, lambda: "the move\n" + r.log_since())
    counts = r.fault.counts()
    r.fault.disarm()
    u = r.units()["a.service"]
    check(is_alive(first) and is_alive(second) and u["n_restarts"] == 0, "core killed in %s %d: %s\n%s" % (call, n, u, r.log_since()))
    r.client.call("Stop", names=["a.service"])
    s.drain()
    return counts


@test
def core_killed_at_each_call_of_a_move_of_the_main_process_kills_nothing():
    need(os.path.join(BUILD, "fault/stayd"))
    sys.path.insert(0, FAULT)
    import rig
    with temp_dir() as t:
        for tracking in ("auto", "shim"):
            s = Puppets(t)
            unit = s.unit("control:%s.control" % s.path, "event:up", NotifyAccess="all", Restart="always",
                          prefix="[Unit]\nDefaultDependencies=no\nStartLimitIntervalSec=0\n")
            r = rig.Rig({"a.service": unit}, args=["--tracking=shim"] if tracking == "shim" else [])
            for _ in range(2):
                counts = killed_in_a_move(rig, r, s, None, 0)
            for (who, call), n in sorted(counts.items()):
                if who == "core" and rig.CALLS[rig.INDEX[call]][1] != "NONE":
                    for i in range(1, n + 1):
                        killed_in_a_move(rig, r, s, call, i)
            r.end()
            s.close()
            os.unlink(s.path)


# What the child of the launcher may meet for a moment: (unit, its call, how often, what). No short write:
# of at most PIPE_BUF to a pipe there is none (pipe(7)), and a shim and its program share that pipe.
MOMENTS = [("vfork.service", "send", 5, "ENOBUFS"), ("vfork.service", "send", 5, "ENOMEM"), ("vfork.service", "send", 5, "EAGAIN"),
           ("fork.service", "send", 5, "ENOBUFS"), ("fork.service", "write", 5, "ENOMEM"), ("fork.service", "write", 5, "EAGAIN")]


def moments(tracking):
    """A start whose words to keeper and launcher find no room or no memory at first is late, not failed."""
    need(os.path.join(BUILD, "fault/stayd"))
    sys.path.insert(0, FAULT)
    import rig
    text = "[Unit]\nDefaultDependencies=no\n[Service]\nExecStartPre=/bin/true\nExecStart=%s\nTimeoutStartSec=20\n%%s" % SVC
    units = {"vfork.service": text % "", "fork.service": text % "User=nobody\n"}
    r = rig.Rig(units, args=["--tracking", tracking])
    for n in units:  # known once, with what a unit costs
        r.client.call("Start", names=[n])
        r.client.call("Stop", names=[n])
    for unit, call, times, what in MOMENTS:
        r.fault.arm(rig.FAIL, "child", call, 1, times, rig.ERRNO[what])
        r.client.call("Start", names=[unit])
        check(r.fault.fired == times, "%s of %s failed %d times" % (call, unit, r.fault.fired))
        r.fault.disarm()
        u = r.units()[unit]
        check(u["active_state"] == "active" and u["n_restarts"] == 0, "%s %s: %s\n%s" % (call, what, u, r.log_since()))
        r.client.call("Stop", names=[unit])
    r.end()


@test
def words_of_a_child_that_find_no_room_or_memory_for_a_moment_fail_no_start():
    moments("auto")


@test
def words_of_a_child_below_a_shim_that_find_no_room_or_memory_for_a_moment_fail_no_start():
    moments("shim")


def deployed():
    """A daemon whose set web has been deployed once."""
    need(os.path.join(BUILD, "fault/stayd"))
    sys.path.insert(0, FAULT)
    import rig
    web = "[Service]\nExecStart=%s\n[X-Replicas]\nCount=1\n[X-Rollout]\nMinReadySec=0\n" % SVC
    r = rig.Rig({"keep.service": "[Service]\nExecStart=%s\n" % SVC, "web@.service": web})
    r.client.call("Start", names=["keep.service", "web"])
    r.client.call("Deploy", name="web")
    return r


def each_core_that_fails(r, call, error):
    """Another core each time, whose n-th call of that fails once, until none has so many."""
    import rig
    n, fired = 0, True
    while fired:
        n += 1
        core = r.status()["daemon"]["core_pid"]
        r.fault.arm(rig.FAIL, "core", call, n, 1, rig.ERRNO[error])
        r.d.kill_core()
        wait_for(lambda: r.status()["daemon"]["core_pid"] not in (0, core), 10, "another core")
        yield "%s of %s #%d" % (error, call, n)
        fired = r.fault.fired
        r.fault.disarm()
    check(n > 1, "%s is called" % call)


@test
def a_snapshot_that_is_gone_and_cannot_be_looked_at_at_first_is_no_broken_unit():
    r = deployed()
    revision = r.units()["web@1.service"]["revision"]
    r.client.call("Stop", names=["web"])
    shutil.rmtree(os.path.join(r.d.state_dir, "sets/web/revisions/%d" % revision))
    for what in each_core_that_fails(r, "access", "EIO"):
        wait_for(lambda: r.units().get("web@1.service", {}).get("load_state") == "loaded", 10,
                 lambda: "the unit to be loaded after %s: %s" % (what, r.units().get("web@1.service")))
    r.client.call("Start", names=["web"])
    check(r.units()["web@1.service"]["active_state"] == "active", "it starts: %s" % r.units()["web@1.service"])
    r.end()


@test
def core_killed_between_the_records_of_one_step_loses_nothing_of_it():
    """A unit's end, stop or restart changes others: each has a record of its own."""
    need_root()
    need(os.path.join(BUILD, "fault/stayd"))
    sys.path.insert(0, FAULT)
    import rig
    text = "[Unit]\nDefaultDependencies=no\n%%s\n[Service]\nExecStart=%s wait\n" % SVC
    r = rig.Rig({n + ".service": text % ("After=q.service\n" * (n in "bpr") + more) for n, more in (
        ("q", "OnFailure=h.service"), ("b", "BindsTo=q.service"), ("p", "PartOf=q.service"), ("r", "Requires=q.service"), ("h", ""))})

    def rows():
        with contextlib.suppress(rig.Lost):  # core has just been killed
            return {n[0]: (u["active_state"], u["main_pid"]) for n, u in r.units().items() if n.endswith(".service")}

    def done(verb, *names):
        with contextlib.suppress(rig.Lost):
            r.client.call(verb, names=names)
            return True

    def ask(verb):
        with contextlib.suppress(OSError, rig.Lost, rig.Refused):
            r.client.call(verb, names=["q"])

    def all_new(before, now):
        return all(now[n][0] == "active" and now[n][1] not in (0, before[n][1]) for n in "qbpr")

    def is_whole(what, before, now):  # who asked has no answer: all of it, or q as it was and nobody without it
        if not now:
            return False
        if what == "end":
            return now["q"][0] == "failed" and now["h"][0] == "active" and now["b"][0] == "inactive" and now["r"][0] == now["p"][0] == "active"
        if now["q"] == before["q"]:
            return what == "Stop" or all(now[n][0] == "active" and now[n][1] for n in "bpr")
        return all_new(before, now) if what == "Restart" else all(now[n][0] == "inactive" for n in "qbpr")
    for what in ("end", "Restart", "Stop"):
        for n in itertools.count(1):
            wait_for(lambda: done("Start", "q", "b", "p", "r"), 10, "the start")
            wait_for(lambda: done("Stop", "h"), 10, "the stop of the helper")
            before = wait_for(lambda: (lambda v: v and all(v[u][1] for u in "qbpr") and v)(rows()), 10, "the services")
            r.fault.arm(rig.KILL, "core", "pwrite", n)
            if what == "end":
                os.kill(before["q"][1], signal.SIGKILL)
            else:
                ask(what)
            wait_for(lambda: is_whole(what, before, rows()), 10, lambda: "%s, core killed at record %d: %s, then %s\n%s" % (
                what, n, before, rows(), r.log_since()))
            fired = r.fault.fired
            r.fault.disarm()
            if not fired:
                break
        check(n > 3, "%s writes some records" % what)
    r.end()


@test
def core_that_lacks_memory_for_a_look_at_its_directories_keeps_them():
    r = deployed()

    def sets():
        return [(s["name"], s["revision"]) for s in r.status()["sets"]]
    before = sets()
    check(before == [("web", 1)], before)
    for call in ("mkdir", "faccessat"):
        for what in each_core_that_fails(r, call, "ENOMEM"):
            check(sets() == before, "%s: %s, before %s\n%s" % (what, sets(), before, r.log_since()))
    r.end()


main()
