// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts executions, and children that never execute, by command line and user, inside the kernel; if so
 * configured the ends of processes, too, by executable and exit status.
 *
 * User space hears of a command line once; from then on an execution costs a hash and an addition.
 * Counting goes on in one of two generations of {ledger, counts}. User space swaps the ledger (one update
 * of an array of maps, which returns when no program can still hold the old one) and then reads the old
 * generation at rest, so not one count is lost. Every event ends in exactly one number of its generation:
 *     ledger.counted = sum of counts + ring_full + map_full
 * and what user space finds missing was lost in a race with the removal of a key.
 *
 * sources/process_bpf.py is the other half: structures, enums and constants agree with it.
 *
 * Kernel 5.8 and later. Tracepoints run with preemption off, so a scratch record per CPU and program is
 * safe.
 */
#include "kernel.h"

#define TEXT_MAX 4096 /* bytes of a command line that are kept: one page, as ps had it for decades */
#define PATH_KEPT 256 /* bytes of an executable's path, with its NUL */
#define PF_KTHREAD 0x00200000
#define SIGNAL_GROUP_EXIT 4
#define FORKS_MAX 256 /* children between fork and exec at one moment; the table holds about 1.1 MB */
#define COUNTS_MAX 2304 /* keys of a generation: 256 events and what may wait in the ring, see counts */
#define RING_BYTES (128 * 1024)

/* The kernel's structures, as far as they matter here. */
typedef struct { __u32 val; } KERNEL kuid_t;
typedef struct { int counter; } KERNEL atomic_t;
struct cred { kuid_t uid; } KERNEL;
struct mm_struct { unsigned long arg_start, arg_end; } KERNEL;
struct signal_struct { atomic_t live; unsigned int flags; int group_exit_code; } KERNEL;
struct task_struct {
	int pid, tgid, exit_code;
	unsigned int flags;
	struct mm_struct *mm;
	struct task_struct *real_parent, *group_leader;
	const struct cred *cred;
	struct signal_struct *signal;
} KERNEL;
struct linux_binprm { const char *filename; } KERNEL;

enum event { EXEC, FORK, EXIT, EVENTS };

struct key { __u64 low, high; };

struct record {
	struct key key;
	__u64 first_seen; /* ns since boot, suspend included */
	__u32 pid, ppid, uid;
	__u32 length; /* of the whole command line, bytes */
	__u16 kept; /* bytes of it that stand in text; the path follows */
	__u16 path;
	__u16 status; /* of an EXIT, whose text is its executable; as wait(2) gives it, without the core flag */
	__u8 event;
	__u8 generation;
	char text[TEXT_MAX + PATH_KEPT];
};

struct ledger { /* zeroed by user space while at rest */
	__u64 generation; /* 0 or 1, set by user space */
	__u64 counted; /* events that reached the counting */
	__u64 told; /* records sent */
	__u64 ring_full; /* events lost: no room to tell their new command line */
	__u64 map_full; /* events lost: no room for their new key */
	__u64 text_lost; /* children whose inherited command line was paged out */
	__u64 forks_full; /* children that could not be followed */
	__u64 programs_full; /* processes whose end will not be seen */
};

#include "ledger.h"

struct counts_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, COUNTS_MAX);
	__type(key, struct key);
	__type(value, __u64);
} counts_0 SEC(".maps"), counts_1 SEC(".maps");

struct { /* by generation; user space puts one of another size in while the generation rests */
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, struct counts_map);
} counts SEC(".maps") = { .values = { &counts_0, &counts_1 } };

struct { /* children that have neither executed nor ended, by process id */
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FORKS_MAX);
	__type(key, __u32);
	__type(value, struct record);
} forks SEC(".maps");

struct program { char path[PATH_KEPT]; };

struct { /* what each process runs, by process id: at its end the kernel no longer knows; 1 while unused */
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct program);
} programs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, RING_BYTES);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, EVENTS);
	__type(key, __u32);
	__type(value, struct record);
} scratch SEC(".maps");

const volatile struct {
	__u64 secret[2]; /* so that nobody can make two command lines meet in one key */
	__u64 wake_at; /* bytes waiting in the ring at which user space is woken */
	__u64 exits; /* whether ends are counted; the verifier drops the code for it if not */
} config = {};

static __always_inline struct record *record_of(enum event event)
{
	__u32 index = event;
	return bpf_map_lookup_elem(&scratch, &index);
}

static __always_inline struct ledger *active_ledger(void)
{
	__u32 zero = 0;
	void *map = bpf_map_lookup_elem(&active, &zero);
	return map ? bpf_map_lookup_elem(map, &zero) : NULL;
}

/* SipHash-1-3 with a 128-bit result: keyed, made for short inputs that an adversary chooses. */
struct sip { __u64 v0, v1, v2, v3; };
#define ROTATED(x, bits) ((x) << (bits) | (x) >> (64 - (bits)))

static __always_inline void sip_round(struct sip *s)
{
	s->v0 += s->v1; s->v1 = ROTATED(s->v1, 13) ^ s->v0; s->v0 = ROTATED(s->v0, 32);
	s->v2 += s->v3; s->v3 = ROTATED(s->v3, 16) ^ s->v2;
	s->v0 += s->v3; s->v3 = ROTATED(s->v3, 21) ^ s->v0;
	s->v2 += s->v1; s->v1 = ROTATED(s->v1, 17) ^ s->v2; s->v2 = ROTATED(s->v2, 32);
}

static __always_inline void sip_word(struct sip *s, __u64 word)
{
	s->v3 ^= word;
	sip_round(s);
	s->v0 ^= word;
}

static __always_inline __u64 sip_result(struct sip *s)
{
	sip_round(s);
	sip_round(s);
	sip_round(s);
	return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

/* The identity of an event: its type, its user (of an EXIT its status) and the kept bytes. Reads whole words:
 * zeroes follow text. */
static __always_inline void identify(struct record *r, __u64 kept)
{
	__u64 k0 = config.secret[0], k1 = config.secret[1];
	struct sip s = { k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d ^ 0xee,
			 k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573 };
	const __u64 *words = (const __u64 *)r->text;

	sip_word(&s, (__u64)r->event << 32 | (r->event == EXIT ? r->status : r->uid));
	for (__u32 i = 0; i < TEXT_MAX / 8; i++) {
		if (i * 8 >= kept)
			break;
		sip_word(&s, words[i]);
	}
	sip_word(&s, kept);
	s.v2 ^= 0xee;
	r->key.low = sip_result(&s);
	s.v1 ^= 0xdd;
	r->key.high = sip_result(&s);
}

/* The clamp that the verifier understands: the compiler must not reason it away. */
#define CLAMPED(n, most) ({ __u64 clamped = (n); asm volatile("" : "+r"(clamped)); \
	if (clamped > (most)) clamped = (most); clamped; })

/* Arguments of a process whose memory is the current one; 0 if there are none or they are paged out. */
static __always_inline __u64 read_arguments(struct record *r, struct mm_struct *mm)
{
	__u64 start = FIELD(mm, arg_start), length = FIELD(mm, arg_end) - start;
	__u64 kept = CLAMPED(length > TEXT_MAX ? TEXT_MAX : length, TEXT_MAX);

	r->length = length;
	return bpf_probe_read_user(r->text, kept, (void *)start) ? 0 : kept;
}

static __always_inline void describe(struct record *r, struct task_struct *task, enum event event)
{
	r->first_seen = bpf_ktime_get_boot_ns();
	r->pid = FIELD(task, tgid);
	r->ppid = FIELD(POINTER(task, real_parent), tgid);
	r->uid = FIELD(POINTER(task, cred), uid.val);
	r->event = event;
	r->path = 0;
}

static __always_inline void finish_text(struct record *r, __u64 kept)
{
	__builtin_memset(r->text + kept, 0, 8);
	identify(r, kept);
	r->kept = kept;
}

/* Send a record; user space is woken only when the ring fills, for it empties the ring before it reports. */
static __always_inline long tell(struct record *r)
{
	__u32 size = __builtin_offsetof(struct record, text) + r->kept + r->path;
	__u64 waiting = bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA);

	return bpf_ringbuf_output(&ring, r, CLAMPED(size, sizeof(*r)),
				  waiting < config.wake_at ? BPF_RB_NO_WAKEUP : BPF_RB_FORCE_WAKEUP);
}

static __always_inline void count(struct record *r)
{
	struct ledger *ledger = active_ledger();
	__u64 one = 1, *hits;
	__u32 generation;
	void *keys;

	if (!ledger)
		return;
	generation = ledger->generation;
	keys = bpf_map_lookup_elem(&counts, &generation);
	if (!keys)
		return;
	ledger->counted++;
	hits = bpf_map_lookup_elem(keys, &r->key);
	if (!hits) {
		if (!bpf_map_update_elem(keys, &r->key, &one, BPF_NOEXIST)) {
			r->generation = ledger->generation;
			if (!tell(r)) {
				ledger->told++;
			} else { /* nobody would ever learn what the key means */
				bpf_map_delete_elem(keys, &r->key);
				ledger->ring_full++;
			}
			return;
		}
		hits = bpf_map_lookup_elem(keys, &r->key); /* another CPU may have been first */
		if (!hits) {
			ledger->map_full++;
			return;
		}
	}
	__sync_fetch_and_add(hits, 1);
}

SEC("raw_tp/sched_process_exec")
int on_exec(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (void *)ctx->args[0];
	const char *filename = POINTER((struct linux_binprm *)ctx->args[2], filename);
	struct record *r = record_of(EXEC);
	long path;

	if (!r)
		return 0;
	describe(r, task, EXEC);
	bpf_map_delete_elem(&forks, &r->pid);
	__u64 kept = read_arguments(r, POINTER(task, mm));
	if (!kept || (kept == 1 && !r->text[0])) { /* no argument, or an empty one: the path must speak */
		path = bpf_probe_read_kernel_str(r->text, PATH_KEPT, filename);
		kept = path > 0 ? CLAMPED(path, PATH_KEPT) : 0;
	}
	finish_text(r, kept);
	path = bpf_probe_read_kernel_str(r->text + kept, PATH_KEPT, filename);
	r->path = path > 0 ? path : 0;
	if (config.exits) /* only what is followed: else its end would be both lost and counted */
		bpf_map_update_elem(&programs, &r->pid, r->text + kept, BPF_EXIST);
	count(r);
	return 0;
}

/* A child runs what its parent runs, until it executes something else. */
static __always_inline void follow(struct task_struct *parent, struct task_struct *child,
				   struct record *r, struct ledger *ledger)
{
	__u32 pid = FIELD(child, tgid), parent_pid = FIELD(parent, tgid);
	struct program *inherited = bpf_map_lookup_elem(&programs, &parent_pid);

	if (FIELD(child, flags) & PF_KTHREAD)
		return;
	r->text[0] = 0;
	if (bpf_map_update_elem(&programs, &pid, inherited ? (void *)inherited : r->text, BPF_ANY))
		ledger->programs_full++;
}

/* Runs in the parent, before the child does. Threads and kernel threads are no children. */
SEC("raw_tp/sched_process_fork")
int on_fork(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *child = (void *)ctx->args[1];
	struct mm_struct *mm = POINTER(child, mm);
	struct record *r = record_of(FORK);
	struct ledger *ledger = active_ledger();

	if (!r || !ledger || FIELD(child, pid) != FIELD(child, tgid))
		return 0;
	if (config.exits)
		follow((void *)ctx->args[0], child, r, ledger);
	if (!mm)
		return 0;
	describe(r, child, FORK);
	__u64 kept = read_arguments(r, mm);
	if (!kept) {
		ledger->text_lost++;
		return 0;
	}
	finish_text(r, kept);
	if (bpf_map_update_elem(&forks, &r->pid, r, BPF_ANY))
		ledger->forks_full++;
	return 0;
}

/* The status that wait(2) gives: of the group if something ended it as a whole, else of its first thread. */
static __always_inline __u16 wait_status(struct task_struct *task)
{
	struct signal_struct *signal = POINTER(task, signal);
	int code = FIELD(signal, flags) & SIGNAL_GROUP_EXIT ? FIELD(signal, group_exit_code)
							     : FIELD(POINTER(task, group_leader), exit_code);
	return code & 0xff7f;
}

static __always_inline void count_exit(struct task_struct *task, __u32 pid, struct record *r)
{
	struct program *program = bpf_map_lookup_elem(&programs, &pid);
	long path;

	if (!program)
		return;
	path = bpf_probe_read_kernel_str(r->text, PATH_KEPT, program->path);
	if (bpf_map_delete_elem(&programs, &pid))
		return;
	describe(r, task, EXIT);
	r->status = wait_status(task);
	r->length = path;
	finish_text(r, path > 0 ? CLAMPED(path, PATH_KEPT) : 0);
	count(r);
}

/* Runs for every thread; the last ones to leave may all see live == 0, and one of them gets an entry. */
SEC("raw_tp/sched_process_exit")
int on_exit(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (void *)ctx->args[0];
	__u32 pid = FIELD(task, tgid);
	struct record *r = record_of(EXIT), *child = bpf_map_lookup_elem(&forks, &pid);

	if (!r || (!child && !config.exits) || FIELD(POINTER(task, signal), live.counter))
		return 0;
	if (child && !bpf_probe_read_kernel(r, sizeof(*r), child) && !bpf_map_delete_elem(&forks, &pid))
		count(r);
	if (config.exits)
		count_exit(task, pid, r);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
