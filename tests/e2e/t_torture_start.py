"""Torture list 40: PID 1 is told to end at each stage of its start-up; it does, and leaves nobody behind."""
from bed import *
from torture import *

N = 12


def units(p, dir):
    """A chain of services of all kinds, so that a start-up has many stages."""
    u, after = {}, ""
    for i in range(N):
        kind = ("simple", "notify", "oneshot", "forking")[i % 4]
        steps = {"simple": ["event:up"], "notify": ["sleep:20", "notify:READY=1", "event:up"], "oneshot": ["sleep:20", "event:up", "exit:0"],
                 "forking": ["daemonize", "event:up"]}[kind]
        more = {"RemainAfterExit": "yes"} if kind == "oneshot" else {}
        if i % 3 == 0:
            more["ExecStartPre"] = "%s sleep:10 exit:0" % SVC
        u["s%02d.service" % i] = p.unit(*steps, prefix="[Unit]\n%s" % after, Type=kind, TimeoutStopSec="5", **more)
        after = "Requires=s%02d.service\nAfter=s%02d.service\n" % (i, i)
    return u


def is_stayd(pid):
    with contextlib.suppress(OSError):
        return os.readlink("/proc/%d/exe" % pid).endswith("/stayd")
    return False


class Starting(Bed):
    def __init__(self, bed, p, dir):
        super().__init__(bed, units(p, dir), targets=["s%02d.service" % (N - 1)], wait=False, env={"STAYD_STOP_BUDGET": "20"})

    def moment(self, wait):
        """Starts, returns the pid of PID 1 once it is stayd and wait() is over."""
        self.start()
        end = time.monotonic() + 20 * PATIENCE
        while True:
            init = next((p for i, p in self.inner().items() if i == 1 and is_stayd(p)), None)
            if init:
                break
            check(time.monotonic() < end and self.proc.poll() is None, "PID 1 began: %s" % self.log_text())
        wait(init)
        return init


def one(bed, name, make_wait):
    with temp_dir() as dir:
        os.chmod(dir, 0o755)
        p = Puppets(dir)
        d = Starting(bed, p, dir)
        init = d.moment(make_wait(d, p))
        begin, again = time.monotonic(), 0
        with contextlib.suppress(ProcessLookupError):
            os.kill(init, signal.SIGTERM)
        while True:
            try:
                d.proc.wait(3 * SLOW if name.startswith("after ") and not again else 30 * PATIENCE)
                break
            except subprocess.TimeoutExpired:
                # The kernel drops what PID 1 has no handler for yet: who stops a container asks again or kills.
                again += 1
                early = name.startswith("after ")  # PID 1 may have been kept from the processor as long
                check(again <= 1 and early, "told to end %s, and goes on: %s" % (name, d.log_text()[-3000:]))
                os.kill(init, signal.SIGTERM)
        took = time.monotonic() - begin
        check(d.proc.returncode == 0, "%s: ended with %s:\n%s" % (name, d.proc.returncode, d.log_text()[-3000:]))
        left = strangers()
        left.pop(d.proc.pid, None)
        check(not left, "%s: left behind %s" % (name, [(x, cmdline(x)) for x in left]))
        n = len(set(e.pid for e in p.drain() if e.name == "start"))
        d.destroy()
        p.close()
        return "%s: %d started, %.0f ms%s" % (name, n, took * 1000, ", asked twice" if again else "")


def after_ms(ms):
    def make(d, p):
        def wait(init):
            end = time.monotonic() + ms / 1000
            while time.monotonic() < end:
                pass
        return wait
    return "after %s ms" % ms, make


def when(name, predicate):
    def make(d, p):
        return lambda init: wait_for(lambda: predicate(d, p), 30, name)
    return "when " + name, make


def ups(p, n):
    while p._receive(0):
        pass
    return sum(e.name == "up" for e in p.seen) >= n


STAGES = [after_ms(ms) for ms in (0, 0.5, 1, 2, 4, 8, 15, 30, 60)] + [
    when("core lives", lambda d, p: any("core" in cmdline(x) for x in descendants(d.proc.pid))),
    when("the control socket is there", lambda d, p: os.path.exists(d.socket)),
] + [when("%d of %d are up" % (n, N), lambda d, p, n=n: ups(p, n)) for n in (1, 2, 4, 7, 10, N)]


@in_beds("rw", "docker")
def sigterm_at_each_stage_of_the_start_ends_everything(bed):
    for name, make in STAGES:
        print("# %s, %s" % (bed, one(bed, name, make)), flush=True)


main()
