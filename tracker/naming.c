/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * naming.c - see naming.h.
 */
#include "tracker/naming.h"

#include <errno.h>
#include <stdlib.h>

#include "tracker/resolver.h"

struct user {
	uint32_t uid;
	uint32_t gid;
	int32_t pid;
};

struct naming {
	struct registry *registry;
	struct symbols *symbols;
	struct resolver *resolver;
	struct user user[REGISTRY_MODULES + 1];  /* by module number */
};

static bool describe(void *data, uint32_t number, struct resolver_module *out)
{
	const struct naming *n = data;
	struct module_info module;

	number = symbols_wanted_by(n->symbols, number);
	if (!registry_module_get(n->registry, number, &module))
		return false;
	*out = (struct resolver_module){
		.build_id = module.build_id,
		.build_id_len = module.build_id_len,
		.path = module.path,
		.uid = n->user[number].uid,
		.gid = n->user[number].gid,
		.pid = n->user[number].pid,
	};
	return true;
}

static void changed(void *data)
{
	struct naming *n = data;

	registry_touch(n->registry);
}

int naming_new(struct naming **np, struct loop *loop, struct registry *reg, struct errlog *errlog, uint64_t seed)
{
	struct naming *n = calloc(1, sizeof(*n));
	int r = n ? 0 : -ENOMEM;

	if (r == 0) {
		n->registry = reg;
		r = symbols_new(&n->symbols, seed);
	}
	if (r == 0)
		r = resolver_new(&n->resolver, &(struct resolver_config){
			.loop = loop,
			.symbols = n->symbols,
			.errlog = errlog,
			.module = describe,
			.changed = changed,
			.data = n,
		});
	if (r < 0) {
		naming_free(n);
		return r;
	}
	*np = n;
	return 0;
}

void naming_free(struct naming *n)
{
	if (!n)
		return;
	resolver_free(n->resolver);
	symbols_free(n->symbols);
	free(n);
}

const struct symbols *naming_symbols(const struct naming *n)
{
	return n->symbols;
}

void naming_site(struct naming *n, uint32_t number, const struct site_frame *frames, uint32_t process)
{
	const struct process *p = registry_process(n->registry, process);
	struct site_info site;
	bool wanted = false;

	if (!registry_site_get(n->registry, number, &site))
		return;
	for (unsigned i = 0; i < site.n; i++) {
		uint32_t module = site.frames[i].module, own = frames[i].module;

		if (!module || !own)
			continue;
		n->user[own] = (struct user){ p->uid, p->gid, p->pid };
		wanted |= symbols_want(n->symbols, module, site.frames[i].offset, own);
	}
	if (wanted)
		resolver_kick(n->resolver);
}
