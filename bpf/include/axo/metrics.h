/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Packets and bytes per reason and direction, per CPU. */
#ifndef AXO_METRICS_H
#define AXO_METRICS_H

#include "axo/maps.h"

/* reason: AXO_DROP_*, or 0 for a packet forwarded; dir: AXO_DIR_*; bytes: of the frame. */
static __always_inline void axo_metric_add(u8 reason, u8 dir, u64 bytes)
{
	struct axo_metric_key key = {.reason = reason, .dir = dir};
	struct axo_metric first = {.packets = 1, .bytes = bytes}, *sum;

	sum = axo_metrics.lookup(&key);
	if (AXO_LIKELY(sum)) {
		sum->packets++;
		sum->bytes += bytes;
		return;
	}
	axo_metrics.update(&key, &first);
}

#endif
