"""Torture list 14, 16-19: single notifications that should not be believed. (Floods are in t_hostile_service, the
protocol itself in t_notify.)"""
from torture import *

PRELUDE = """
import array, os, select, signal, socket, sys, time
N = os.environ["NOTIFY_SOCKET"]
def say(text, fds=(), sock=None):
    s = sock or socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    if isinstance(text, str): text = text.encode()
    if sock is None: s.connect(N)
    try:
        s.sendmsg([text], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])
    except OSError as e:
        print("send:", e, flush=True)
"""


def script(r, name, body, **service):
    """A unit that runs these lines of Python after the prelude."""
    path = r.path(name + ".py")
    with open(path, "w") as f:
        f.write(PRELUDE + body)
    os.chmod(path, 0o644)
    r.d.write_unit(name + ".service", "[Service]\nExecStart=/usr/bin/python3 %s\n%s" % (path, "".join("%s=%s\n" % kv for kv in service.items())))


@test
def child_that_closes_everything_or_hands_its_socket_on_says_nothing_for_others():
    need_root()
    with Rig() as r:
        meet = r.path("meet")
        script(r, "a", "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.connect(N)\n"
               "l = socket.socket(socket.AF_UNIX); os.path.exists(%r) and os.unlink(%r); l.bind(%r); os.chmod(%r, 0o666); l.listen(1)\n"
               "say('READY=1\\nSTATUS=mine')\n"  # not before: the other one connects as soon as this is up
               "c, _ = l.accept(); socket.send_fds(c, [b'x'], [s.fileno()]); time.sleep(1000)\n" % (meet, meet, meet, meet), Type="notify")
        script(r, "b", "c = socket.socket(socket.AF_UNIX)\nc.connect(%r); _, f, _, _ = socket.recv_fds(c, 1, 1)\n"
               "s = socket.socket(fileno=f[0]); say('READY=1\\nSTATUS=stolen\\nMAINPID=%%d' %% os.getpid(), sock=s); say('STATUS=stolen', sock=s)\n"
               "open(%r, 'w').write('said'); time.sleep(1000)\n" % (meet, r.path("out/said")), User="nobody", Type="simple", NotifyAccess="none",
               Environment="NOTIFY_SOCKET=@none")
        script(r, "closes", "say('READY=1\\nSTATUS=open')\nif os.fork() == 0:\n  os.closerange(0, 4096); os.setsid(); time.sleep(1000)\nos.closerange(0, 4096)\ntime.sleep(1000)\n",
               Type="notify", NotifyAccess="all", TimeoutStopSec="5")
        os.mkdir(r.path("out"))
        os.chmod(r.path("out"), 0o777)

        def round():
            with contextlib.suppress(FileNotFoundError):
                os.unlink(r.path("out/said"))
            r.ctl("start", "a", "closes", check=True)
            r.ctl("start", "b", check=True)
            wait_for(lambda: os.path.exists(r.path("out/said")), 20, "the other user to have spoken")
            r.ctl("ping")
            a, b = r.d.unit("a.service"), r.d.unit("b.service")
            check(a["status_text"] == "mine" and b["status_text"] == "", (a, b))
            with open("/proc/%d/cmdline" % a["main_pid"]) as f:
                check("a.py" in f.read(), "the main process is its own")
            check(r.d.unit("closes.service")["sub_state"] == "running", r.d.unit("closes.service"))
        r.torture(round)


@test
def message_with_253_descriptors_leaves_none_behind():
    with Rig() as r:
        script(r, "a", "fds = [os.dup(1) for _ in range(253)]\nfor i in range(50): say('FDSTORE=1\\nFDNAME=x', fds); say('BARRIER=1', fds); say('X=1', fds)\n"
               "say('READY=1\\nSTATUS=done')\ntime.sleep(1000)\n", Type="notify", NotifyAccess="all", FileDescriptorStoreMax="2")

        def round():
            base = r.snapshot().fds
            r.ctl("start", "a", check=True)
            wait_for(lambda: fds_of(r.snapshot().pids["core"]) <= base["core"] + 2 + 3, 20, "core's descriptors to be its own again")
            r.d.wait_unit("a.service", status_text="done")
        r.torture(round)


@test
def mainpid_of_nobody_or_somebody_else_is_not_believed():
    with Rig() as r:
        s = r.snapshot()
        bad = ["1", "0", "-1", "2147483648", "4294967297", "99999999999999999999", "", "12x", " 7", "0x10", str(s.pids["keeper"]),
               str(s.pids["core"]), str(s.bystanders["by-plain.service"][0]), str(os.getpid())]
        script(r, "a", "for m in %r:\n  say('MAINPID=' + m)\n  say('MAINPID=%%d\\nMAINPID=' %% os.getpid() + m)\nsay('READY=1\\nSTATUS=done')\ntime.sleep(1000)\n" % bad,
               Type="notify", NotifyAccess="all")

        def round():
            r.ctl("start", "a", check=True)
            u = r.d.wait_unit("a.service", status_text="done")
            with open("/proc/%d/cmdline" % u["main_pid"]) as f:
                check("a.py" in f.read(), u)
        r.torture(round, says="MAINPID=.* is not a process of this unit")


@test
def ready_after_death_and_status_of_64_kib_change_nothing():
    with Rig() as r:
        script(r, "late", "if os.fork() == 0:\n  signal.signal(signal.SIGTERM, signal.SIG_IGN)\n  os.read(os.open(%r, os.O_RDONLY), 1)\n  say('READY=1\\nSTATUS=late')\n  time.sleep(1000)\n"
               "sys.exit(3)\n" % r.path("fifo"), Type="notify", NotifyAccess="all", KillMode="process", SendSIGKILL="no", TimeoutStopSec="1")
        os.mkfifo(r.path("fifo"))
        script(r, "long", "for n in (512, 4095, 4096, 4097, 65000): say('STATUS=' + '\\x1b[31m' * (n // 5))\nsay(b'STATUS=\\xff\\xfe\\x00 odd')\n"
               "say('READY=1')\ntime.sleep(1000)\n", Type="notify", NotifyAccess="all")

        def round():
            check(r.ctl("start", "late").rc != 0, "it ended before it was ready")
            os.write(os.open(r.path("fifo"), os.O_RDWR | os.O_NONBLOCK), b"x")
            r.ctl("start", "long", check=True)
            u = r.d.unit("late.service")
            check(u["active_state"] in ("failed", "deactivating") and u["sub_state"] != "running", u)
            text = r.d.unit("long.service")["status_text"]
            out = r.ctl("status", "long").out + r.ctl("status").out
            check(len(text) <= 512 and "\x1b" not in text + out and "\0" not in out, (len(text), text[:80]))
            for p, _ in descendants(r.d.keeper_pid).items():
                if "late.py" in cmdline(p):
                    os.kill(p, signal.SIGKILL)
            r.d.wait_unit("late.service", active_state="failed", deadline=20)
        r.torture(round)


@test
def fdstore_of_odd_descriptors_keeps_to_its_quota_and_gives_them_back():
    with Rig() as r:
        script(r, "a", "p, q = os.pipe(); os.close(q)\ne = select.epoll()\nn = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); n.connect(N)\ne.register(n.fileno())\n"
               "odd = [p, e.fileno(), n.fileno(), os.open('/proc/self/mem', os.O_RDWR), os.open('/', os.O_PATH), os.open('/proc/self/status', 0)]\n"
               "print('got', os.environ.get('LISTEN_FDS'), flush=True)\n"
               "for f in odd: say('FDSTORE=1\\nFDNAME=odd%d' % odd.index(f), [f])\nfor name in ('', '../x', 'a:b', 'x' * 300, '\\x1b'): say('FDSTORE=1\\nFDNAME=' + name, [odd[0]])\n"
               "say('FDSTORE=1'); say('FDSTOREREMOVE=1\\nFDNAME=none')\nsay('READY=1\\nSTATUS=done')\ntime.sleep(1000)\n",
               Type="notify", NotifyAccess="all", FileDescriptorStoreMax="4", Restart="always", RestartSec="0")

        def round():
            r.ctl("start", "a", check=True)
            for _ in range(3):
                u = r.d.wait_unit("a.service", status_text="done", sub_state="running")
                os.kill(u["main_pid"], signal.SIGKILL)
                r.d.wait_unit("a.service", lambda v: v["n_restarts"] > u["n_restarts"] and v["sub_state"] == "running" and v["status_text"] == "done",
                              deadline=20)
            wait_for(lambda: "got 4" in r.ctl("logs", "a").out, 10, lambda: r.ctl("logs", "a").out[-500:])  # they wait 1 s for the logger
            r.ctl("stop", "a", check=True)
        r.torture(round, says="FileDescriptorStoreMax=4")


main()
