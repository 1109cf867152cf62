/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Value parsers of the X- sections: replicas, health checks, load balancers, rollouts.
 *
 *  1. Using a section sets its is_set.
 *  2. The defaults stand in defaults.c, the documentation in units/stayd.unit.5.
 *
 * Called by parse.c through the rows of directives.def.
 */
#include <ctype.h>

#include "fields.h"
#include "stayd/stayd.h"

static bool number_up_to(const char *s, unsigned max, unsigned *ret)
{
	unsigned n = 0;
	if (!isdigit((unsigned char)*s))
		return false;
	for (; isdigit((unsigned char)*s); s++)
		if ((n = n * 10 + (unsigned)(*s - '0')) > max)
			return false;
	if (*s)
		return false;
	*ret = n;
	return true;
}

static void complain_number(struct parser *p, const char *value, unsigned min, unsigned max)
{
	complain(p, S0113, NULL, "%s=%s: not a number from %u to %u", p->d->info.key, value, min,
		max);
}

void set_count(struct parser *p, const char *value)
{
	if (!number_up_to(value, SET_MEMBERS_MAX, &p->conf->replicas.count))
		complain_number(p, value, 0, SET_MEMBERS_MAX);
}

void set_ports(struct parser *p, const char *value)
{
	struct replicas_conf *r = &p->conf->replicas;
	unsigned first = 0, last = 0;
	size_t n = strcspn(value, "-");
	CLEANUP_FREE char *low = xstrndup(value, n);
	bool is_good = number_up_to(low, 65535, &first);
	last = first;
	if (is_good && value[n])
		is_good = number_up_to(value + n + 1, 65535, &last);
	if (*value && (!is_good || first == 0 || last < first)) {
		complain(p, S0130, NULL, "%s=%s: not a port or a range such as 8001-8016",
			p->d->info.key, value);
		return;
	}
	r->port_first = (uint16_t)first;
	r->port_last = (uint16_t)last;
}

/* ---- health ---- */

void set_check_target(struct parser *p, const char *value)
{
	static const char *const schemes[] = {
		"http://", "https://", "tcp://", "grpc://", "unix://", "exec:"};
	struct health_check *h = &p->conf->health[p->d->arg];
	char *s = *value ? specifier_expand(p, value) : NULL;
	bool is_known = false;
	for (size_t i = 0; s && i < ARRAY_SIZE(schemes); i++)
		is_known |= startswith(s, schemes[i]) && s[strlen(schemes[i])];
	if (s && !is_known) {
		complain(p, S0131, "for example http://127.0.0.1:${PORT}/healthz",
			"%s=%s: not http://, https://, tcp://, grpc:// or exec:", p->d->info.key,
			value);
		return;
	}
	h->target = s;
}

/* arg 0: IntervalSec=, 1: TimeoutSec=; for all three checks. */
void set_check_time(struct parser *p, const char *value)
{
	struct err e;
	uint64_t us;
	if (parse_timespan(value, USEC_PER_SEC, &us, &e) < 0)
		complain(p, S0112, NULL, "%s=%s: %s", p->d->info.key, value, e.text);
	else if (us == 0 || us == USEC_INFINITY)
		complain(
			p, S0112, NULL, "%s=%s: must be above 0 and finite", p->d->info.key, value);
	else
		for (size_t i = 0; i < CHECK_KIND_MAX; i++)
			*(p->d->arg ? &p->conf->health[i].timeout_us
				    : &p->conf->health[i].interval_us) = us;
}

/* arg 0: Rise=, 1: Fall=. */
void set_check_count(struct parser *p, const char *value)
{
	enum { MAX_COUNT = 1000 };
	unsigned n;
	if (!number_up_to(value, MAX_COUNT, &n) || n == 0) {
		complain_number(p, value, 1, MAX_COUNT);
		return;
	}
	for (size_t i = 0; i < CHECK_KIND_MAX; i++)
		*(p->d->arg ? &p->conf->health[i].fall : &p->conf->health[i].rise) = n;
}

/* ---- restart ---- */

void set_percent(struct parser *p, const char *value)
{
	size_t n = strlen(value);
	CLEANUP_FREE char *digits = xstrndup(value, n && value[n - 1] == '%' ? n - 1 : n);
	if (!number_up_to(digits, 100, FIELD(p, unsigned)))
		complain_number(p, value, 0, 100);
}

void set_reset_after(struct parser *p, const char *value)
{
	set_time(p, value);
	p->has_reset_after = true;
}

/* ---- load balancer ---- */

void set_driver(struct parser *p, const char *value)
{
	for (const char *s = value; *s; s++)
		if (!islower((unsigned char)*s) && !isdigit((unsigned char)*s) && *s != '-') {
			complain(p, S0110, NULL, "%s=%s: not a driver's name such as haproxy",
				p->d->info.key, value);
			return;
		}
	set_plain(p, value);
	p->conf->lb.is_set = p->conf->lb.driver != NULL;
}

/* One address per line: it may hold blanks ("tcp 127.0.0.1:9999"). */
void set_address(struct parser *p, const char *value)
{
	struct conf_list *l = &p->conf->lb.address;
	char *s;
	if (!*value)
		*l = (struct conf_list){0};
	else if (l->n >= SET_LBS_MAX)
		complain(p, S0129, NULL, "%s=: more than %d load balancers", p->d->info.key,
			SET_LBS_MAX);
	else if ((s = specifier_expand(p, value)))
		conf_list_add(p, l, s);
}

static bool add_ramp_step(struct parser *p, const char *s, size_t n)
{
	unsigned v;
	CLEANUP_FREE char *word = xstrndup(s, n && s[n - 1] == '%' ? n - 1 : n);
	size_t i = p->conf->lb.ramp.n;
	if (!number_up_to(word, 100, &v) || v == 0 || i >= ARRAY_SIZE(p->conf->lb.ramp.percent) ||
		(i > 0 && v <= p->conf->lb.ramp.percent[i - 1]))
		return false;
	p->conf->lb.ramp.percent[i] = (uint8_t)v;
	p->conf->lb.ramp.n++;
	return true;
}

/* "25%,50%,100%:2s": growing weights, and how long each lasts. */
void set_ramp(struct parser *p, const char *value)
{
	struct err e;
	uint64_t step = 2 * USEC_PER_SEC;
	size_t n = strcspn(value, ":");
	p->conf->lb.ramp.n = 0;
	if (!*value)
		return;
	if (value[n] && parse_timespan(value + n + 1, USEC_PER_SEC, &step, &e) < 0) {
		complain(p, S0112, NULL, "%s=%s: %s", p->d->info.key, value, e.text);
		return;
	}
	for (size_t i = 0; i < n;) {
		size_t k = strcspn(value + i, ",:");
		if (!add_ramp_step(p, value + i, k)) {
			p->conf->lb.ramp.n = 0;
			complain(p, S0113, "for example 25%,50%,100%:2s",
				"%s=%s: not at most %zu growing percentages", p->d->info.key, value,
				ARRAY_SIZE(p->conf->lb.ramp.percent));
			return;
		}
		i += k + (value[i + k] == ',');
	}
	p->conf->lb.ramp.step_us = step;
}

/* ---- access ---- */

/* arg: may be "*". */
void set_principals(struct parser *p, const char *value)
{
	struct conf_list *l = FIELD(p, struct conf_list), all = *l;
	set_words(p, value);
	size_t from = l->n > all.n ? all.n : 0;
	size_t n = from;
	for (size_t i = from; i < l->n; i++)
		if (principal_is_valid(l->v[i], p->d->arg))
			l->v[n++] = l->v[i];
		else
			complain(p, S0134, NULL, "%s=%s: not a user or an @group", p->d->info.key,
				l->v[i]);
	l->n = n;
}

/* ---- rollout ---- */

void set_amount(struct parser *p, const char *value)
{
	struct err e;
	struct amount *a = FIELD(p, struct amount);
	if (parse_amount(value, a, &e) < 0) {
		complain(p, S0113, NULL, "%s=%s: %s", p->d->info.key, value, e.text);
		return;
	}
	if (a == &p->conf->rollout.max_unavailable)
		p->has_max_unavailable = true;
}

/* Command lines kept as text; split when they are run. One per line. */
void set_commands(struct parser *p, const char *value)
{
	struct conf_list *l = FIELD(p, struct conf_list);
	char *s;
	if (!*value)
		*l = (struct conf_list){0};
	else if ((s = specifier_expand(p, value)))
		conf_list_add(p, l, s);
}
