#!/usr/bin/python3
"""stayctl check and explain: what a person, an editor and a script see, and the example of the manual."""
import json, os, re, signal, subprocess, sys, tempfile

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
STAYCTL = os.path.join(os.environ.get("STAYD_BUILD", os.path.join(TOP, "build")), "stayctl")


def tap(ok, name, text=""):
    print("%s - %s" % ("ok" if ok else "not ok", name), flush=True)
    if not ok:
        print("# " + text.replace("\n", "\n# "))


def run(*argv, cwd=None):
    r = subprocess.run([STAYCTL] + list(argv), stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=200, cwd=cwd)
    return r.returncode, r.stdout.decode(), r.stderr.decode()


def main():
    if not os.access(STAYCTL, os.X_OK):
        print("ok - check # SKIP no %s" % STAYCTL)
        return
    with tempfile.TemporaryDirectory() as d:
        def put(name, text):
            os.makedirs(os.path.dirname(os.path.join(d, name)), exist_ok=True)
            with open(os.path.join(d, name), "w") as f:
                f.write(text)

        put("web.service", "[Unit]\nAftr=network.target\n[Service]\nExecStart=/bin/true\nRestart=alwys\nDeviceAllow=/dev/null\n")
        rc, out, err = run("check", "web.service", cwd=d)
        tap(rc == 1, "errors are exit status 1", "%d %s" % (rc, err))
        tap("web.service:2:1: error[S0101]: unknown key 'Aftr' in [Unit]" in out and "did you mean 'After'?" in out,
            "an unknown key has its place and the nearest right one", out)
        tap("web.service:5:9: error[S0110]: Restart=alwys" in out and "did you mean 'always'?" in out,
            "a wrong word has its column and the nearest right one", out)
        tap("2 errors, 1 warning" in out, "the findings are counted", out)
        rc, out, err = run("check", "--output=gcc", "web.service", cwd=d)
        tap(len(out.splitlines()) == 3 and all(re.match(r"web\.service:\d+:\d+: (error|warning): .* \[S\d{4}\]$", l)
                                                for l in out.splitlines()), "gcc output is one line for each", out)
        rc, out, err = run("check", "--json", "web.service", cwd=d)
        doc = json.loads(out)
        tap(list(doc)[0] == "schema" and doc["schema"] == "stay.check/1" and doc["errors"] == 2, "JSON has its schema", out)
        tap({(x["key"], x["class"]) for x in doc["units"][0]["directives"]} ==
            {("Aftr", "unknown"), ("ExecStart", "full"), ("Restart", "full"), ("DeviceAllow", "ignored-warn")},
            "JSON has the class of each directive", out)

        put("good.service", "[Service]\nExecStart=/bin/true\n")
        put("warn.service", "[Service]\nExecStart=/bin/true\nDeviceAllow=/dev/null\n")
        rc, out, err = run("check", "good.service", cwd=d)
        tap(rc == 0 and out == "", "a clean unit is exit status 0 and no word", out + err)
        tap(run("check", "warn.service", cwd=d)[0] == 0, "a warning is exit status 0")
        tap(run("check", "--strict", "warn.service", cwd=d)[0] == 1, "with --strict a warning is an error")
        tap(run("check")[0] == 2 and run("check", "--nonsense", "x")[0] == 2, "wrong usage is exit status 2")
        put("units/a.service", "[Service]\nExecStart=/bin/true\n")
        put("units/a.service.d/x.conf", "[Service]\nNice=50\n")
        rc, out, err = run("check", "--unit-path", os.path.join(d, "units"), "a")
        tap(rc == 1 and "a.service.d/x.conf:2:6: error[S0113]" in out, "a unit by name is checked with its drop-ins", out + err)
        rc, out, err = run("check", "--unit-path", os.path.join(d, "units"), "nosuch")
        tap(rc == 1 and "no such unit" in out, "a unit that is not there is an error", out + err)

        rc, out, err = run("explain", "Restart")
        tap(rc == 0 and "[Service] Restart=" in out and "class: full" in out, "explain knows directives", out)
        rc, out, err = run("explain", "S0101")
        tap(rc == 0 and "unknown key" in out, "explain knows codes", out)
        rc, out, err = run("explain", "Restrt")
        tap(rc == 1 and "did you mean 'Restart'?" in err, "explain helps with a typing error", err)

        page = open(os.path.join(TOP, "units/stayd.unit.5"), encoding="utf-8").read()
        put("web@.service", re.search(r"^\.Bd -literal\n(.*?)^\.Ed", page, re.S | re.M).group(1))
        rc, out, err = run("check", "--strict", "web@.service", cwd=d)
        tap(rc == 0 and out == "", "the example of the manual is clean", out + err)


        odd = os.fsencode(d) + b"/odd\x1b[31m\xff.service"
        with open(odd, "w") as f:
            f.write("[Service]\nExecStart=/bin/true\nFoo=1\n")
        put("plain.service", "[Service]\nExecStart=/bin/true\n")
        os.makedirs(d + "/plain.service.d")
        os.link(odd, os.fsencode(d) + b"/plain.service.d/x\x1b[31m\xff.conf")
        for what, code in ((odd, "S0004"), ("plain.service", "S0101")):
            rc, out, err = run("check", "--unit-path", d, what)
            tap(rc == 1 and code in out and "\x1b" not in out, "a file's name drives no terminal", repr(out))
            rc, out, err = run("check", "--unit-path", d, "--json", what)
            units = json.loads(out)["units"]
            tap(len(units) == 1 and units[0]["diagnostics"][0]["code"] == code,
                "JSON has the findings of a file with an odd name", out)

if __name__ == "__main__":
    signal.alarm(300)
    main()
