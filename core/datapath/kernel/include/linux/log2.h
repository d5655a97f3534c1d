/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* bcc includes it; packet programs use nothing of it. */
#ifndef _AXO_LINUX_LOG2_H
#define _AXO_LINUX_LOG2_H
#endif
