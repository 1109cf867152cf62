/* SPDX-License-Identifier: Apache-2.0 */
/*
 * May this peer make this call? By its role, or as owner or viewer of all that the call names.
 *
 * Owns nothing. Invariants:
 *  1. It is decided before the handler runs: nothing is loaded into the world or done for somebody
 *     who may not ask for it, and no handler can forget to ask.
 *  2. Whatever a name could mean to a handler (a set, a unit, a pattern) must be allowed.
 *  3. A unit's owners are those its files name now, not those of the revision that runs: taking an
 *     Owner= out of a file is enough.
 *  4. At most OWNED_NAMES_MAX unit files are read for one call.
 *  5. The parameters are not checked yet: they may be of any type.
 *  6. The owner of a template chooses the names of its instances, and each that was asked for stays in the
 *     world: OWNED_INSTANCES_MAX of a template, and not all the places for units there are.
 * Called by server.c.
 */
#include "control/names.h"
#include "control/verbs.h"
#include "stayd/stayd.h"

#define OWNED_NAMES_MAX     64
#define OWNED_INSTANCES_MAX 256

static int deny(struct call *c, const char *unit)
{
	struct peer *p = client_peer(c->client);
	const struct method *m = &methods[c->method];
	bool is_unit_verb = m->role <= CONTROL_OPERATOR;
	const char *conf = access_path(c->control->access);
	char number[16];
	const char *name = peer_name(p);
	if (streq(name, "?")) {
		snprintf(number, sizeof(number), "%u", (unsigned)p->uid);
		name = number;
	}
	c->is_denied = true;
	if (unit && is_unit_verb)
		snprintf(c->hint, sizeof(c->hint), "root can allow it: [X-Access] %s=%s in %.180s",
			m->role == CONTROL_OPERATOR ? "Owner" : "Viewer", name, unit);
	else
		snprintf(c->hint, sizeof(c->hint), "root can allow it: [Access] %s=%s in %.180s",
			access_role_key(m->role), name, conf[0] ? conf : "stayd.conf");
	return err_set(&c->e, -EACCES, "%s needs role %s%s%s; %s is %s", m->name,
		access_role_name(m->role), unit ? " of " : "", strna(unit), peer_actor(p),
		access_role_name(c->role));
}

/* 1: the file is there and allows it; 0: there is none. */
static int allow_file(struct call *c, const char *name, unsigned *n_read)
{
	if (++*n_read > OWNED_NAMES_MAX)
		return err_set(
			&c->e, -E2BIG, "at most %d units in a call of an owner", OWNED_NAMES_MAX);
	struct unit_conf *conf = unit_load(c->daemon->status(c->core)->unit_path, name, NULL);
	bool is_there = conf->load != LOAD_NOT_FOUND && conf->load != LOAD_MASKED;
	enum control_role r = access_unit_role(c->control->access, conf, client_peer(c->client));
	unit_conf_unref(conf);
	return !is_there ? 0 : r >= methods[c->method].role ? 1 : deny(c, name);
}

/* For an instance that is to be loaded. */
static int check_room(struct call *c, const char *name)
{
	CLEANUP_FREE char *template = unit_name_template(name);
	struct world *w = c->daemon->world(c->core);
	size_t n = 0;
	if (!template || !methods[c->method].is_change)
		return 0;
	for (size_t i = 0; i < w->n_units; i++)
		n += w->units[i]->conf && streq(strna(w->units[i]->conf->template), template);
	if (n < OWNED_INSTANCES_MAX)
		return 0;
	return err_set(&c->e, -EPERM,
		"there are %zu instances of %s already: an owner makes no more than %d", n,
		template, OWNED_INSTANCES_MAX);
}

static int allow_pattern(struct call *c, const char *pattern, unsigned *n_read)
{
	struct world *w = c->daemon->world(c->core);
	bool is_any = false;
	for (size_t i = 0; i < w->n_units; i++) {
		if (!name_fits(pattern, w->units[i]->name))
			continue;
		int r = allow_file(c, w->units[i]->name, n_read);
		if (r <= 0)
			return r < 0 ? r : deny(c, w->units[i]->name);
		is_any = true;
	}
	return is_any ? 1 : deny(c, NULL);
}

static int allow_set(struct call *c, const char *name, unsigned *n_read)
{
	const struct set *s = find_set(c->daemon->world(c->core), name);
	if (s && !s->is_template)
		return 0; /* a unit */
	size_t n = strcspn(name, "@");
	CLEANUP_FREE char *base = xstrndup(name, n);
	if (endswith(base, ".service"))
		base[strlen(base) - strlen(".service")] = '\0';
	CLEANUP_FREE char *template = s ? xstrdup(s->template) : xasprintf("%s@.service", base);
	return unit_name_is_valid(template) ? allow_file(c, template, n_read) : 0;
}

static int allow_name(struct call *c, const char *name, unsigned *n_read)
{
	if (!name || strlen(name) > UNIT_NAME_MAX)
		return deny(c, NULL);
	if (strpbrk(name, "*?["))
		return allow_pattern(c, name, n_read);
	int set = name_may_be_set(name) ? allow_set(c, name, n_read) : 0;
	if (set < 0)
		return set;
	CLEANUP_FREE char *full = complete_name(name);
	const struct unit *u = full ? world_unit(c->daemon->world(c->core), full) : NULL;
	int unit = full ? allow_file(c, u ? u->name : full, n_read) : 0;
	if (unit < 0)
		return unit;
	int room = unit && !u ? check_room(c, full) : 0;
	if (room < 0)
		return room;
	return set || unit ? 1 : deny(c, full);
}

int verbs_allowed(struct call *c)
{
	const json_t *names = json_object_get(c->params, "names");
	const char *name = call_str(c, "name");
	unsigned n_read = 0;
	if (c->role >= methods[c->method].role)
		return 0;
	if (methods[c->method].role > CONTROL_OPERATOR || (!name && !json_array_size(names)))
		return deny(c, NULL);
	int r = name ? allow_name(c, name, &n_read) : 0;
	for (size_t i = 0; r >= 0 && i < json_array_size(names); i++)
		r = allow_name(c, json_string_value(json_array_get(names, i)), &n_read);
	return MIN(r, 0);
}
