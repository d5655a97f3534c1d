/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef _AXO_ASM_PAGE_H
#define _AXO_ASM_PAGE_H
#define PAGE_SHIFT 12
#define PAGE_SIZE (1UL << PAGE_SHIFT)
#endif
