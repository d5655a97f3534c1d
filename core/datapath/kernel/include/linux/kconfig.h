/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* bcc refuses to compile without this configuration symbol. */
#ifndef _AXO_LINUX_KCONFIG_H
#define _AXO_LINUX_KCONFIG_H
#define CONFIG_BPF_SYSCALL 1
#endif
