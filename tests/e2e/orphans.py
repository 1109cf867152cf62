"""For tests that kill keeper: what the daemon's log tells of ends, and who reaps what keeper left."""
import contextlib, os, re, threading, time

EXIT = re.compile(r"^stayd: (\S+)\.service: exited: main process (\d+): (?:code=(\w+), (?:status|signal)=(\w+)|(its status is not known))", re.M)


def children(pid):
    with contextlib.suppress(OSError):
        with open("/proc/%d/task/%d/children" % (pid, pid)) as f:
            return [int(p) for p in f.read().split()]
    return []


class Reaper(threading.Thread):
    """Services of a dead keeper become children of the test; somebody has to reap them. Known by their
    programs: what subprocess waits for is none of ours."""

    NAMES = ("svc", "websvc", "stayd-shim", "stayd-core", "stayd-launcher", "stayd-logger", "stay-net")

    def __init__(self, pause=0.02):
        super().__init__(daemon=True)
        self.stopping, self.pause = False, pause

    def run(self):
        while not self.stopping:
            for pid in children(os.getpid()):
                with contextlib.suppress(OSError):
                    with open("/proc/%d/stat" % pid) as f:
                        stat = f.read()
                    if re.search(r"\((.*)\)", stat).group(1) in self.NAMES:
                        os.waitpid(pid, os.WNOHANG)
            time.sleep(self.pause)
