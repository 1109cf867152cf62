/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gives up everything stay-net does not need. It parses what strangers send, so it must not be worth
 * taking over: another uid, no capabilities, no new privileges, few system calls (confine/), and of
 * the file system only what libc's resolver and the TLS library read, read-only.
 *
 * Called by main.c, once, before anything is read from the outside.
 */
#include "net/net.h"

#include "confine/confine.h"

#include <libgen.h>
#include <limits.h>
#include <sys/resource.h>

#define NET_FILES_MAX 8192

/* What is not there is left out. Written to is nothing. */
static const char *const readable[] = {
	"/etc", "/usr", "/lib", "/lib64", "/nix/store", "/run/systemd/resolve", "/run/resolvconf",
	"/run/NetworkManager", "/run/connman", "/dev/null", "/dev/urandom",
#ifdef __SANITIZE_ADDRESS__
	"/", /* its runtime reads /proc/self */
#endif
};

/* Where administrators and container engines point to: a link of resolv.conf, other certificates. */
static void add_place_of(struct confine_path *p, const char *file, char place[PATH_MAX])
{
	*p = (struct confine_path){.fd = -1, .path = "/etc"};
	if (file && realpath(file, place))
		p->path = dirname(place);
}

static void confine_paths(void)
{
	struct confine_path paths[ARRAY_SIZE(readable) + 3];
	char places[3][PATH_MAX];
	size_t n = 0;
	for (; n < ARRAY_SIZE(readable); n++)
		paths[n] = (struct confine_path){.fd = -1, .path = readable[n]};
	add_place_of(&paths[n++], "/etc/resolv.conf", places[0]);
	add_place_of(&paths[n++], getenv("SSL_CERT_FILE"), places[1]);
	add_place_of(&paths[n++], getenv("SSL_CERT_DIR"), places[2]);
	struct err e = {0};
	if (confine_files(paths, n, true, &e) < 0) /* some container's filter knows half of it */
		log_warn(NULL, "%s; reads what its user may read", e.text);
}

int net_confine(struct err *e)
{
	struct rlimit l;
	if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
		l.rlim_cur = l.rlim_max = MIN(l.rlim_max, (rlim_t)NET_FILES_MAX);
		(void)setrlimit(RLIMIT_NOFILE, &l);
	}
	/* Landlock needs no_new_privs, or a privilege that is still there; the filter then forbids it. */
	int r = confine_user(ROLE_NET, e);
	if (r == 0)
		r = confine_caps(ROLE_NET, e);
	if (r == 0)
		confine_paths();
	return r < 0 ? r : confine_calls(ROLE_NET, e);
}
