/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The BPF target here is little endian (bpfel); constants fold at compile time. */
#ifndef _AXO_LINUX_BYTEORDER_H
#define _AXO_LINUX_BYTEORDER_H
#include <linux/types.h>
#define __LITTLE_ENDIAN 1234
#define __LITTLE_ENDIAN_BITFIELD 1
#define __swab16(x) ((__u16)__builtin_bswap16(x))
#define __swab32(x) ((__u32)__builtin_bswap32(x))
#define __swab64(x) ((__u64)__builtin_bswap64(x))
#define __cpu_to_be16(x) ((__be16)__builtin_bswap16(x))
#define __cpu_to_be32(x) ((__be32)__builtin_bswap32(x))
#define __cpu_to_be64(x) ((__be64)__builtin_bswap64(x))
#define __be16_to_cpu(x) ((__u16)__builtin_bswap16(x))
#define __be32_to_cpu(x) ((__u32)__builtin_bswap32(x))
#define __be64_to_cpu(x) ((__u64)__builtin_bswap64(x))
#define __constant_htons(x) __cpu_to_be16(x)
#define __constant_htonl(x) __cpu_to_be32(x)
#define cpu_to_be16 __cpu_to_be16
#define cpu_to_be32 __cpu_to_be32
#define cpu_to_be64 __cpu_to_be64
#define be16_to_cpu __be16_to_cpu
#define be32_to_cpu __be32_to_cpu
#define be64_to_cpu __be64_to_cpu
#endif
