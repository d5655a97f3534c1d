/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* bcc looks for this folder; it needs nothing from it. */
