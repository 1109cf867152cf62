"""What a program finds when it starts (systemd.exec(5)), and what this host does not allow, on the real daemon.

Where the host cannot do something, the unit's degraded[] in `status --json` must say so; what it
does not list must be true of the process. `stayctl check` must agree for what stayd never does."""
from lib import *

PROBE = os.path.join(BUILD, "tests/tools/probe")


class Probes:
    """Runs probe in oneshot units, one each, in one daemon, and reads back what it printed."""

    def __init__(self, cases, **daemon):
        """cases: {name: (probe arguments, [lines of [Service]])}"""
        self.cases, self.kwargs = cases, daemon

    def __enter__(self):
        need(PROBE)
        self.dir = tempfile.mkdtemp(prefix="stayd-test.")
        os.chmod(self.dir, 0o755)
        self.out = os.path.join(self.dir, "out")
        os.mkdir(self.out)
        os.chmod(self.out, 0o777)
        units = {}
        for name, (args, lines) in self.cases.items():
            path = os.path.join(self.out, name)
            open(path, "w").close()
            std = [] if any(l.startswith("StandardOutput") for l in lines) else ["StandardOutput=append:" + path]
            units[name + ".service"] = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=%s %s\n%s\n" % (
                PROBE, args, "\n".join(std + [l.replace("@DIR@", self.dir) for l in lines]))
        self.daemon = Daemon(units, directory=self.dir, **self.kwargs)
        self.daemon.owns_dir = True
        self.daemon.__enter__()
        self.daemon.ctl("start", *self.cases, check=False)
        return self

    def __exit__(self, *exc):
        return self.daemon.__exit__(*exc)

    def text(self, name):
        with open(os.path.join(self.out, name)) as f:
            return f.read()

    def found(self, name):
        """{key: value} of what the probe of that case printed; it must have succeeded."""
        u = self.daemon.unit(name + ".service")
        check(u["active_state"] == "active", "%s: %s" % (name, u))
        lines = [l.split(None, 1) for l in self.text(name).splitlines()]
        f = {}
        for l in lines:
            if l and l[0] == "env":
                k, _, v = (l[1] if len(l) > 1 else "").partition("=")
                f["env " + k] = v
            elif l and l[0] in ("write", "read", "list", "call"):
                what, _, value = l[1].rpartition(" ")
                f[l[0] + " " + what] = value
            elif l:
                f[l[0].rstrip(":")] = l[1] if len(l) > 1 else ""
        return f

    def degraded(self, name):
        return {x["directive"]: x["reason"] for x in self.daemon.unit(name + ".service")["degraded"]}

    def expect(self, name, directive, **want):
        """True of the process unless status says that the directive is degraded; True when enforced."""
        why = self.degraded(name).get(directive)
        if why is not None:
            print("# %s= is degraded here: %s" % (directive, why))
            return False
        f = self.found(name)
        for k, v in want.items():
            k = k.replace("__", " ")
            got = f.get(k)
            check(v(got) if callable(v) else got == v, "%s: %s is %r, want %r" % (name, k, got, v))
        return True


@test
def identity_is_what_the_file_says():
    need_root()
    import grp, pwd
    nobody, daemon_gid, tty = pwd.getpwnam("nobody").pw_uid, grp.getgrnam("daemon").gr_gid, grp.getgrnam("tty").gr_gid
    with Probes({
            "user": ("show", ["User=nobody", "Group=daemon", "SupplementaryGroups=tty"]),
            "plain": ("show", []),
            "dynamic": ("show", ["DynamicUser=yes", "RuntimeDirectory=stayd-test-dyn-%d" % os.getpid()]),
            "bad": ("show", ["User=no-such-user"])}) as p:
        f = p.found("user")
        check(f["Uid"].split() == [str(nobody)] * 4 and f["Gid"].split() == [str(daemon_gid)] * 4, f)
        check(str(tty) in f["Groups"].split(), f["Groups"])
        check(f["env USER"] == f["env LOGNAME"] == "nobody" and f["env HOME"] == pwd.getpwnam("nobody").pw_dir, "USER HOME LOGNAME")
        check(p.found("plain")["Uid"].split()[0] == "0", "as the daemon")
        f = p.found("dynamic")
        check(61184 <= int(f["Uid"].split()[0]) <= 65519 and f["NoNewPrivs"] == "1", f["Uid"])
        check(p.daemon.unit("bad.service")["exec_main_status"] == 217, p.daemon.unit("bad.service"))


@test
def limits_and_scheduling_are_applied():
    need_root()
    with Probes({
            "a": ("show", ["LimitNOFILE=300:400", "LimitCORE=0", "LimitNPROC=5000", "LimitMEMLOCK=64K", "UMask=0027", "Nice=5",
                           "TimerSlackNSec=77777", "CPUAffinity=%d" % min(os.sched_getaffinity(0)), "IOSchedulingClass=idle", "CPUSchedulingPolicy=batch",
                           "OOMScoreAdjust=500", "WorkingDirectory=/usr", "SecureBits=keep-caps", "Personality=x86-64"]),
            "oom": ("show", ["OOMScoreAdjust=-500"]), "plain": ("show", [])}) as p:
        f = p.found("a")
        want = {"rlimit7": "300 400", "rlimit4": "0 0", "rlimit6": "5000 5000", "rlimit8": "65536 65536", "umask": "0027", "nice": "5",
                "timerslack": "77777", "cpus": "1", "policy": "3", "oom": "500", "cwd": "/usr", "ioprio": lambda v: int(v) >> 13 == 3}
        for k, v in want.items():
            check(v(f[k]) if callable(v) else f[k] == v, "%s is %r, want %r" % (k, f[k], v))
        p.expect("oom", "OOMScoreAdjust", oom="-500")
        f = p.found("plain")
        check((f["umask"], f["cwd"], f["nice"]) == ("0022", "/", str(os.nice(0))), (f["umask"], f["cwd"], f["nice"]))
        check(f["fds"] == "0 1 2", "no descriptor leaks in: %s" % f["fds"])
        check(f["SigBlk"] == "0" * 16 and int(f["SigIgn"], 16) == 1 << (signal.SIGPIPE - 1), "signals as at boot: %s %s" % (f["SigBlk"], f["SigIgn"]))
        check(f["sid"] == f["pid"], "a session of its own")


@test
def the_environment_is_made_as_documented():
    with temp_dir() as top:
        with open(top + "/env", "w") as f:
            f.write("# a comment\nFILE=from file\nQUOTED=\"a b\"\nBOTH=file\nexport\n")
        with Probes({
                "a": ("show ${ONE} $TWO \"$ONE\" $$x", ["Environment=ONE=1 \"TWO=two words\" BOTH=unit GONE=1", "EnvironmentFile=" + top + "/env",
                      "EnvironmentFile=-/nonexistent", "PassEnvironment=STAYD_PASSED", "UnsetEnvironment=GONE"]),
                "b": ("show", ["EnvironmentFile=/nonexistent"])}, env={"STAYD_PASSED": "yes", "STAYD_KEPT": "no"}) as p:
            f = p.found("a")
            want = {"env ONE": "1", "env TWO": "two words", "env FILE": "from file", "env QUOTED": "a b", "env BOTH": "file",
                    "env STAYD_PASSED": "yes", "env GONE": None, "env STAYD_KEPT": None}
            for k, v in want.items():
                check(f.get(k) == v, "%s is %r, want %r" % (k, f.get(k), v))
            check(len(f["env INVOCATION_ID"]) == 32 and "/usr/bin" in f["env PATH"], "INVOCATION_ID and PATH")
            args = [f.get("arg%d" % i) for i in range(2, 7)]
            check(args == ["1", "two", "words", "1", "$x"], args)
            u = p.daemon.unit("b.service")
            check(u["active_state"] == "failed" and "/nonexistent" in u["detail"], u)


@test
def standard_streams_go_where_they_should():
    with temp_dir() as top:
        for n in ("in", "append", "truncate", "file"):
            with open(os.path.join(top, n), "w") as f:
                f.write("old contents, long enough to see what is left\n")
        shell = "ExecStart=/bin/sh -c "
        with Daemon({
                "null.service": "[Service]\nType=oneshot\nStandardOutput=null\n%s'echo unseen; echo seen >&2'\n" % shell,
                "in.service": "[Service]\nType=oneshot\nStandardInput=file:%s/in\nStandardOutput=truncate:%s/copy\nExecStart=/bin/cat\n" % (top, top),
                "append.service": "[Service]\nType=oneshot\nStandardOutput=append:%s/append\n%s'echo new'\n" % (top, shell),
                "truncate.service": "[Service]\nType=oneshot\nStandardOutput=truncate:%s/truncate\n%s'echo new'\n" % (top, shell),
                "file.service": "[Service]\nType=oneshot\nStandardOutput=file:%s/file\n%s'echo new'\n" % (top, shell),
                "journal.service": "[Service]\nType=oneshot\n%s'echo out; echo err >&2'\n" % shell,
                "errfile.service": "[Service]\nType=oneshot\nStandardError=append:%s/err\n%s'echo out; echo err >&2'\n" % (top, shell),
                "inherit.service": "[Service]\nType=oneshot\nStandardOutput=append:%s/both\nStandardError=inherit\n%s'echo out; echo err >&2'\n" % (top, shell),
                "tty.service": "[Service]\nType=oneshot\nStandardInput=tty\nTTYPath=/dev/nonexistent-tty\nExecStart=/bin/true\n",
                "nodir.service": "[Service]\nType=oneshot\nStandardOutput=append:/nonexistent/x\nExecStart=/bin/true\n"}) as d:
            for n in ("null", "in", "append", "truncate", "file", "journal", "errfile", "inherit"):
                d.ctl("start", n)

            def has(name):
                with open(os.path.join(top, name)) as f:
                    return f.read()
            old = "old contents, long enough to see what is left\n"
            check("seen" not in d.ctl("logs", "null").out, "StandardError=inherit goes to /dev/null with it")
            check(has("copy") == old, has("copy"))
            check(has("append") == old + "new\n" and has("truncate") == "new\n" and has("file") == "new\n" + old[4:], (has("append"), has("truncate"), has("file")))
            check(has("err") == "err\n" and has("both") == "out\nerr\n", (has("err"), has("both")))
            t = wait_for(lambda: (lambda t: "err" in t and t)(d.ctl("logs", "journal").out), 10, "both lines")
            check("out" in t, t)
            check("err" not in [l.split()[-1] for l in d.ctl("logs", "errfile").out.splitlines()], "stderr went to its file")
            r = d.ctl("start", "tty", check=False)
            check(r.rc == 1 and "/dev/nonexistent-tty" in r.err, r)
            r = d.ctl("start", "nodir", check=False)
            check(r.rc == 1 and "/nonexistent/x" in r.err and "209/STDOUT" in r.err, r)


@test
def nobodys_links_lead_root_to_its_own_files():
    """The file of a standard stream in a directory of the service, or of somebody: root opens it."""
    need_root()
    import pwd
    nobody = pwd.getpwnam("nobody").pw_uid
    with temp_dir() as top:
        os.chmod(top, 0o755)
        path = lambda n: os.path.join(top, n)
        secret, own = path("secret"), path("own")
        for n in ("own", "closed"):
            os.mkdir(path(n))

        def put(where, text, uid=0, mode=0o600):
            with open(where, "w") as f:
                f.write(text)
            os.chown(where, uid, uid)
            os.chmod(where, mode)

        def link(name, target, uid=nobody):
            os.symlink(target, os.path.join(own, name))
            os.lchown(os.path.join(own, name), uid, uid)
        os.chmod(path("closed"), 0o700)
        os.chown(own, nobody, nobody)
        put(secret, "secret\n")
        put(os.path.join(own, "roots"), "old\n")  # as systemd leaves it
        put(os.path.join(own, "mine"), "old\n", nobody)
        os.link(secret, os.path.join(own, "hard"))
        link("steal", secret)
        link("steal2", "steal", 0)
        link("new", path("closed/made"))
        link("dir", path("closed"))
        link("tomine", "mine")
        link("back", "../own/../own/mine", 0)
        cases = {n: (n, "append", False, True) for n in ("steal", "steal2", "hard", "new", "dir/made")}
        cases.update({"t-" + n: (n, "truncate", False, True) for n in ("steal", "hard")})
        cases.update({"mine": ("mine", "append", True, True), "roots": ("roots", "append", True, True), "tomine": ("tomine", "append", True, False),
                      "back": ("back", "append", True, True), "fresh": ("fresh", "file", True, True), "t-mine": ("mine", "truncate", True, True)})
        units = {}
        for n, (where, how, is_good, as_root) in cases.items():
            for user in ("nobody", "root"):
                units["%s-%s.service" % (n.replace("/", "-"), user)] = (
                    "[Service]\nType=oneshot\nUser=%s\nStandardOutput=%s:%s/%s\nExecStart=/bin/echo new\n" % (user, how, own, where))
        units["in.service"] = "[Service]\nType=oneshot\nUser=nobody\nStandardInput=file:%s/steal\nExecStart=/bin/cat\n" % own
        units["null.service"] = "[Service]\nType=oneshot\nUser=nobody\nStandardInput=file:/dev/null\nStandardOutput=append:/dev/fd/2\nExecStart=/bin/cat\n"
        with Daemon(units) as d:
            for n, (where, how, is_good, as_root) in cases.items():
                for user in ("nobody", "root"):
                    r = d.ctl("start", "%s-%s" % (n.replace("/", "-"), user), check=False)
                    want = is_good and (as_root or user == "nobody")
                    check((r.rc == 0) == want and (want or "209/STDOUT" in r.err), (n, user, r))
            r = d.ctl("start", "in", check=False)
            check(r.rc == 1 and "208/STDIN" in r.err, r)
            r = d.ctl("start", "null", check=False)
            check(r.rc == 0, r)
        with open(secret) as f:
            check(f.read() == "secret\n", "the secret is as it was")
        check(not os.listdir(path("closed")), "nothing was made where only root may")
        with open(os.path.join(own, "roots")) as f:
            check(f.read() == "old\nnew\nnew\n", "what root left there is written on")
        with open(os.path.join(own, "mine")) as f:
            check(f.read() == "new\n", "and what is the service's")


@test
def nobodys_links_show_no_environment_of_others():
    need_root()
    import pwd
    nobody = pwd.getpwnam("nobody").pw_uid
    with temp_dir() as top:
        os.chmod(top, 0o755)
        own = os.path.join(top, "own")
        os.mkdir(own)
        os.chown(own, nobody, nobody)
        for name, mode, uid in (("secret", 0o600, 0), ("group", 0o640, 0), ("public", 0o644, 0), ("mine", 0o600, nobody)):
            with open(os.path.join(top, name), "w") as f:
                f.write("FOUND=%s\n" % name)
            os.chmod(os.path.join(top, name), mode)
            os.chown(os.path.join(top, name), uid, nobody if name == "group" else uid)
            os.symlink("../" + name, os.path.join(own, name))
            os.lchown(os.path.join(own, name), nobody, nobody)
        os.symlink("../secret", os.path.join(own, "roots"))
        units = {}
        for n in ("secret", "group", "public", "mine", "roots"):
            for user in ("nobody", "root"):
                units["%s-%s.service" % (n, user)] = ("[Service]\nType=oneshot\nUser=%s\nEnvironmentFile=%s/%s\n"
                                                      "ExecStart=/bin/sh -c 'echo found=$$FOUND'\n" % (user, own, n))
        with Daemon(units) as d:
            for unit in units:
                r = d.ctl("start", unit, check=False)
                if unit == "secret-nobody.service":
                    check(r.rc == 1 and "is not root's" in r.err, r)
                    continue
                check(r.rc == 0, r)
                want = "found=" + unit.split("-")[0].replace("roots", "secret")
                wait_for(lambda: want in d.ctl("logs", unit, check=False).out, 10, want)


@test
def directory_of_root_that_a_service_puts_in_the_place_of_its_own_stays_roots():
    need_root()
    import pwd
    nobody = pwd.getpwnam("nobody").pw_uid
    name = "stayd-test-%d" % os.getpid()
    top = "/var/lib/" + name
    sub = os.path.join(top, "sub")
    try:
        with Daemon({"a.service": "[Service]\nType=oneshot\nUser=nobody\nStateDirectory=%s %s/sub\nExecStart=/bin/true\n" % (name, name)}) as d:
            d.ctl("start", "a")
            d.ctl("start", "a")
            backup = os.path.join(top, "backup")
            os.mkdir(backup, 0o700)
            with open(os.path.join(backup, "secret"), "w") as f:
                f.write("secret\n")
            os.chmod(os.path.join(backup, "secret"), 0o600)
            subprocess.run(["/bin/sh", "-c", "mv %s %s.old && mv %s %s" % (sub, sub, backup, sub)], user=nobody, group=nobody, check=True)
            r = d.ctl("start", "a", check=False)
            check(r.rc == 1 and "238/STATE_DIRECTORY" in r.err and "EPERM" in r.err, r)
            st = os.stat(os.path.join(sub, "secret"))
            check(st.st_uid == 0 and os.stat(sub).st_uid == 0, "both are root's")
            os.rename(sub, backup)
            os.rename(sub + ".old", sub)
            os.chown(top, 0, 0)  # the user has changed: what is in it changes hands with it
            d.ctl("start", "a")
            check(os.stat(os.path.join(backup, "secret")).st_uid == nobody, "as under systemd")
    finally:
        shutil.rmtree(top, ignore_errors=True)


@test
def directories_are_made_owned_and_removed():
    need_root()
    import pwd
    name = "stayd-test-%d" % os.getpid()
    nobody = pwd.getpwnam("nobody").pw_uid
    roots = {"Runtime": "/run", "State": "/var/lib", "Cache": "/var/cache", "Logs": "/var/log", "Configuration": "/etc"}
    try:
        lines = ["%sDirectory=%s/deep" % (k, name) for k in roots] + ["User=nobody", "StateDirectoryMode=0700"]
        args = "show " + " ".join("write %s/%s/deep" % (r, name) for k, r in roots.items() if k != "Configuration")
        with Probes({"a": (args, lines), "keep": ("show", ["RuntimeDirectory=%s-keep" % name, "RuntimeDirectoryPreserve=yes"]),
                     "restart": ("write /run/%s-restart/x" % name, ["RuntimeDirectory=%s-restart" % name, "RuntimeDirectoryPreserve=restart"])}) as p:
            f = p.found("a")
            for k, r in roots.items():
                path = "%s/%s/deep" % (r, name)
                check(f["env %s_DIRECTORY" % k.upper()] == path, f.get("env %s_DIRECTORY" % k.upper()))
                if k != "Configuration":
                    check(f["write " + path] == "ok" and os.stat(path).st_uid == nobody, path)
                else:
                    check(os.stat(path).st_uid == 0, "configuration stays root's")
            check(os.stat("/var/lib/%s/deep" % name).st_mode & 0o777 == 0o700, "the mode")
            kept = "/run/%s-restart/kept" % name
            open(kept, "w").close()
            p.daemon.ctl("restart", "restart")
            check(os.path.exists(kept), "Preserve=restart keeps it over a restart")
            p.daemon.ctl("stop", "a", "keep", "restart")
            check(not os.path.exists("/run/%s/deep" % name) and os.path.exists("/var/lib/%s/deep" % name), "runtime goes, state stays")
            check(os.path.exists("/run/%s-keep" % name) and not os.path.exists("/run/%s-restart" % name), "Preserve=")
    finally:
        for r in roots.values():
            for suffix in ("", "-keep", "-restart"):
                shutil.rmtree("%s/%s%s" % (r, name, suffix), ignore_errors=True)


@test
def a_directory_of_many_files_is_removed_by_another_process():
    need_root()
    name = "stayd-test-many-%d" % os.getpid()
    parent, path = "/run/" + name, "/run/%s/many" % name
    fill = "/bin/sh -c 'cd %s && seq 1 20000 | xargs touch'" % path
    unit = "[Service]\nType=oneshot\nRemainAfterExit=yes\nRuntimeDirectory=%s/many\nExecStart=%s\n" % (name, fill)
    try:
        with Daemon({"many.service": unit}) as d:
            d.ctl("start", "many")
            d.ctl("stop", "many")
            check(not os.path.exists(path), "its name is free when the unit is down")
            d.ctl("start", "many")
            check(len(os.listdir(path)) == 20000, "the next one has its own")
            wait_for(lambda: os.listdir(parent) == ["many"], what="the one before to be gone")
            check(d.status()["daemon"]["core_pid"], "core answers")
        check(os.listdir(parent) == [], "nothing is left by a daemon that ends")
    finally:
        shutil.rmtree(parent, ignore_errors=True)


def uid_slot(name):
    """Where DynamicUser= looks first (launch/image.c)."""
    h = 14695981039346656037
    for c in name.encode():
        h = (h ^ c) * 1099511628211 & (1 << 64) - 1
    return (h ^ h >> 32) % (65519 - 61184 + 1)


@test
def a_dynamic_user_is_nobody_elses_after_a_crash_of_core():
    need_root()
    seen = {}
    for i in range(10000):
        first = seen.setdefault(uid_slot("dyn%d" % i), "dyn%d" % i)
        if first != "dyn%d" % i:
            names = [first, "dyn%d" % i]
            break
    unit = "[Service]\nDynamicUser=yes\nExecStart=/bin/sleep 1000\n"
    with Daemon({n + ".service": unit for n in names}) as d:
        uid = lambda n: os.stat("/proc/%d" % d.unit(n + ".service")["main_pid"]).st_uid
        d.ctl("start", names[0])
        before = uid(names[0])
        check(61184 <= before <= 65519, before)
        os.kill(d.status()["daemon"]["core_pid"], signal.SIGKILL)
        # Not asked for its status meanwhile: that would look up users, too.
        wait_for(lambda: d.ctl("start", names[1], check=False).rc == 0, what="a start by the new core")
        check(uid(names[0]) == before, "it runs on")
        check(uid(names[1]) not in (0, before), "the other has a uid of its own, not %d" % before)
        d.ctl("restart", names[0])
        check(uid(names[0]) == before, "and it keeps its own over a restart")


@test
def namespaces_and_mounts_hold_or_are_said_to_be_degraded():
    with temp_dir() as top:
        open(top + "/secret", "w").close()
        with Probes({
                "plain": ("show", []),
                "tmp": ("show list /tmp list /var/tmp write /tmp", ["PrivateTmp=yes", "StandardOutput=append:@DIR@/out/tmp"]),
                "net": ("show", ["PrivateNetwork=yes"]),
                "system": ("show write /usr write /etc write /boot", ["ProtectSystem=full"]),
                "strict": ("show write /var write %s" % top, ["ProtectSystem=strict", "ReadWritePaths=" + top]),
                "home": ("list /root list /home", ["ProtectHome=yes"]),
                "devices": ("read /dev/null read /dev/kmsg", ["PrivateDevices=yes"]),
                "tunables": ("write /proc/sys/kernel/domainname", ["ProtectKernelTunables=yes"]),
                "paths": ("read %s/secret" % top, ["InaccessiblePaths=%s/secret" % top]),
                "tmpfs": ("list %s write %s" % (top, top), ["TemporaryFileSystem=" + top]),
                "bind": ("read /mnt/secret", ["BindReadOnlyPaths=%s:/mnt" % top]),
                "ipc": ("show", ["PrivateIPC=yes"]),
                "host": ("show call hostname", ["ProtectHostname=yes"]),
                "users": ("show", ["PrivateUsers=yes"]),
                "cgroups": ("write /sys/fs/cgroup", ["ProtectControlGroups=yes"])}) as p:
            plain = p.found("plain")
            other = lambda k: lambda v: v and v != plain[k]
            p.expect("tmp", "PrivateTmp", **{"list__/tmp": "0", "list__/var/tmp": "0", "write__/tmp": "ok", "mntns": other("mntns")})
            p.expect("net", "PrivateNetwork", netns=other("netns"))
            p.expect("system", "ProtectSystem", **{"write__/usr": "EROFS", "write__/etc": "EROFS", "write__/boot": lambda v: v in ("EROFS", "ENOENT")})
            p.expect("strict", "ProtectSystem", **{"write__/var": "EROFS", "write__" + top: "ok"})
            p.expect("home", "ProtectHome", **{"list__/root": lambda v: v in ("0", "-13"), "list__/home": lambda v: v in ("0", "-13")})
            p.expect("devices", "PrivateDevices", **{"read__/dev/null": "ok", "read__/dev/kmsg": "ENOENT"})
            p.expect("tunables", "ProtectKernelTunables", **{"write__/proc/sys/kernel/domainname": "EROFS"})
            p.expect("paths", "InaccessiblePaths", **{"read__%s/secret" % top: lambda v: v in ("EACCES", "ok")})
            p.expect("tmpfs", "TemporaryFileSystem", **{"list__" + top: "0", "write__" + top: "ok"})
            p.expect("bind", "BindReadOnlyPaths", **{"read__/mnt/secret": "ok"})
            p.expect("ipc", "PrivateIPC", ipcns=other("ipcns"))
            p.expect("host", "ProtectHostname", utsns=other("utsns"), call__hostname="EPERM")
            p.expect("users", "PrivateUsers", userns=other("userns"))
            p.expect("cgroups", "ProtectControlGroups", **{"write__/sys/fs/cgroup": "EROFS"})


@test
def privileges_and_filters_are_never_degraded():
    need_root()
    cases = {
        "nnp": ("show", ["NoNewPrivileges=yes"]),
        "bound": ("show", ["CapabilityBoundingSet=CAP_NET_BIND_SERVICE CAP_CHOWN"]),
        "drop": ("show", ["CapabilityBoundingSet=~CAP_SYS_ADMIN"]),
        "ambient": ("show", ["User=nobody", "AmbientCapabilities=CAP_NET_BIND_SERVICE"]),
        "filter": ("show call mount", ["SystemCallFilter=@system-service", "SystemCallErrorNumber=EPERM"]),
        "deny": ("call personality", ["SystemCallFilter=~personality:ENOANO"]),
        "killed": ("call mount", ["SystemCallFilter=~@mount"]),
        "wx": ("call wx", ["MemoryDenyWriteExecute=yes"]),
        "families": ("call inet call unix", ["RestrictAddressFamilies=AF_UNIX"]),
        "ns": ("call utsns", ["RestrictNamespaces=yes"]),
        "rt": ("call rt", ["RestrictRealtime=yes"]),
        "suid": ("call suid", ["RestrictSUIDSGID=yes"]),
        "personality": ("call personality", ["LockPersonality=yes"]),
        "modules": ("call module", ["ProtectKernelModules=yes"]),
        "klog": ("call syslog", ["ProtectKernelLogs=yes"]),
    }
    with Probes(cases) as p:
        for name in cases:
            check(not p.degraded(name), "%s: %s" % (name, p.degraded(name)))
        check(p.found("nnp")["NoNewPrivs"] == "1", "NoNewPrivileges")
        check(int(p.found("bound")["CapBnd"], 16) & ~(1 << 10 | 1 << 0) == 0, p.found("bound")["CapBnd"])
        check(not int(p.found("drop")["CapBnd"], 16) >> 21 & 1, p.found("drop")["CapBnd"])
        f = p.found("ambient")
        check(int(f["CapAmb"], 16) == int(f["CapEff"], 16) == 1 << 10, f)
        check(p.found("filter")["call mount"] == "EPERM" and p.found("filter")["Seccomp"] == "2", "@system-service")
        check(p.found("deny")["call personality"] == "ENOANO", p.found("deny"))
        u = p.daemon.unit("killed.service")
        check(u["active_state"] == "failed" and u["result"] in ("signal", "core-dump") and u["exec_main_status"] == signal.SIGSYS, u)
        check("SIGSYS" in p.daemon.ctl("status", "killed", check=False).out, p.daemon.ctl("status", "killed", check=False))
        for name, call, want in (("wx", "wx", "EPERM"), ("families", "inet", "EAFNOSUPPORT"), ("families", "unix", "ok"), ("ns", "utsns", "EPERM"),
                                 ("rt", "rt", "EPERM"), ("suid", "suid", "EPERM"), ("personality", "personality", "EPERM"),
                                 ("modules", "module", "EPERM"), ("klog", "syslog", "EPERM")):
            check(p.found(name)["call " + call] == want, "%s: call %s is %s" % (name, call, p.found(name)))


@test
def resource_limits_are_set_or_said_to_be_degraded():
    need_root()
    with Probes({"a": ("show", ["MemoryMax=64M", "TasksMax=10", "CPUQuota=50%", "CPUWeight=200", "IOWeight=50"]),
                 "pct": ("show", ["TasksMax=10%", "MemoryMax=50%"])}) as p:
        u, degraded = p.daemon.unit("a.service"), p.degraded("a")
        for directive, file, want in (("MemoryMax", "memory.max", "67108864"), ("TasksMax", "pids.max", "10"), ("CPUQuota", "cpu.max", "50000 100000"),
                                      ("CPUWeight", "cpu.weight", "200"), ("IOWeight", "io.weight", "default 50")):
            if directive in degraded:
                check("controller" in degraded[directive], degraded)
                print("# %s= is degraded here: %s" % (directive, degraded[directive]))
                continue
            with open(os.path.join(u["control_group"], file)) as f:
                check(f.read().strip() == want, directive)


@test
def check_and_status_say_the_same_of_what_is_never_done():
    lines = ["KeyringMode=private", "StandardInput=data", "StandardInputText=x", "TTYReset=yes", "AppArmorProfile=-none", "PAMName=login",
             "LoadCredential=a:/etc/hostname", "JobTimeoutSec=5"]
    with temp_dir() as top:
        path = os.path.join(top, "a.service")
        text = "[Unit]\nJoinsNamespaceOf=b.service\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n" + "\n".join(lines) + "\n"
        with open(path, "w") as f:
            f.write(text)
        checked = json.loads(subprocess.run([STAYCTL, "check", "--json", path], capture_output=True, text=True).stdout)
        with Daemon({"a.service": text}) as d:
            d.ctl("start", "a")
            status = d.unit("a.service")["degraded"]
            want = {(x["directive"], x["reason"]) for f in checked.get("files", checked.get("units", [])) for x in f["degraded"]}
            have = {(x["directive"], x["reason"]) for x in status if x["class"] != "host"}
            check(want == have and want, "check says %s\nstatus says %s" % (want, have))
            check(not [x for x in status if x["class"] == "host"], "nothing is said twice: %s" % status)
            out = d.ctl("status", "a").out
            check("Degraded: AppArmorProfile=" in out, out)


main()
