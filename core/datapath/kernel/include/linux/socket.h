/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Address families and socket types, for socket programs and fib lookups. */
#ifndef _AXO_LINUX_SOCKET_H
#define _AXO_LINUX_SOCKET_H
#define AF_UNSPEC 0
#define AF_INET 2
#define AF_INET6 10
#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define SOCK_RAW 3
#endif
