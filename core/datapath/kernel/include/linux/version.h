/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Only bcc's own helpers ask; the oldest kernel that we support. */
#ifndef _AXO_LINUX_VERSION_H
#define _AXO_LINUX_VERSION_H
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))
#ifndef LINUX_VERSION_CODE
#define LINUX_VERSION_CODE KERNEL_VERSION(6, 6, 0)
#endif
#endif
