"""Torture list 1-8, 10, 38: what a unit file may hold. The daemon refuses it with a reason or bears it."""
from torture import *

MIB = 1 << 20
TRUE = "[Service]\nType=oneshot\nExecStart=/bin/true\n"


def raw(r, name, data):
    with open(os.path.join(r.d.units_dir, name), "wb") as f:
        f.write(data)


def reload_and_start(r, *names):
    """Reads the files anew and starts each; {name: exit status}."""
    r.ctl("daemon-reload", timeout=120, check=True)
    return {n: r.ctl("start", n, timeout=120).rc for n in names}


@test
def unit_file_of_10_mb_is_borne_and_one_of_17_is_refused():
    with Rig() as r:
        raw(r, "comments.service", TRUE.encode() + b"# " + b"x" * 77 + b"\n" + (b"# " + b"x" * 77 + b"\n") * (10 * MIB // 80))
        raw(r, "values.service", TRUE.encode() + b"Environment=A=" + b"x" * 50 + b"\n" + b"Environment=A=1\n" * (10 * MIB // 16))
        raw(r, "many.service", TRUE.replace("true", "false").encode() + b"ExecStart=/bin/true\n" * (10 * MIB // 20))
        raw(r, "larger.service", TRUE.encode() + b"# comment\n" * (17 * MIB // 10))

        def round():
            # Written anew, so that it is read again: a reload of what has not changed frees nothing.
            for n in ("comments", "values", "many", "larger"):
                with open(os.path.join(r.d.units_dir, n + ".service"), "ab") as f:
                    f.write(b"#\n")
            codes = reload_and_start(r, "comments", "larger", "many", "values")
            check(codes["comments"] == 0 and codes["larger"] != 0, codes)
        r.torture(round, says=["larger than 16 MiB", "more than 4096 commands"], slack_mib=32)


@test
def line_of_1_mb_without_newline_is_borne_or_refused_with_its_place():
    with Rig() as r:
        raw(r, "long.service", b"[Service]\nType=oneshot\nExecStart=/bin/true\nEnvironment=A=" + b"x" * (MIB - 20))
        raw(r, "longer.service", b"[Service]\nType=oneshot\nExecStart=/bin/true\nDescription=" + b"x" * (MIB + 20))
        raw(r, "header.service", b"[" + b"x" * (2 * MIB))
        raw(r, "key.service", b"[Service]\nExecStart=/bin/true\n" + b"K" * (MIB - 10))
        raw(r, "joined.service", b"[Service]\nExecStart=/bin/true " + b"\\\nab " * (MIB // 3))

        def round():
            codes = reload_and_start(r, "long", "longer", "header", "key", "joined")
            check(codes["longer"] != 0 and codes["header"] != 0 and codes["joined"] != 0, codes)
        r.torture(round, says=[r"longer\.service:\d+", r"joined\.service"], slack_mib=16)


@test
def bytes_nul_ff_bom_crlf_and_a_lone_backslash_are_borne():
    bodies = {"nul": b"[Service]\nType=oneshot\nExecStart=/bin/true\0 --evil\n", "ff": b"[Unit]\nDescription=\xff\xfe\n" + TRUE.encode(),
              "bom": b"\xef\xbb\xbf" + TRUE.encode(), "crlf": TRUE.replace("\n", "\r\n").encode(), "backslash": TRUE.encode() + b"\\",
              "continued": TRUE.encode() + b"Environment=A=1 \\", "all": bytes(range(256)) * 64, "nuls": b"\0" * 4096,
              "escapes": b"[Unit]\nDescription=\x1b]0;title\x07\x1b[2J\n" + TRUE.encode()}
    with Rig() as r:
        for n, b in bodies.items():
            raw(r, n + ".service", b)

        def round():
            codes = reload_and_start(r, *bodies)
            check(all(codes[n] == 0 for n in ("bom", "crlf", "backslash", "continued", "escapes")), codes)
            check(all(codes[n] != 0 for n in ("all", "nuls")), codes)
            out = r.ctl("status").out + r.ctl("list-units").out + "".join(r.ctl("status", n).out + r.ctl("show", n).out for n in bodies)
            check("\x1b" not in out and "\0" not in out and "\x07" not in out, "no control character is shown")
        r.torture(round, says=[r"nul\.service:3", r"ff\.service:2"])


@test
def drop_ins_by_the_hundred_thousand_are_read_up_to_a_bound_that_is_said():
    n = 100000 if os.environ.get("STAYD_FULL") else 10000
    with Rig() as r:
        d = os.path.join(r.d.units_dir, "a.service.d")
        os.mkdir(d)
        r.d.write_unit("a.service", TRUE)
        for i in range(n):
            with open(os.path.join(d, "%06d.conf" % i), "w") as f:
                f.write("[Service]\nEnvironment=N=%d\n" % i)

        def round():
            r.d.write_unit("a.service", TRUE + "# %f\n" % time.monotonic())
            begin = time.monotonic()
            codes = reload_and_start(r, "a", "by-plain")
            check(codes["by-plain"] == 0, codes)
            check(codes["a"] != 0, "too many of them are an error, not a choice among them: %r" % codes)
            print("# %d drop-ins: %.2f s" % (n, time.monotonic() - begin))
        r.torture(round, says="more than 4096 drop-ins", slack_mib=16)


@test
def cycle_of_1000_units_by_requires_is_said_once_and_broken():
    n = 1000
    with Rig({"c%03d.service" % i: "[Unit]\nAfter=c%03d.service\nRequires=c%03d.service\n%s" % ((i + 1) % n, (i + 1) % n, TRUE)
              for i in range(n)}) as r:
        def round():
            r.ctl("start", "c000", timeout=120)
            wait_for(lambda: "cycle" in r.d.log_text(), 30, "the cycle to be said")
            check(max(len(l) for l in r.d.log_text().splitlines()) < 8192, "no endless line")
            r.ctl("stop", *["c%03d" % i for i in range(0, n, 100)], timeout=60)

        def all_logged():
            round()
            r.rest()
            return all(os.path.exists("%s/c%03d.service/current" % (r.d.log_dir, i)) for i in range(n))
        # The logger has a unit's file from its first line on, and lines beyond those that can wait for a slow
        # logger are dropped: those of the first round may be another unit's than those of the next.
        wait_for(all_logged, 120, "each unit to have a log")
        r.torture(round, slack_mib=8)
        said = [l for l in r.d.log_text().splitlines() if "ordering cycle" in l]
        check(len(said) == 1, said)


@test
def instance_names_of_any_kind_are_taken_literally_or_refused():
    good = {"x" * 200: "x" * 200, "a.b": "a.b", "..": "..", "a-b": "a/b", r"\x2d": "-", r"\x00": r"\x00", r"\x2e\x2e-\x2e\x2e-etc": "../../etc",
            "%": None, "a b": None, "ünïcode": None, "": None, r"\xzz": None, "-": "/", "a@b": "a@b", "-".join([".."] * 20): None}
    with Rig() as r:
        # What the service gets as %i and %I, in its environment and in a path: nothing is expanded twice.
        r.d.write_unit("t@.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nEnvironment=\"RAW=%%i\" \"PLAIN=%%I\"\nExecStart=%s env:RAW env:PLAIN exit:0\n"
                       "Environment=PUPPET=%s\n" % (SVC, r.puppets.path))

        def round():
            for instance, plain in good.items():
                name = "t@%s.service" % instance
                rc = r.ctl("start", name).rc
                if rc == 0:
                    check(r.puppets.wait("env", detail="RAW=").detail == "RAW=" + instance, instance)
                    got = r.puppets.wait("env", detail="PLAIN=").detail[6:]
                    check(plain is None or got == plain, (instance, got))
                    check(instance not in ("a b", ""), "%r was started" % instance)
            for name in ("t@" + "x" * 255 + ".service", "t@a/b.service", "../t@x.service", "t@x\ny.service", "%i@%i.service%"):
                rr = r.ctl("start", name)
                check(rr.rc != 0, rr)
            for text in ("ExecStart=/bin/true %", "ExecStart=/bin/true %q", "WorkingDirectory=/%"):
                r.d.write_unit("p@.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n%s\n" % text)
                r.ctl("check", os.path.join(r.d.units_dir, "p@.service"))
                r.ctl("start", "p@1")
            os.unlink(os.path.join(r.d.units_dir, "p@.service"))
        r.torture(round, says=["not a unit name|no such unit|not a valid"])


@test
def user_that_is_none_never_becomes_root():
    need_root()
    bad = ["0day", "-1", "4294967295", "4294967296", "65535", "1000abc", "no-such-user", "x" * 300, "00", "0x0", "root ", "ro ot", "+0", "", "\\x30"]
    with Rig() as r:
        for i, user in enumerate(bad):
            r.d.write_unit("u%d.service" % i, "[Service]\nType=oneshot\nUser=%s\nExecStart=/bin/sh -c 'id -u >%s/who%d'\n" % (user, r.dir, i))

        def round():
            for i, user in enumerate(bad):
                r.ctl("start", "u%d" % i)
                path = "%s/who%d" % (r.dir, i)
                if os.path.exists(path):  # "User=" and "User=root " are root by systemd's rules, nothing else is
                    check(user in ("", "root "), "User=%r ran as %s" % (user, open(path).read()))
        r.torture(round, says=["0day", "no-such-user", "217/USER|User="])


@test
def user_deleted_after_load_is_refused_with_the_name():
    need_root()
    with temp_dir() as dir:
        passwd = os.path.join(dir, "passwd")
        shutil.copy("/etc/passwd", passwd)
        with open(passwd, "a") as f:
            f.write("ghost:x:54321:54321::/:/bin/false\n")
        wrap = ["unshare", "-m", "sh", "-c", 'mount --bind %s /etc/passwd && exec "$@"' % passwd, "sh"]
        if subprocess.run(wrap + ["true"], capture_output=True).returncode:
            skip("no mount namespaces here")
        with Rig({"g.service": "[Service]\nUser=ghost\nExecStart=%s\nRestart=always\nRestartSec=0\n" % SVC}, wrap=wrap) as r:
            def round():
                shutil.copy("/etc/passwd", passwd + ".new")
                with open(passwd + ".new") as f:
                    text = f.read()
                text = "\n".join(l for l in text.splitlines() if not l.startswith("ghost:")) + "\n"
                put(text + "ghost:x:54321:54321::/:/bin/false\n")
                r.ctl("start", "g", check=True)
                pid = r.d.unit("g.service")["main_pid"]
                check(os.stat("/proc/%d" % pid).st_uid == 54321, "as ghost")
                put(text)
                r.ctl("daemon-reload")
                r.ctl("restart", "g")
                u = r.d.unit("g.service")
                check(not u["main_pid"] or os.stat("/proc/%d" % u["main_pid"]).st_uid == 54321, "never as anybody else: %r" % u)
                r.ctl("stop", "g")

            def put(text):
                with open(passwd, "w") as f:  # the bind mount shows this very file
                    f.write(text)
            r.torture(round, says="ghost")


@test
def exec_start_of_any_kind_fails_with_path_and_reason():
    with Rig() as r:
        def at(name, mode=None, text=None):
            path = os.path.join(r.dir, name)
            if text is not None:
                with open(path, "w") as f:
                    f.write(text)
                os.chmod(path, mode)
            return path
        os.mkdir(at("directory"))
        os.mkfifo(at("fifo"))
        os.chmod(at("fifo"), 0o777)
        os.symlink("/nonexistent/target", at("dangling"))
        os.symlink("loop", at("loop"))
        at("plain", 0o644, "x"), at("text", 0o755, "no program\n"), at("script", 0o755, "#!/nonexistent/sh\n"), at("empty", 0o755, "")
        shutil.copy("/bin/sleep", at("busy"))
        with open("/bin/sleep", "rb") as f, open(at("cut"), "wb") as g:
            g.write(f.read(200))
        os.chmod(at("cut"), 0o755)
        cases = {"directory": (at("directory"), "is a directory|EACCES"), "fifo": (at("fifo"), "EACCES|not a (regular )?file"),
                 "dangling": (at("dangling"), "ENOENT|no such file"), "loop": (at("loop"), "ELOOP"), "plain": (at("plain"), "not executable"),
                 "text": (at("text"), '"#!" line'), "script": (at("script"), "interpreter"), "cut": (at("cut"), "203/EXEC"),
                 "device": ("/dev/null", "EACCES|203"), "args": ("/bin/true " + "a " * 400000, "E2BIG|too long|arguments|items"),
                 "onearg": ("/bin/true " + "x" * (MIB - 100), "E2BIG"), "relative": ("./bin/true", "absolute|relative|path|has errors"),
                 "empty-value": ("", "its unit file has errors|ExecStart"), "quote": ("/bin/true \"open", "quote|its unit file has errors")}
        for n, (command, _) in cases.items():
            r.d.write_unit(n + ".service", "[Service]\nType=exec\nExecStart=%s\n" % command)
        busy = open(at("busy"), "r+b")  # ETXTBSY
        r.d.write_unit("busy.service", "[Service]\nType=exec\nExecStart=%s 1000\n" % at("busy"))
        os.chmod(at("busy"), 0o755)
        cases["busy"] = ("", "ETXTBSY|busy")

        def round():
            for n, (_, says) in cases.items():
                r.fails(n, says)
        r.torture(round, slack_mib=16)
        busy.close()


@test
def setuid_program_gains_nothing_with_no_new_privileges():
    need_root()
    with Rig() as r:
        path = os.path.join(r.dir, "setuid")
        shutil.copy("/usr/bin/id", path)
        os.chmod(path, 0o4755)
        for n, more in (("nnp", "NoNewPrivileges=yes\n"), ("plain", "")):
            r.d.write_unit(n + ".service", "[Service]\nType=oneshot\nUser=nobody\nStandardOutput=truncate:%s/out-%s\n%sExecStart=%s -u\n" % (r.dir, n, more, path))

        def round():
            for n, want in (("nnp", {"65534"}), ("plain", {"0", "65534"})):  # nosuid where /tmp is mounted so
                r.ctl("start", n, check=True)
                with open("%s/out-%s" % (r.dir, n)) as f:
                    got = f.read().strip()
                check(got in want, (n, got))
        r.torture(round)


@test
def environment_file_that_never_ends_or_is_none_holds_nobody_up():
    with Rig() as r:
        os.mkfifo(r.path("fifo"))
        os.mkdir(r.path("dir"))
        with open(r.path("sparse"), "w") as f:
            f.truncate(1 << 40)
        with open(r.path("binary"), "wb") as f:
            f.write(b"A=\xff\xfe\nB=\x01\n=\nC")
        with open(r.path("large"), "w") as f:
            f.write("".join("V%d=%s\n" % (i, "x" * 100) for i in range(100000)))
        files = {"fifo": r.path("fifo"), "zero": "/dev/zero", "full": "/dev/full", "dir": r.path("dir"), "sparse": r.path("sparse"),
                 "random": "/dev/urandom", "tty": "/dev/tty", "mem": "/proc/self/mem", "binary": r.path("binary"), "large": r.path("large")}
        for n, f in files.items():
            r.d.write_unit(n + ".service", "[Service]\nType=oneshot\nEnvironmentFile=%s\nExecStart=/bin/true\n" % f)

        def round():
            for n in files:
                begin = time.monotonic()
                r.fails(n, re.escape(files[n]) if n != "large" else "E2BIG|larger|large")
                check(time.monotonic() - begin < 10 * SLOW, n)
        r.torture(round, slack_mib=16)


@test
def seccomp_filter_that_forbids_execve_is_said_before_or_at_the_start():
    need_root()
    with Rig({"deny.service": "[Service]\nType=exec\nSystemCallFilter=~execve execveat\nExecStart=/bin/true\n",
              "allow.service": "[Service]\nType=exec\nSystemCallFilter=read write\nExecStart=%s\n" % SVC,
              "nothing.service": "[Service]\nType=exec\nSystemCallFilter=~@default\nExecStart=/bin/true\n"}) as r:
        def round():
            for n in ("deny", "nothing"):
                r.fails(n, "execve|SystemCallFilter|seccomp|SECCOMP")
            r.ctl("start", "allow")
            u = r.d.wait_unit("allow.service", active_state="failed")
            check(u["exec_main_status"] in (signal.SIGSYS, 228, 203), u)
        r.torture(round, says="SIGSYS|SYS|seccomp")


main()
