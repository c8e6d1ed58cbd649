// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Two ledgers, one at rest. Programs book in the active one; user space makes the other active (one update
 * of an array of maps, which returns when no program can still hold the old one) and then reads the old one
 * at rest, so not one count is lost. `struct ledger` is declared by the program that includes this.
 */
#pragma once
#include "kernel.h"

struct ledger_map {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ledger);
} ledger_0 SEC(".maps"), ledger_1 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct ledger_map);
} active SEC(".maps") = { .values = { &ledger_0 } };
