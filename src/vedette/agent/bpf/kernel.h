// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* How all programs here read the kernel's structures. */
#pragma once
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

/* A structure of the kernel as far as it matters here; loading finds the real offsets. */
#define KERNEL __attribute__((preserve_access_index))

/* Fields are read by the size that the running kernel gives them, so a 32-bit kernel serves. */
#define FIELD(from, field) ({ \
	typeof(from) object = (from); \
	__u64 value = 0; \
	bpf_probe_read_kernel(&value, bpf_core_field_size(object->field), &object->field); \
	value; })
#define POINTER(from, field) ((typeof((from)->field))FIELD(from, field))
