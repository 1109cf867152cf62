/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a test of model/ needs while a neighbour is not in the tree: a unit without load balancer
 * and set. Each block goes away by itself when the real file is there.
 */
#pragma once

#include "model/parts.h"

#if !__has_include("model/lb.c")
void lb_unit_available(struct world *w, struct unit *u)
{
	(void)w, (void)u;
}
void lb_unit_unavailable(struct world *w, struct unit *u)
{
	(void)w, (void)u;
}
void lb_unit_gone(struct world *w, struct unit *u)
{
	(void)w, (void)u;
}
bool lb_hold_stop(struct world *w, struct unit *u)
{
	return (void)w, (void)u, false;
}
void lb_sample(struct world *w, struct unit *u, unsigned lb, const struct lb_sample *s)
{
	(void)w, (void)u, (void)lb, (void)s;
}
void lb_status(struct world *w, struct set *s, unsigned lb, bool ok, uint32_t g, const char *t)
{
	(void)w, (void)s, (void)lb, (void)ok, (void)g, (void)t;
}
void lb_timer(struct world *w, struct unit *u, enum timer_kind k)
{
	(void)w, (void)u, (void)k;
}
bool lb_is_in(const struct unit *u)
{
	return (void)u, true;
}
void lb_request(struct world *w, struct unit *u, const struct request *r)
{
	(void)u;
	fx_reply(w, r->id, REPLY_REFUSED, "no load balancer");
}
void lb_restored(struct world *w, struct unit *u)
{
	(void)w, (void)u;
}
#endif
#if !__has_include("model/set.c")
void set_unit_changed(struct world *w, struct unit *u)
{
	(void)w, (void)u;
}
void set_run(struct world *w)
{
	(void)w;
}
void set_request(struct world *w, const struct request *r)
{
	fx_reply(w, r->id, REPLY_REFUSED, "no sets");
}
void set_timer(struct world *w, struct set *s, enum timer_kind k)
{
	(void)w, (void)s, (void)k;
}
#endif
#if !__has_include("model/rollout.c")
void rollout_unit_failed(struct world *w, struct unit *u, const char *why)
{
	(void)w, (void)u, (void)why;
}
void rollout_restored(struct world *w, struct set *s)
{
	(void)w, (void)s;
}
bool rollout_owns(const struct unit *u)
{
	return (void)u, false;
}
#endif
#if !__has_include("unit/values.c") && !__has_include("unit/names.c") && !__has_include(           \
										 "unit/conf.c")
__attribute__((weak)) struct unit_conf *unit_conf_ref(struct unit_conf *c)
{
	c->refs++;
	return c;
}
__attribute__((weak)) struct unit_conf *unit_conf_unref(struct unit_conf *c)
{
	c->refs--;
	return NULL;
}
__attribute__((weak)) const char *signal_name(int signo)
{
	static char t[4][16];
	static unsigned i;
	snprintf(t[++i % 4], 16, "SIG%d", signo);
	return t[i % 4];
}
__attribute__((weak)) const char *exec_kind_name(enum exec_kind k)
{
	static const char *const n[] = {"ExecCondition", "ExecStartPre", "ExecStart",
		"ExecStartPost", "ExecReload", "ExecStop", "ExecStopPost"};
	return n[k];
}
#endif
