#!/usr/bin/python3
"""Debian's own packaged units are the acceptance test of the unit reader.

Downloads well-known daemon packages (apt-get download, kept in build/debian-units; those above 2 MB,
four fifths of all bytes, only with STAYD_TEST_ALL_PACKAGES=1), unpacks them and runs `stayctl check --json` over every unit file: each must load, with no directive unknown and no
crash, and the classes check reports must be those of include/stayd/directives.def."""
import concurrent.futures, contextlib, glob, json, os, re, shutil, signal, subprocess, sys, tempfile

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("STAYD_BUILD", os.path.join(TOP, "build"))
CACHE = os.path.join(TOP, "build", "debian-units")
PACKAGES = """nginx-common apache2 haproxy caddy lighttpd varnish squid tinyproxy privoxy
 postgresql-common redis-server mariadb-server memcached pgbouncer etcd-server rabbitmq-server mosquitto
 nats-server beanstalkd php8.2-fpm keepalived corosync pacemaker openssh-server cron anacron rsyslog
 chrony openntpd ntpsec dnsmasq unbound bind9 knot nsd postfix dovecot-core exim4-base opendkim spamassassin
 clamav-daemon clamav-freshclam fail2ban samba winbind nfs-kernel-server rpcbind vsftpd proftpd-core
 prometheus prometheus-node-exporter prometheus-alertmanager prometheus-pushgateway prometheus-blackbox-exporter
 collectd snmpd smartmontools lm-sensors netdata-core zabbix-agent munin-node
 docker.io containerd podman libvirt-daemon-system qemu-guest-agent lxc
 openvpn wireguard-tools strongswan-starter stunnel4 tor syncthing transmission-daemon minidlna
 avahi-daemon cups-daemon bluez dbus network-manager ifupdown wpasupplicant hostapd isc-dhcp-client
 iperf3 rsync atd at incron supervisor monit logrotate man-db unattended-upgrades apt-cacher-ng
 tomcat10 ejabberd coturn prosody znc icecast2 mpd freeradius slapd sssd-common krb5-kdc nut-server
 watchdog acpid irqbalance haveged rng-tools-debian udisks2 upower polkitd
 systemd udev systemd-timesyncd""".split()
SIZE_MAX = 1 << 40 if os.environ.get("STAYD_TEST_ALL_PACKAGES") else 2000000
OWN = {"systemd", "udev", "systemd-timesyncd"}  # must load; what they do is stayd's own work


def tap(ok, name):
    print("%s - %s" % ("ok" if ok else "not ok", name), flush=True)
    return ok


def skip(name, why):
    print("ok - %s # SKIP %s" % (name, why), flush=True)
    sys.exit(0)


UNIT = re.compile(r".*\.(service|socket|target|timer|path|mount|automount|slice|swap)$")


def unit_files(tree):
    for base in ("lib/systemd/system", "usr/lib/systemd/system", "etc/systemd/system"):
        for d, _dirs, files in os.walk(os.path.join(tree, base)):
            for f in sorted(files):
                path = os.path.join(d, f)
                if UNIT.match(f) and os.path.isfile(path) and not os.path.islink(path) and os.path.getsize(path):
                    yield path


def available():
    """The packages of PACKAGES that apt knows here and that may be fetched; {} without package lists."""
    out = subprocess.run(["apt-cache", "show", "--no-all-versions"] + PACKAGES, stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL, universal_newlines=True, timeout=120).stdout
    found = re.findall(r"^Package: (\S+)$.*?^Size: (\d+)$", out, re.M | re.S)
    return [p for p, size in found if int(size) <= SIZE_MAX or os.path.isdir(os.path.join(CACHE, p))]


def fetch(packages):
    """{package: directory with its unit files alone} of those that can be had. One apt-get for all of
    them: starting it costs more than most of the downloads."""
    missing = [p for p in packages if not os.path.isdir(os.path.join(CACHE, p))]
    with tempfile.TemporaryDirectory(prefix="stayd-debian-") as tmp:
        os.chmod(tmp, 0o755)
        if missing:
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(["apt-get", "download", "-q"] + missing, cwd=tmp, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, timeout=240)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda deb: unpack(os.path.join(tmp, deb)), os.listdir(tmp)))
    return {p: os.path.join(CACHE, p) for p in packages if os.path.isdir(os.path.join(CACHE, p))}


def unpack(deb):
    """Keeps the unit files of one package; a broken download is as if it were not there."""
    tree, package = deb + ".tree", os.path.basename(deb).split("_")[0]
    try:
        subprocess.run(["dpkg-deb", "-x", deb, tree], check=True, timeout=120, stderr=subprocess.DEVNULL)
    except subprocess.SubprocessError:
        return
    part = os.path.join(CACHE, "%s.part%d" % (package, os.getpid()))
    os.makedirs(part, exist_ok=True)
    for f in unit_files(tree):
        shutil.copy(f, part)
    shutil.rmtree(tree)
    try:
        os.rename(part, os.path.join(CACHE, package))
    except OSError:  # somebody else was faster
        shutil.rmtree(part)


def table():
    """(section, key) -> class, read from the table itself and by a second reader."""
    groups = {"EXEC": ["Socket", "Mount", "Swap"], "KILL": ["Socket", "Mount", "Swap", "Scope"],
              "CGROUP": ["Socket", "Mount", "Swap", "Slice", "Scope"]}
    out = {}
    row = re.compile(r'^(?:(EXEC|KILL|CGROUP)_)?(?:PLAIN_)?ROW\((?:"([\w-]+)",\s*)?(\w+),.*?'
                     r'\b(FULL|PARTIAL|IGNORED_SAFE|IGNORED_WARN|REFUSED),')
    for line in open(os.path.join(TOP, "include/stayd/directives.def"), encoding="utf-8"):
        m = row.match(line)
        if m:
            group, section, key, cls = m.groups()
            out[section or "Service", key] = cls.lower().replace("_", "-")
            for s in groups.get(group, ()):
                out[s, key] = "ignored-warn"
    return out


def main():
    stayctl = os.path.join(BUILD, "stayctl")
    if not os.access(stayctl, os.X_OK):
        skip("debian units", "no %s" % stayctl)
    os.makedirs(CACHE, exist_ok=True)
    trees = fetch(available())
    if not trees:
        skip("debian units", "no package can be downloaded (apt-get download)")
    files = [(p, f) for p, t in sorted(trees.items()) for f in sorted(glob.glob(t + "/*"))]
    with_units = {p for p, _ in files}
    if len(trees) < 60:
        skip("debian units", "only %d packages can be downloaded" % len(trees))
    tap(len(with_units) >= 60, "at least 60 packages with units (%d packages, %d units)" % (len(with_units), len(files)))

    r = subprocess.run([stayctl, "check", "--json", "--unit-path", "/nonexistent"] + [f for _, f in files],
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=500)
    tap(r.returncode in (0, 1), "check ends by itself (exit %d) %s" % (r.returncode, r.stderr.decode()[-300:]))
    doc = json.loads(r.stdout)
    tap(doc["schema"] == "stay.check/1" and len(doc["units"]) == len(files), "one entry for each of the files")

    classes, rows = {}, table()
    not_loaded, unknown, differing, errors, services, honoured, held_back = [], [], [], [], 0, 0, {}
    for u in doc["units"]:
        where = u["argument"][len(CACHE) + 1:]
        if u["load_state"] != "loaded":
            not_loaded.append((where, u["load_state"], [d["text"] for d in u["diagnostics"]]))
        errors += [(where, d["line"], d["text"]) for d in u["diagnostics"] if d["severity"] == "error"]
        for d in u["directives"]:
            classes.setdefault(d["class"], set()).add((d["section"], d["key"]))
            if d["class"] == "unknown":
                unknown.append((where, d["section"], d["key"]))
            elif rows.get((d["section"], d["key"])) != d["class"]:
                differing.append((where, d["section"], d["key"], d["class"]))
        bad = {d["directive"] for d in u["degraded"]}
        if u["type"] == "service" and where.split("/")[0] not in OWN:
            services += 1
            honoured += not bad
            for b in bad:
                held_back[b] = held_back.get(b, 0) + 1
    tap(not not_loaded, "every unit loads %s" % not_loaded[:5])
    tap(not unknown, "no directive is unknown %s" % unknown[:5])
    tap(not differing, "classes are those of the table %s" % differing[:5])
    tap(not errors, "no false error in a packaged unit %s" % errors[:5])
    tap(honoured * 2 > services, "most services are fully honoured (%d of %d)" % (honoured, services))
    print("# directives used: " + ", ".join("%d %s" % (len(v), k) for k, v in sorted(classes.items())))
    print("# not fully honoured because of: " + ", ".join(
        "%s %d" % (k, n) for k, n in sorted(held_back.items(), key=lambda x: -x[1])))


if __name__ == "__main__":
    signal.alarm(800)
    main()
