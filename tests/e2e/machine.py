"""A virtual machine whose PID 1 is stayd and whose check.service is the test (tests/testbed/qemu.sh): for what is done
to a whole machine. Emulated, so it takes a minute: only with STAYD_QEMU=1..

A script says what it found as `fig NAME VALUE...`, on a line of its own, as anything may talk on a console; the machine
powers off when it is over."""
from lib import *

BED = os.path.join(TOP, "tests/testbed/qemu.sh")
BOOT_MAX = 240 * PATIENCE  # seconds from power on to power off
CHECK_UNIT = ("[Unit]\nSuccessAction=poweroff\nFailureAction=poweroff\n[Service]\nType=oneshot\nStandardOutput=inherit\n"
              "ExecStart=/bin/sh /t/check\nTimeoutStartSec=%d\n" % (200 * PATIENCE))
PRELUDE = r"""
ctl="/t/stayctl"
field() { $ctl show $1 -p $2 2>/dev/null | sed "s/^$2=//"; }
pid() { $ctl status $1 --json | tr ',' '\n' | sed -n 's/.*"main_pid": *\([0-9]*\).*/\1/p' | head -1; }
fig() { echo "FIGURE $*" >/dev/ttyS1; }
"""
END = 'echo "QEMU-EXIT 0" >/dev/ttyS1\n'
APPLETS = ("sed", "head", "wc", "tr", "date", "rmdir", "mkdir")


def in_machine(units, script):
    """({name of a figure: [its values]}, all that the console showed) of a run of the script among these units."""
    if not os.environ.get("STAYD_QEMU"):
        skip("STAYD_QEMU=1 runs it; it takes a minute")
    with temp_dir() as directory:
        words = [STAYD, STAYCTL + ":/t/stayctl", SVC + ":/t/svc"] + ["/bin/busybox:/bin/" + a for a in APPLETS]
        texts = {"/t/check": PRELUDE + script + END}
        texts.update({"/etc/stayd/units/" + n: t for n, t in dict(units, **{"check.service": CHECK_UNIT}).items()})
        for path, text in texts.items():
            with open(os.path.join(directory, os.path.basename(path)), "w") as f:
                f.write(text)
            words.append("%s:%s" % (f.name, path))
        p = subprocess.run([BED, "-p", "-m", "1024", "-t", str(int(BOOT_MAX)), "-a", "-- --log-console check.service"] + words,
                           capture_output=True, text=True, errors="replace", timeout=BOOT_MAX + 60)
    if p.returncode == 77:
        skip(p.stderr.strip())
    check(p.returncode == 0, "%s\n%s\n%s" % (p.returncode, p.stdout[-6000:], p.stderr))
    got = {}
    for name, value in re.findall(r"FIGURE (\w+) ?([^\r\n]*)", p.stdout):
        got.setdefault(name, []).append(value)
    print("# %s" % got)
    return got, p.stdout
