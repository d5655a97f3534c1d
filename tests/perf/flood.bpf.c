/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Makes frames of flows, one after the other, and sends them out of a device as a driver would hand
 * them over: run with BPF_F_TEST_XDP_LIVE_FRAMES.
 */
#define FLOWS 256

struct flood_frame {
	u8 bytes[FLOOD_BYTES];
};

BPF_TABLE("array", u32, struct flood_frame, axob_frames, FLOWS);
BPF_TABLE("percpu_array", u32, u32, axob_next, 1);

static long (*flood_store)(void *xdp, u32 off, void *from, u32 len) = (void *)190;

int flood(struct xdp_md *xdp)
{
	u32 zero = 0, at;
	u32 *next = axob_next.lookup(&zero);
	struct flood_frame *frame;

	if (!next)
		return XDP_ABORTED;
	at = (*next)++ % FLOWS;
	frame = axob_frames.lookup(&at);
	if (!frame || flood_store(xdp, 0, frame, sizeof(*frame)))
		return XDP_ABORTED;
	return bpf_redirect(FLOOD_DEVICE, 0);
}
