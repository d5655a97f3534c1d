/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef _AXO_LINUX_STDDEF_H
#define _AXO_LINUX_STDDEF_H
#ifndef NULL
#define NULL ((void *)0)
#endif
#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif
#define __packed __attribute__((packed))
#define __maybe_unused __attribute__((unused))
#ifndef offsetof
#define offsetof(type, member) __builtin_offsetof(type, member)
#endif
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define barrier() asm volatile("" ::: "memory")
#define READ_ONCE(x) (*(volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile typeof(x) *)&(x) = (v))
#define ARRAY_SIZE(x) (sizeof(x) / sizeof((x)[0]))
#endif
