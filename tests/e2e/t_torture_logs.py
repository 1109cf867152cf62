"""Torture list 20, 21: output without end, and a log directory that cannot be written."""
from fusefs import HungFs
from torture import *


def log_mounted(how):
    """A wrapper that mounts something at the log directory, in a mount namespace of the daemon's own."""
    wrap = ["unshare", "-m", "--propagation", "private", "sh", "-c", how + ' && exec "$@"', "sh"]
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        skip("no mount namespaces here")
    return wrap


class Logged(Rig):
    """A Rig whose log directory is a small tmpfs; inside(CMD) runs a command where it is seen."""

    def __init__(self, how="mount -t tmpfs -o size=2m none %s", **more):
        self.how = how
        super().__init__(lambda s: {"a.service": s.puppets.unit(s.control("a"), "print:hello", "event:up", Restart="always", RestartSec="0"),
                                    "spam.service": s.puppets.unit("event:spams", "spam:100000:100", "event:over")}, **more)
        self.d.wrap = log_mounted(how % self.d.log_dir)

    def inside(self, command):
        return subprocess.run(["nsenter", "-t", str(self.d.keeper_pid), "-m", "sh", "-c", command], capture_output=True, text=True, timeout=30 * PATIENCE)

    def works(self):
        """A service can be started, talks, is restarted and stopped."""
        self.ctl("start", "a", check=True)
        pid = self.puppets.wait("up").pid
        self.tell("a", "print:" + "x" * 1000)
        os.kill(pid, signal.SIGKILL)
        self.puppets.wait("up")
        begin = time.monotonic()
        self.ctl("stop", "a", check=True)
        check(time.monotonic() - begin < 10 * SLOW, "stop took %.1f s" % (time.monotonic() - begin))


def anew(r):
    """Another logger, that opens everything anew."""
    logger = r.d.pid_of("logger")
    os.kill(logger, signal.SIGKILL)
    wait_for(lambda: r.d.pid_of("logger") not in (None, 0, logger), 10, "another logger")


@test
def stdout_of_a_gigabyte_without_newline_is_taken_whole_by_the_pipe_and_bounded_on_disk():
    """The flood itself is t_hostile_service; here: a line without an end is cut in marked pieces, and the unit's
    own end and messages still stand in its log."""
    with Rig(lambda s: {"a.service": s.puppets.unit("event:up", "print-raw:" + "y" * 4000, s.control("a"), "event:go")}) as r:
        def round():
            r.ctl("start", "a", check=True)
            r.puppets.wait("go")
            for _ in range(20):
                r.tell("a", "print-raw:" + "z" * 4000)
            r.tell("a", "event:written")
            r.puppets.wait("written")
            r.ctl("stop", "a", check=True)
            out = wait_for(lambda: (lambda t: "zzzz" in t and t)(r.ctl("logs", "a", "-n", "50").out), 10, "the line in the log")
            check(max(len(l) for l in out.splitlines()) < 20000, "lines are bounded")
        r.torture(round)


@test
def log_directory_full_drops_lines_says_so_and_blocks_nobody():
    with Logged() as r:
        def round():
            r.ctl("start", "spam", check=True)
            r.puppets.wait("over", deadline=60)
            r.inside("dd if=/dev/zero of=%s/ballast bs=64k 2>/dev/null" % r.d.log_dir)
            r.ctl("restart", "spam", check=True)
            r.puppets.wait("over", deadline=60)
            r.works()
            r.inside("rm -f %s/ballast" % r.d.log_dir)
            r.ctl("stop", "spam")
            r.works()
        r.torture(round, says="(ENOSPC|no space).*(dropped|lines)")


@test
def log_directory_read_only_blocks_nobody_and_is_used_again_when_it_can_be_written():
    with Logged() as r:
        def round():
            r.works()
            r.inside("mount -t tmpfs -o ro none %s" % r.d.log_dir)
            anew(r)
            for _ in range(3):
                r.works()
            r.inside("umount -l %s" % r.d.log_dir)
            anew(r)
            r.works()
            wait_for(lambda: "hello" in r.inside("tail -n 20 %s/a.service/current" % r.d.log_dir).stdout, 10, "lines to be written again")
        r.torture(round, says="EROFS", killed=("logger",))


@test
def log_directory_deleted_is_made_again_or_said_and_blocks_nobody():
    with Rig(lambda s: {"a.service": s.puppets.unit(s.control("a"), "print:hello", "event:up", Restart="always", RestartSec="0")}) as r:
        def round():
            Logged.works(r)
            shutil.rmtree(r.d.log_dir)
            Logged.works(r)
            with contextlib.suppress(FileExistsError):
                os.mkdir(r.d.log_dir)
            for _ in range(2):
                Logged.works(r)
            r.ctl("logs", "a")
        r.torture(round)


@test
def log_directory_with_input_output_errors_blocks_nobody():
    need_root()
    need("/dev/fuse")
    with temp_dir() as at:
        fs = HungFs(at, error=5)
        try:
            with Rig(lambda s: {"a.service": s.puppets.unit(s.control("a"), "print:hello", "event:up", Restart="always", RestartSec="0")}) as r:
                def swap(to):
                    os.rename(r.d.log_dir, r.d.log_dir + ".real") if to == "bad" else None
                    if to == "bad":
                        os.symlink(at, r.d.log_dir)
                    else:
                        os.unlink(r.d.log_dir)
                        os.rename(r.d.log_dir + ".real", r.d.log_dir)

                def round():
                    Logged.works(r)
                    swap("bad")
                    try:
                        anew(r)
                        for _ in range(2):
                            Logged.works(r)
                        r.ctl("status", "a")
                    finally:
                        swap("good")
                r.torture(round, says="EIO", killed=("logger",))
        finally:
            fs.close()


main()
