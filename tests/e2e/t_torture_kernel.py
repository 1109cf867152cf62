"""Torture list 23-27, 32: a kernel and a file tree that are not as one expects."""
import ctypes, glob, threading

from bed import *
from torture import *

libc = ctypes.CDLL(None, use_errno=True)


def mounts(script, *more):
    """A wrapper: a mount namespace of the daemon's own in which the script has run."""
    need_root()
    wrap = ["unshare", "-m", "--propagation", "private", *more, "sh", "-c", script + ' && exec "$@"', "sh"]
    if subprocess.run(wrap + ["true"], capture_output=True).returncode:
        skip("cannot make this mount namespace here")
    return wrap


# ---- 23: interrupted calls ---------------------------------------------------------------------------

class Storm(threading.Thread):
    """Stops and continues processes about a thousand times a second: epoll_wait(2) and others return EINTR after it
    even in a process without handlers (signal(7))."""

    def __init__(self, pids):
        super().__init__(daemon=True)
        self.pids, self.n, self.is_over = pids, 0, False

    def run(self):
        while not self.is_over:
            for pid in self.pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
                    os.kill(pid, signal.SIGCONT)
            self.n += 1
            time.sleep(0.0005)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exc):
        self.is_over = True
        self.join()


@in_both_trackings()
def eintr_storm_by_stop_and_continue_changes_nothing(tracking):
    with Rig(lambda s: {"w%d.service" % i: s.puppets.unit("notify:READY=1", "event:w", Type="notify", Restart="always", RestartSec="0",
                                                          ExecStartPre=s.say("pre"), ExecStopPost=s.say("post")) for i in range(10)},
             tracking=tracking) as r:
        names = ["w%d.service" % i for i in range(10)]

        def round():
            roles = list(r.snapshot().pids.values())
            with Storm(lambda: roles) as storm:
                r.ctl("start", *names, check=True)
                for n in names[:5]:
                    u = r.d.unit(n)
                    os.kill(u["main_pid"], signal.SIGKILL)
                    r.d.wait_unit(n, lambda v: v["n_restarts"] == u["n_restarts"] + 1 and v["sub_state"] == "running", deadline=30)
                r.ctl("restart", *names, check=True)
                r.ctl("daemon-reload", check=True)
                r.ctl("stop", *names, check=True)
            print("# %d rounds of stop and continue over %d processes" % (storm.n, len(roles)))
        r.torture(round)


# ---- 24: clocks ----------------------------------------------------------------------------------------

@test
def clock_of_ten_years_later_in_a_time_namespace_is_borne():
    """CLOCK_BOOTTIME and CLOCK_MONOTONIC; CLOCK_REALTIME jumps in the virtual machine of t_torture_clock."""
    need_root()
    later = 10 * 365 * 86400
    for boottime, monotonic in ((later, later), (later, 0), (0, 0)):  # the second is a machine that was suspended for long
        wrap = ["unshare", "-T", "--boottime", str(boottime), "--monotonic", str(monotonic), "--fork", "--kill-child"]
        if subprocess.run(wrap + ["true"], capture_output=True).returncode:
            skip("no time namespaces here")
        with Rig(lambda s: {"t.service": s.puppets.unit("event:t", "exit:1", Restart="always", RestartSec="50ms", prefix="[Unit]\nStartLimitIntervalSec=60\n")}, wrap=wrap) as r:
            keeper = r.d.keeper_pid
            r.d.proc.terminate = lambda: os.kill(keeper, signal.SIGTERM)  # unshare passes no signals on

            def round():
                r.ctl("start", "t")
                r.d.wait_unit("t.service", active_state="failed", result="start-limit-hit", deadline=20)
                since = r.d.unit("t.service")["since"]
                check(since.startswith(time.strftime("%Y-", time.gmtime())), "wall-clock times are those of the wall: %s" % since)
            r.torture(round)


@test
def no_timer_goes_on_while_the_machine_is_suspended():
    """CLOCK_MONOTONIC stands then, as the services do: nobody's watchdog runs out at resume."""
    with Daemon({"a.service": "[Service]\nExecStart=%s\n" % SVC}) as d:
        d.ctl("start", "a", check=True)
        clocks = {}
        for pid in [d.keeper_pid, *descendants(d.keeper_pid)]:
            for info in glob.glob("/proc/%d/fdinfo/*" % pid):
                try:
                    text = open(info).read()
                except OSError:
                    continue
                clocks.update({(pid, info): int(v) for v in re.findall(r"^clockid: (\d+)$", text, re.M)})
        check(clocks and set(clocks.values()) == {time.CLOCK_MONOTONIC}, "timers and their clocks: %s" % clocks)


# ---- 25: what is missing --------------------------------------------------------------------------------

def lives_without(name, script, says=(), starts=True, uid=None):
    """The daemon runs where the script has taken something away, or refuses with a word."""
    d = Daemon({"a.service": "[Service]\nExecStart=%s\nRestart=always\nRestartSec=0\n" % SVC}, wrap=mounts(script), wait=False)
    if uid is not None:
        d.wrap += ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups"]
        subprocess.run(["chown", "-R", str(uid), d.dir], check=True)
    d.start()
    try:
        wait_for(lambda: d.proc.poll() is not None or d.ctl("status", "--json", check=False).rc == 0, 15, "an answer or an end")
        if d.proc.returncode is not None:
            text = d.log_text()
            check(not starts, "it should live without %s:\n%s" % (name, text))
            check(0 < d.proc.returncode < 128 and re.search("stayd: .+", text), "it says why it cannot: %s %s" % (d.proc.returncode, text))
            return
        r = d.ctl("start", "a", check=False)
        check(r.rc == 0, "a service can be started without %s: %r" % (name, r))
        if name != "/proc":  # pids cannot be looked at from here either way
            pid = d.unit("a.service")["main_pid"]
            os.kill(pid, signal.SIGKILL)
            d.wait_unit("a.service", lambda u: u["n_restarts"] == 1 and u["sub_state"] == "running")
        d.ctl("stop", "a")
        for s in [says] if isinstance(says, str) else says:
            check(re.search(s, d.log_text()), "nothing says %r: %s" % (s, d.log_text()))
    finally:
        text = d.log_text()
        with contextlib.suppress(Exception):
            d.proc.terminate()
            d.proc.wait(20 * PATIENCE)
        d.destroy()
        check("Sanitizer" not in text, text)


@test
def proc_not_mounted_is_borne_or_refused_with_a_word():
    if "-san" in BUILD:
        skip("LeakSanitizer ends what has no /proc")
    lives_without("/proc", "mount -t tmpfs none /proc", starts=False)


@test
def proc_with_hidepid_2_is_borne():
    lives_without("others' /proc", "mount -t proc -o hidepid=2 proc /proc", uid=1000)
    lives_without("others' /proc", "mount -t proc -o hidepid=2 proc /proc")


@test
def sys_missing_is_borne_with_shims_in_place_of_cgroups():
    lives_without("/sys", "umount -R /sys 2>/dev/null; mount -t tmpfs none /sys", says=())


@test
def dev_without_null_is_borne_or_refused_with_a_word():
    lives_without("/dev/null", "mount -t tmpfs none /dev", starts=False)


# ---- 26, 27: cgroups ---------------------------------------------------------------------------------------

def with_cgroups(units=None, **more):
    r = Rig(units or (lambda s: {"a.service": s.puppets.unit("fork", "event:up", Restart="always", RestartSec="0", TimeoutStopSec="2")}), **more)
    need_root()
    return r


def base_of(r):
    own = r.cgroup("by-plain.service")
    if not own:
        skip("no cgroups here")
    return os.path.dirname(own)


def remove_cgroup(path):
    """Also when its last process is not gone from it yet, and when the daemon is faster."""
    def is_gone():
        with contextlib.suppress(OSError):
            os.rmdir(path)
        return not os.path.exists(path)
    wait_for(is_gone, 10, "%s to be empty" % path)


@test
def cgroup_removed_under_us_is_made_again():
    with with_cgroups(lambda s: {"a.service": s.puppets.unit("fork", "event:up", Restart="always", RestartSec="1", TimeoutStopSec="2")}) as r:
        base = base_of(r)
        path, hits = os.path.join(base, "a.service"), []

        def round():
            r.ctl("start", "a", check=True)
            r.puppets.wait("up")
            r.ctl("stop", "a", check=True)
            remove_cgroup(path)
            r.ctl("start", "a", check=True)
            pid = r.puppets.wait("up").pid
            os.kill(pid, signal.SIGKILL)
            # While it waits for its restart there is nobody in it.
            r.d.wait_unit("a.service", sub_state="auto-restart")
            with contextlib.suppress(OSError):
                os.rmdir(path)
                hits.append(path)
            r.puppets.wait("up", deadline=20)
            u = r.d.wait_unit("a.service", sub_state="running")
            check(u["n_restarts"] == 1, "the first restart went well: %s" % u)
            r.ctl("stop", "a", check=True)
            with contextlib.suppress(OSError):
                os.rmdir(path)
        r.torture(round)
        check(hits, "it was removed in time at least once")


@test
def cgroup_base_removed_under_us_is_made_again():
    with Daemon({"a.service": "[Service]\nExecStart=%s\nTimeoutStopSec=2\n" % SVC}) as d:
        d.ctl("start", "a")
        path = d.unit("a.service")["control_group"]
        if not path:
            skip("no cgroups here")
        d.ctl("stop", "a")
        base = os.path.dirname(path)
        for n in os.listdir(base):
            if os.path.isdir(os.path.join(base, n)):
                remove_cgroup(os.path.join(base, n))
        remove_cgroup(base)
        d.ctl("start", "a")
        u = d.unit("a.service")
        with open("/proc/%d/cgroup" % u["main_pid"]) as f:
            check("a.service" in f.read(), "it is in its cgroup again")
        d.ctl("stop", "a")


def killed(s):
    more = {"prefix": "[Unit]\nStartLimitIntervalSec=0\n", "Restart": "always", "RestartSec": "0", "TimeoutStopSec": "2"}
    return {"a.service": s.puppets.unit("fork", "event:up", ExecStopPost=s.say("post"), **more),
            "u.service": s.puppets.unit("event:up-u", section="User=nobody\nProtectSystem=yes\n", **more)}


def kill_group(path):
    if not os.path.exists(path + "/cgroup.kill"):
        skip("no cgroup.kill before Linux 5.14")
    with open(path + "/cgroup.kill", "w") as f:
        f.write("1")


@test
def cgroup_killed_by_somebody_is_replaced_for_the_next_start():
    """Whoever is cloned into it afterwards dies at birth, at least up to Linux 6.18."""
    with with_cgroups(killed) as r:
        base_of(r)

        def round():
            r.ctl("start", "a", "u", check=True)
            for unit, up in ("a.service", "up"), ("u.service", "up-u"):
                r.puppets.wait(up)
                kill_group(r.cgroup(unit))
                r.puppets.wait(up, deadline=20)
                r.d.wait_unit(unit, sub_state="running")
        r.torture(round)


@test
def cgroup_killed_by_a_core_that_died_is_replaced_by_the_next():
    """It could not say so any more: nothing of the unit may die of it, not even ExecStopPost=."""
    with with_cgroups(killed) as r:
        base_of(r)
        r.ctl("start", "a", check=True)
        r.puppets.wait("up")
        path, core = r.cgroup("a.service"), r.d.status()["daemon"]["core_pid"]
        os.kill(core, signal.SIGSTOP)
        kill_group(path)
        os.kill(core, signal.SIGKILL)
        r.puppets.wait("up", deadline=20)
        r.d.wait_unit("a.service", sub_state="running")
        check("post" in r.trace(), "ExecStopPost= did what it is for")
        check(r.d.unit("a.service")["n_restarts"] == 1, "it was started once: %s" % r.d.unit("a.service"))


@test
def cgroup_made_threaded_fails_its_unit_alone_or_is_replaced():
    with with_cgroups() as r:
        base = base_of(r)

        def round():
            path = os.path.join(base, "a.service")
            os.makedirs(path, exist_ok=True)
            with contextlib.suppress(OSError):
                with open(os.path.join(path, "cgroup.type"), "w") as f:
                    f.write("threaded")
            rr = r.ctl("start", "a")
            u = r.d.unit("a.service")
            check(rr.rc == 0 or "cgroup" in (rr.out + rr.err).lower(), rr)
            r.ctl("stop", "a")
            with contextlib.suppress(OSError):
                os.rmdir(path)
            rr = r.ctl("start", "a")
            check(rr.rc == 0, "and afterwards it starts: %r" % rr)
            check(r.d.unit("a.service")["sub_state"] == "running", u)
            r.ctl("stop", "a", check=True)
        r.torture(round)


@test
def cgroup_max_descendants_hit_fails_the_unit_with_that_word():
    with with_cgroups() as r:
        base = base_of(r)

        def limit(n):
            with open(os.path.join(base, "cgroup.max.descendants"), "w") as f:
                f.write(str(n))

        def round():
            with contextlib.suppress(OSError):
                os.rmdir(os.path.join(base, "a.service"))
            limit(len(r.cgroups()))
            try:
                r.fails("a", "cgroup|EAGAIN")
                os.kill(r.snapshot().bystanders["by-plain.service"][0], 0)
            finally:
                limit("max")
            r.ctl("start", "a", check=True)
            r.ctl("stop", "a", check=True)
        r.torture(round, says="a.service.*(EAGAIN|max.descendants)")


@test
def foreign_process_moved_into_a_units_cgroup_goes_with_it_and_hurts_nobody():
    with with_cgroups() as r:
        base_of(r)

        def round():
            r.ctl("start", "a", check=True)
            r.puppets.wait("up")
            foreign = adopt(subprocess.Popen(["sleep", "1000"]))
            with open(os.path.join(r.cgroup("a.service"), "cgroup.procs"), "w") as f:
                f.write(str(foreign.pid))
            u = r.d.unit("a.service")
            os.kill(u["main_pid"], signal.SIGKILL)  # its restart does not wait for strangers
            r.puppets.wait("up", deadline=20)
            r.ctl("stop", "a", check=True, timeout=30)
            wait_for(lambda: foreign.poll() is not None, 20, "KillMode=control-group to end it, as everybody in there")
        r.torture(round)


@test
def main_process_moved_out_of_its_cgroup_is_still_stopped_and_restarted():
    with with_cgroups() as r:
        base = base_of(r)

        def out(pid):
            with open(os.path.join(os.path.dirname(base), "cgroup.procs"), "w") as f:
                f.write(str(pid))

        def round():
            r.ctl("start", "a", check=True)
            pid = r.puppets.wait("up").pid
            out(pid)
            r.ctl("stop", "a", check=True)
            check(not is_alive(pid), "stop reaches it")
            r.ctl("start", "a", check=True)
            pid = r.puppets.wait("up").pid
            out(pid)
            os.kill(pid, signal.SIGKILL)
            check(r.puppets.wait("up", deadline=20).pid != pid, "its end is seen")
            r.ctl("stop", "a", check=True)
        r.torture(round)


# ---- 32: links that change ------------------------------------------------------------------------------------

class Racer(threading.Thread):
    """Exchanges two names without a pause: renameat2(RENAME_EXCHANGE)."""

    def __init__(self, pairs):
        super().__init__(daemon=True)
        self.pairs, self.n, self.is_over = [(a.encode(), b.encode()) for a, b in pairs], 0, False

    def run(self):
        while not self.is_over:
            for a, b in self.pairs:
                libc.renameat2(-100, a, -100, b, 2)
                self.n += 1

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exc):
        self.is_over = True
        self.join()


def tree_of(top):
    """Everything in a tree that a stranger could have changed."""
    seen = {}
    for at, dirs, files in os.walk(top):
        for n in dirs + files:
            p = os.path.join(at, n)
            s = os.lstat(p)
            seen[p] = (s.st_mode, s.st_uid, s.st_gid, s.st_ino, s.st_size if not os.path.isdir(p) else 0, s.st_nlink)
    s = os.lstat(top)
    seen[top] = (s.st_mode, s.st_uid, s.st_gid, s.st_ino)
    return seen


@test
def root_directory_with_swapped_symlinks_changes_nothing_outside():
    need_root()
    seconds = 10 if os.environ.get("STAYD_FULL") else 3
    with Rig() as r:
        outside, root, name = r.path("outside"), r.path("root"), "stayd-torture-%d" % os.getpid()
        for d in ("dev", "tmp", "run", "proc", "sys", "var/lib", "etc", "data"):
            os.makedirs(os.path.join(outside, d))
            os.makedirs(os.path.join(root, d))
            with open(os.path.join(outside, d, "precious"), "w") as f:
                f.write("untouched")
        os.chmod(outside, 0o700)
        shutil.copy(SVC, os.path.join(root, "svc"))
        pairs = []
        for d in ("dev", "tmp", "run", "proc", "var", "data", "etc"):
            link = os.path.join(root, d + ".link")
            os.symlink(os.path.join(outside, d), link)
            pairs.append((os.path.join(root, d), link))
        text = ("[Service]\nType=oneshot\nRootDirectory=%s\nMountAPIVFS=yes\nPrivateTmp=yes\nPrivateDevices=yes\nBindPaths=/usr/share:/data\n"
                "TemporaryFileSystem=/run\nRuntimeDirectory=%s\nStateDirectory=%s\nReadWritePaths=-/etc\n"
                "User=nobody\nExecStart=/svc exit:0\n") % (root, name, name)
        r.d.write_unit("r.service", text)
        r.d.write_unit("ro.service", text.replace("PrivateTmp=yes", "ProtectSystem=strict\nInaccessiblePaths=-/data"))
        before, starts = tree_of(outside), [0, 0]

        def round():
            end = time.monotonic() + seconds
            with Racer(pairs) as racer:
                while time.monotonic() < end:
                    for n in ("r", "ro"):
                        starts[r.ctl("start", n).rc != 0] += 1
            check(tree_of(outside) == before, "outside: %s" % {k: v for k, v in tree_of(outside).items() if before.get(k) != v})
            with open("/proc/self/mountinfo") as f:
                check(r.dir not in f.read(), "a mount leaked out of the namespace")
            print("# %d swaps, %d starts went well, %d were refused" % (racer.n, *starts))
        r.torture(round, slack_mib=8)
        for top in ("/run", "/var/lib", "/run/private", "/var/lib/private"):
            shutil.rmtree(os.path.join(top, name), ignore_errors=True)


main()
