#!/usr/bin/python3
"""A resource is used up, taken away and given back: services go on being supervised, the daemon says
what it lacks, and recovers by itself."""
from lib import *

KEEP = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=%s print:up\nRestart=always\nRestartSec=50ms\n" % SVC


def own_mounts():
    """Mounts of this test end with it."""
    need_root()
    if _libc_call("unshare", 0x20000) or _libc_call("mount", b"none", b"/", None, 0x40000 | 16384, None):
        skip("no mount namespace of our own")


def _libc_call(name, *args):
    return getattr(ctypes.CDLL(None, use_errno=True), name)(*args)


def mount_tmpfs(path, size):
    os.makedirs(path, exist_ok=True)
    r = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%s,mode=755" % size, "tmpfs", path], capture_output=True, text=True)
    if r.returncode:
        skip("no tmpfs: " + r.stderr)


def fill(path):
    """All room of the file system at path is taken; returns how to give it back."""
    name = os.path.join(path, "filler")
    with open(name, "wb", buffering=0) as f:
        size = 65536
        while size:
            try:
                f.write(b"x" * size)
            except OSError:
                size //= 2
    return lambda: os.unlink(name)


def crash(d, name="keep.service", deadline=20):
    """The service is killed and has a successor: somebody supervises."""
    u = d.wait_unit(name, lambda v: v["main_pid"], deadline=deadline, active_state="active")
    os.kill(u["main_pid"], signal.SIGKILL)
    return d.wait_unit(name, lambda v: v["main_pid"] not in (0, u["main_pid"]), deadline=deadline, active_state="active")["main_pid"]


def says(d, *words):
    """In the daemon's log, and in the troubles of its status."""
    wait_for(lambda: all(w in d.log_text() for w in words), 10, lambda: "%s in the log: %s" % (words, d.log_text()[-1500:]))


def said_in(d, r, *words):
    """One of them by stayctl or, when its turn is over, by the daemon."""
    wait_for(lambda: any(w in r.out + r.err + d.log_text() for w in words), 10, lambda: "one of %s: %r\n%s" % (words, r, d.log_text()[-1500:]))


def trouble(d, word):
    return d.wait_status(lambda s: any(word in t for t in s["daemon"]["troubles"]), 20, "a trouble with %r" % word)


def no_trouble(d):
    d.wait_status(lambda s: not s["daemon"]["troubles"], 20, "no trouble any more")


@contextlib.contextmanager
def small_disk(which, size="256k"):
    """A daemon whose run, state or log directory is a small tmpfs of its own."""
    own_mounts()
    top = tempfile.mkdtemp(prefix="stayd-test.")
    where = os.path.join(top, which)
    mount_tmpfs(where, size)
    d = Daemon({"keep.service": KEEP,
                "web@.service": "[Service]\nExecStart=%s\nRestart=always\n[X-Replicas]\nCount=1\n[X-Rollout]\nMinReadySec=0\n" % SVC,
                "loud.service": "[Service]\nExecStart=%s lines:20:1:100\nRestart=always\nRestartSec=20ms\nStartLimitBurst=0\n" % SVC},
               directory=top)
    d.owns_dir = True
    try:
        with d:
            d.ctl("start", "keep")
            yield d, where
    finally:
        subprocess.run(["umount", "-l", where], capture_output=True)
        shutil.rmtree(top, ignore_errors=True)


@test
def a_full_runtime_directory_costs_no_restart_and_records_are_written_when_there_is_room():
    with small_disk("run") as (d, where):
        for i in range(40):
            d.write_unit("u%d.service" % i, KEEP)
        give_back = fill(where)
        for i in range(0, 40, 8):  # new units need new room for their records
            d.ctl("start", *["u%d" % n for n in range(i, i + 8)])
        trouble(d, "cannot write the record")
        check(d.status()["daemon"]["state"] == "degraded", "the daemon's state")
        check("make room" in d.ctl("status").out, "status does not say it")
        crash(d)
        crash(d, "u7.service")
        give_back()
        no_trouble(d)
        pids = {u["name"]: u["main_pid"] for u in d.status()["units"] if u["main_pid"]}
        d.kill_core()
        wait_for(lambda: {u["name"]: u["main_pid"] for u in d.status()["units"] if u["main_pid"]} == pids, 20, "the same processes after a crash")


@test
def what_changes_after_an_upgrade_on_a_full_runtime_directory_outlives_core():
    """The records of the version before cannot be written anew there."""
    need(NEXT + "/stayd")
    with small_disk("run") as (d, where):
        d.write_unit("new.service", KEEP)
        d.write_unit("off.service", KEEP)
        d.ctl("start", "off")
        give_back = fill(where)
        d.ctl("reexec", NEXT + "/stayd")
        trouble(d, "records of another version")
        for _ in range(2):
            pid = crash(d)
            d.ctl("start", "new")
            d.ctl("stop", "off")
            new = d.wait_unit("new.service", lambda u: u["main_pid"])["main_pid"]
            d.kill_core()
            now = {n: d.unit(n + ".service")["main_pid"] for n in ("keep", "new", "off")}
            check(now == {"keep": pid, "new": new, "off": 0}, "keep %d, new %d: %s\n%s" % (pid, new, now, d.log_text()[-2000:]))
            trouble(d, "records of another version")
            d.ctl("start", "off")
        give_back()
        no_trouble(d)
        d.kill_core()
        check(d.unit("keep.service")["main_pid"] == pid, "and when they are written")


@test
def a_full_state_directory_is_said_and_the_scale_and_services_go_on():
    with small_disk("state") as (d, where):
        d.ctl("start", "web")
        give_back = fill(where)
        r = d.ctl("deploy", "web", check=False)
        said_in(d, r, "No space", "ENOSPC")
        crash(d)
        crash(d, "web@1.service")
        give_back()
        d.ctl("deploy", "web")
        d.ctl("scale", "web=2")
        crash(d, "web@2.service")
        no_trouble(d)


@test
def a_full_log_directory_drops_lines_says_so_and_goes_on_when_there_is_room():
    with small_disk("log") as (d, where):
        give_back = fill(where)
        d.ctl("start", "loud")
        says(d, "cannot write its log")
        crash(d)
        give_back()
        wait_for(lambda: any(f.stat().st_size for f in os.scandir(os.path.join(where, "loud.service"))), 20, "lines in the log again")


@test
def a_state_directory_that_became_read_only_costs_no_service():
    with small_disk("state") as (d, where):
        d.ctl("start", "web")
        sets = where + "/sets"
        r = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", sets], capture_output=True, text=True)
        check(r.returncode == 0, "mount: " + r.stderr)
        d.ctl("scale", "web=2")
        trouble(d, "cannot write the number of members of web: EROFS; make room there, or make it writable")
        crash(d)
        pid = d.unit("keep.service")["main_pid"]
        d.kill_core()
        d.wait_unit("keep.service", main_pid=pid)
        check(subprocess.run(["umount", sets]).returncode == 0, "umount")
        d.ctl("scale", "web=3")
        d.wait_unit("web@3.service", active_state="active")
        check(subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", sets]).returncode == 0, "mount")
        d.ctl("scale", "web=4")
        trouble(d, "the number of members of web")
        check(subprocess.run(["umount", sets]).returncode == 0, "umount")
        no_trouble(d)  # written by itself as soon as it can be
        with open(sets + "/web/count") as f:
            check(f.readline() == "4\n", "the number of members that the next daemon goes by")


@test
def a_core_that_comes_up_on_a_read_only_state_directory_goes_by_what_it_holds():
    with small_disk("state") as (d, where):
        d.ctl("start", "web")
        d.ctl("deploy", "web")
        d.ctl("scale", "web=2")

        def sets():
            return [(s["name"], s["revision"], s["count"]) for s in d.status()["sets"]]
        before = sets()
        check(before == [("web", 1, 2)], before)
        for argv in (["mount", "--bind", where, where], ["mount", "-o", "remount,bind,ro", where]):
            r = subprocess.run(argv, capture_output=True, text=True)
            check(r.returncode == 0, "%s: %s" % (argv, r.stderr))
        d.kill_core()
        check(sets() == before, "%s, before %s" % (sets(), before))
        crash(d, "web@2.service")
        r = d.ctl("deploy", "web", check=False)
        check(r.rc != 0 and "EROFS" in r.out + r.err, r)
        check(subprocess.run(["umount", where]).returncode == 0, "umount")
        d.kill_core()
        check(sets() == before, "%s, before %s" % (sets(), before))
        d.ctl("deploy", "web")


@test
def directories_that_are_deleted_cost_no_service():
    with Daemon({"keep.service": KEEP, "late.service": KEEP}) as d:
        d.ctl("start", "keep")
        with d_open_control(d) as ask:
            for name in (d.state_dir, d.log_dir, d.run_dir):  # while there is written to them
                wait_for(lambda: shutil.rmtree(name, ignore_errors=True) or not os.path.exists(name), 10, "%s to be gone" % name)
            pid = ask("Status", names=["keep.service"])["units"][0]["main_pid"]
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: ask("Status", names=["keep.service"])["units"][0]["main_pid"] not in (0, pid), 20, "the service's restart")
            ask("Start", names=["late"])
            now = ask("Status", names=["late.service"])["units"][0]
            check(now["active_state"] == "active", "a start without directories: %r" % now)


@contextlib.contextmanager
def d_open_control(d):
    """A connection that is there before its socket's name goes away."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(20 * PATIENCE)
        s.connect(d.socket)

        def ask(method, **parameters):
            s.sendall(json.dumps({"method": "org.stayd.Control." + method, "parameters": parameters}).encode() + b"\0")
            data = b""
            while not data.endswith(b"\0"):
                more = s.recv(1 << 20)
                check(more, "the connection ended in %s" % method)
                data += more
            answer = json.loads(data[:-1])
            check("error" not in answer, "%s: %s" % (method, answer))
            return answer["parameters"]
        yield ask


@test
def descriptors_that_run_out_are_said_and_services_are_restarted_nevertheless():
    units = {"u%d.service" % i: KEEP for i in range(24)}
    units["keep.service"] = KEEP
    with Daemon(units, wrap=["prlimit", "--nofile=48:48"]) as d:
        d.ctl("start", "keep")
        r = d.ctl("start", *["u%d" % i for i in range(24)], "--timeout", "3s", check=False)
        check(r.rc != 0 or d.status(), "an answer")
        says(d, "EMFILE", "no descriptor left for another unit")
        crash(d, deadline=40)
        d.ctl("stop", *["u%d" % i for i in range(24)])
        crash(d)
        d.ctl("start", "u3")
        crash(d, "u3.service")


@test
def connections_that_take_all_descriptors_are_waited_out():
    with Daemon({"keep.service": KEEP}, wrap=["prlimit", "--nofile=40:40"]) as d:
        d.ctl("start", "keep")
        pid = d.unit("keep.service")["main_pid"]
        with contextlib.ExitStack() as held:
            for _ in range(60):
                s = held.enter_context(socket.socket(socket.AF_UNIX))
                s.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    s.connect(d.socket)
            says(d, "no descriptors left for more connections")
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: d.log_text().count("keep.service: ready") >= 2, 20, lambda: "its restart: " + d.log_text()[-1500:])
        d.wait_unit("keep.service", lambda u: u["main_pid"] not in (0, pid), active_state="active")


def pids_group():
    """A pids cgroup of version 1 for this test."""
    with open("/proc/self/mounts") as f:
        for line in f:
            dev, where, kind, options = line.split()[:4]
            if kind == "cgroup" and "pids" in options.split(","):
                try:
                    group = tempfile.mkdtemp(prefix="stayd-test-", dir=where)
                except OSError as e:
                    skip("no pids cgroup: %s" % e)
                atexit.register(lambda: os.path.isdir(group) and os.rmdir(group))
                return group
    skip("no pids cgroup of version 1 here")


def settled_count(path):
    """The number in it when it is the same for half a second, else 0."""
    seen = set()
    for _ in range(50):
        with open(path) as f:
            seen.add(int(f.read()))
        time.sleep(0.01)
    return seen.pop() if len(seen) == 1 else 0


@test
def processes_that_run_out_are_said_and_services_come_back_when_there_is_room():
    need_root()
    group = pids_group()
    with Daemon({"keep.service": KEEP, "more.service": KEEP},
                wrap=["sh", "-c", "echo $$ >%s/cgroup.procs; exec \"$@\"" % group, "sh"]) as d:
        try:
            d.ctl("start", "keep")
            wait_for(lambda: d.pid_of("logger"), 20, "the logger, which comes last")
            now = wait_for(lambda: settled_count(group + "/pids.current"), 20, "what there is to be what stays")
            with open(group + "/pids.max", "w") as f:
                f.write(str(now))
            r = d.ctl("start", "more", "--timeout", "2s", check=False)
            check(r.rc != 0, "it started: %r" % r)
            says(d, "more.service", "EAGAIN")
            d.ctl("stop", "more")
            crash(d)
            d.ctl("start", "more", "--no-wait")
            with open(group + "/pids.max", "w") as f:
                f.write("max")
            d.wait_unit("more.service", active_state="active", deadline=20)
        finally:
            with open(group + "/pids.max", "w") as f:
                f.write("max")
    wait_for(lambda: not open(group + "/cgroup.procs").read(), 10)
    os.rmdir(group)


@contextlib.contextmanager
def memory_group():
    """A memory cgroup of version 1 for this test; yields its directory."""
    where = "/sys/fs/cgroup/memory"
    if not os.path.exists(where + "/memory.limit_in_bytes"):
        skip("no memory cgroup of version 1 here")
    try:
        group = tempfile.mkdtemp(prefix="stayd-test-", dir=where)
    except OSError as e:
        skip("no memory cgroup: %s" % e)
    try:
        yield group
    finally:
        wait_for(lambda: reap() or not open(group + "/cgroup.procs").read(), 20)
        os.rmdir(group)


@test
def a_service_killed_for_the_memory_of_all_is_said_to_be_with_the_limit_and_the_remedy():
    need_root()
    hog = "[Service]\nExecStart=%s alloc:256\n" % SVC
    for args in [], ["--tracking=shim"]:
        with memory_group() as group:
            units = {"keep.service": KEEP, "hog.service": hog, "again.service": hog + "Restart=on-failure\nRestartSec=1h\n"}
            with Daemon(units, args=args, wrap=["sh", "-c", "echo $$ >%s/cgroup.procs; exec \"$@\"" % group, "sh"]) as d:
                d.ctl("start", "keep")
                with open(group + "/memory.limit_in_bytes", "w") as f:
                    f.write(str((192 if SANITIZED else 64) << 20))
                pid, core = d.unit("keep.service")["main_pid"], d.pid_of("core")
                d.ctl("start", "hog", check=False)
                u = d.wait_unit("hog.service", active_state="failed")
                check(u["result"] == "oom-kill" and "lack of memory" in u["detail"], u)
                says(d, "hog.service: killed by the kernel", group + "/memory.limit_in_bytes", "MemoryMax=")
                d.ctl("start", "again", "--no-wait", check=False)
                d.wait_unit("again.service", sub_state="auto-restart", result="oom-kill")
                check(d.unit("keep.service")["main_pid"] == pid and d.pid_of("core") == core, "others are untouched")
                crash(d)
                check("keep.service: killed by the kernel" not in d.log_text(), "a SIGKILL by hand is none")
                d.ctl("stop", "keep", "again")


@test
def a_core_without_memory_is_replaced_and_loses_nothing():
    with Daemon({"keep.service": KEEP}) as d:
        d.ctl("start", "keep")
        pid, core = d.unit("keep.service")["main_pid"], d.pid_of("core")
        with open("/proc/%d/statm" % core) as f:
            size = int(f.read().split()[0]) * 4096
        for i in range(200):
            d.write_unit("big%d.service" % i, "[Service]\n" + "".join("Environment=V%d=%s\n" % (k, "x" * 900) for k in range(60)) +
                         "ExecStart=%s\n" % SVC)
        subprocess.run(["prlimit", "--pid", str(core), "--as=%d:%d" % (size + (1 << 20), size + (1 << 20))], check=True)
        r = d.ctl("start", *["big%d" % i for i in range(200)], "--no-wait", check=False)
        check(r.rc != 0, "it had the memory: %r" % r)
        if "-san" not in BUILD:  # a sanitizer says it in words of its own
            says(d, "out of memory")
        d.wait_unit("keep.service", main_pid=pid, active_state="active", deadline=20)
        check(d.pid_of("core") != core, "the same core")
        crash(d)


main()
