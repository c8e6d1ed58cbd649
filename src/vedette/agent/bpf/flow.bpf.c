// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts the packets and bytes of every IP flow through the watched devices, inside the kernel.
 *
 * A packet costs a hash and some additions. Copied to user space are only: answers of DNS servers that
 * were asked, the first TLS ClientHello of a connection, and FIRST_BYTES of the first payload in each
 * direction, which name the protocol.
 *
 * Counting goes on in one of two generations of {ledger, flows}. User space swaps the ledger (one update
 * of an array of maps, which returns when no program can still hold the old one) and then reads the old
 * generation at rest, so not one packet is lost. For each generation
 *     ledger.packets = sum of packets of its flows + map_full
 *
 * A device is watched by a pair of tcx programs, or by one on an AF_PACKET socket that takes no packet.
 * Either starts at the link header. sources/flow_bpf.py is the other half: structures and constants agree.
 *
 * Kernel 5.8 and later. Those that see packets run with bottom halves off, so a scratch record per CPU is
 * safe.
 */
#include "kernel.h"
#include <bpf/bpf_endian.h>

#define FLOWS_MAX 16384 /* replaced by user space before loading */
#define FRAGMENTS_MAX 1024 /* fragmented datagrams on their way at one moment */
#define SOCKETS_MAX 2048 /* sockets whose maker is remembered: 0.7 MB */
#define ARGUMENTS_MAX 240 /* bytes of its command line that are kept for when it has ended */
#define COPY_MAX 2048 /* bytes of a DNS answer or a ClientHello: some of the latter are near 1,800 */
#define FIRST_BYTES 16 /* enough for every protocol of sources/app_protocols.py */
#define RING_BYTES (128 * 1024)

#define ETHERNET 14
#define DNS 53
#define EXTENSIONS_MAX 6 /* IPv6 extension headers that are followed; more are nobody's honest packet */

enum { ICMP = 1, TCP = 6, UDP = 17, HOP_BY_HOP = 0, ROUTING = 43, FRAGMENT = 44, AUTHENTICATION = 51,
       ICMP6 = 58, DESTINATION = 60 };
enum { P_IP = 0x0800, P_IP6 = 0x86dd, P_VLAN = 0x8100, P_QINQ = 0x88a8 };
enum { TO_BROADCAST = 1, TO_MULTICAST = 2, TO_OTHER_HOST = 3, OUTGOING = 4, LOOPED_BACK = 5 }; /* pkt_type */
enum { TCX_NEXT = -1, TAKE_NOTHING = 0, ALLOW = 1 };
enum { TCP_SYN = 0x02, TCP_ACK = 0x10 };
enum kind { FIRST, ANSWER };

/* The kernel's structures, as far as they matter here. */
typedef struct { __s64 counter; } KERNEL atomic64_t;
struct sock_common {
	unsigned char skc_state;
	atomic64_t skc_cookie;
	struct sock *skc_listener; /* of a request: the socket that it came to */
} KERNEL;
struct sock { struct sock_common __sk_common; } KERNEL;
struct sk_buff { struct sock *sk; } KERNEL;
struct mm_struct { unsigned long arg_start, arg_end; } KERNEL;
struct task_struct {
	int tgid;
	__u64 start_boottime;
	struct mm_struct *mm;
	struct task_struct *group_leader;
} KERNEL;
#define TCP_NEW_SYN_RECV 12 /* the state of a connection request; include/net/tcp_states.h */

struct flow { /* addresses as IPv6, IPv4 ones mapped; all in network order but the protocol's octet */
	__u32 local[4], remote[4];
	__u16 local_port, remote_port;
	__u8 protocol, zero[3];
};

struct owner { /* the process that made a socket; pid 0: not known */
	__u64 started; /* its first thread, ns since boot, suspend included */
	__u32 pid, uid;
};

struct maker {
	struct owner owner;
	__u64 kept; /* bytes of its arguments, each ended by a NUL */
	char arguments[ARGUMENTS_MAX];
};

struct counts {
	__u64 first_seen; /* ns since boot, suspend included */
	__u64 bytes_in, bytes_out; /* IP headers and payload */
	__u64 packets_in, packets_out; /* as on the wire, whatever the offloads */
	__u64 cookie; /* of the socket that sent last */
	struct owner owner;
	__u8 broadcast, multicast; /* ever sent to such an address */
	__u8 opened_in, opened_out; /* who sent the SYN */
	__u8 told_in, told_out; /* first bytes have been copied */
	__u8 zero[2];
};

struct record {
	struct flow flow;
	__u64 at; /* ns since boot, suspend included */
	__u16 kind, length;
	__u8 out, zero[3];
	char data[COPY_MAX];
};

struct ledger { /* zeroed by user space while at rest */
	__u64 generation; /* 0 or 1, set by user space */
	__u64 packets; /* IP packets that reached the counting */
	__u64 map_full; /* packets lost: no room for their new flow */
	__u64 not_ip; /* frames of other protocols, and those with a broken header */
	__u64 others; /* packets for other hosts, and copies of our own multicasts */
	__u64 told; /* records sent */
	__u64 ring_full; /* records lost */
};

#include "ledger.h"

struct { /* grows with what it holds: a quiet device pays for its few flows */
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FLOWS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct flow);
	__type(value, struct counts);
} flows_0 SEC(".maps"), flows_1 SEC(".maps");

struct fragmented { __u32 source[4], target[4], id, protocol; };
struct ports { __u16 source, target; };

struct { /* the first fragment has the ports, the others do not */
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FRAGMENTS_MAX);
	__type(key, struct fragmented);
	__type(value, struct ports);
} fragments SEC(".maps");

struct { /* by cookie: forgetting one makes an owner unknown, and no count wrong */
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SOCKETS_MAX);
	__type(key, __u64);
	__type(value, struct maker);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, RING_BYTES);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct record);
} scratch SEC(".maps");

const volatile struct {
	__u64 wake_at; /* bytes waiting in the ring at which user space is woken */
} config = {};

struct packet {
	struct fragmented who; /* source, target, fragment id, protocol */
	__u32 l3, l4, payload; /* offsets from the link header */
	__u32 length; /* from l3 to the end, padding left out */
	__u16 source_port, target_port;
	__u8 tcp_flags, fragment, later_fragment;
	__u8 broadcast, multicast;
};

#define LOAD(at, to) bpf_skb_load_bytes(skb, at, &(to), sizeof(to))

/* The clamp that the verifier understands: the compiler must not reason it away. */
#define CLAMPED(n, most) ({ __u64 clamped = (n); asm volatile("" : "+r"(clamped)); \
	if (clamped > (most)) clamped = (most); clamped; })

static __always_inline struct ledger *active_ledger(void)
{
	__u32 zero = 0;
	void *map = bpf_map_lookup_elem(&active, &zero);
	return map ? bpf_map_lookup_elem(map, &zero) : NULL;
}

/* Find the IP header; 0 if there is none. A VLAN tag that the kernel took out of the frame is not in it. */
static __always_inline __u16 read_link(struct __sk_buff *skb, struct packet *p, __u32 link)
{
	__u8 frame[ETHERNET], tag[4], version;
	__u16 protocol;

	p->l3 = link;
	if (!link) {
		if (LOAD(0, version))
			return 0;
		return version >> 4 == 4 ? P_IP : version >> 4 == 6 ? P_IP6 : 0;
	}
	if (LOAD(0, frame))
		return 0;
	p->multicast = frame[0] & 1;
	p->broadcast = (frame[0] & frame[1] & frame[2] & frame[3] & frame[4] & frame[5]) == 0xff;
	protocol = frame[12] << 8 | frame[13];
	for (int i = 0; i < 2 && (protocol == P_VLAN || protocol == P_QINQ); i++) {
		if (LOAD(p->l3, tag))
			return 0;
		protocol = tag[2] << 8 | tag[3];
		p->l3 += sizeof(tag);
	}
	return protocol;
}

static __always_inline int read_ip4(struct __sk_buff *skb, struct packet *p)
{
	struct { __u8 version, tos; __be16 total, id, fragment; __u8 ttl, protocol; __be16 sum;
		 __u32 source, target; } ip;
	__u32 offset, total;

	if (LOAD(p->l3, ip) || ip.version >> 4 != 4 || (ip.version & 15) < 5)
		return 0;
	p->who.source[2] = p->who.target[2] = bpf_htonl(0xffff);
	p->who.source[3] = ip.source;
	p->who.target[3] = ip.target;
	p->who.protocol = ip.protocol;
	p->who.id = ip.id;
	offset = bpf_ntohs(ip.fragment);
	p->later_fragment = !!(offset & 0x1fff);
	p->fragment = !!(offset & 0x3fff);
	p->l4 = p->l3 + (ip.version & 15) * 4;
	total = bpf_ntohs(ip.total);
	if (!skb->gso_size && total >= sizeof(ip) && total < p->length)
		p->length = total;
	return 1;
}

static __always_inline int read_ip6(struct __sk_buff *skb, struct packet *p)
{
	struct { __be32 version; __be16 payload; __u8 next, hops; __u32 source[4], target[4]; } ip;
	__u8 extension[8], next;
	__u32 total;

	if (LOAD(p->l3, ip) || bpf_ntohl(ip.version) >> 28 != 6)
		return 0;
	__builtin_memcpy(p->who.source, ip.source, sizeof(ip.source));
	__builtin_memcpy(p->who.target, ip.target, sizeof(ip.target));
	total = sizeof(ip) + bpf_ntohs(ip.payload);
	if (!skb->gso_size && ip.payload && total < p->length)
		p->length = total;
	p->l4 = p->l3 + sizeof(ip);
	next = ip.next;
	for (int i = 0; i < EXTENSIONS_MAX; i++) {
		if (next != HOP_BY_HOP && next != ROUTING && next != FRAGMENT && next != AUTHENTICATION &&
		    next != DESTINATION)
			break;
		if (p->later_fragment || LOAD(p->l4, extension))
			break;
		if (next == FRAGMENT) {
			p->fragment = 1;
			p->later_fragment = !!((extension[2] << 8 | extension[3]) & 0xfff8);
			__builtin_memcpy(&p->who.id, extension + 4, 4);
			p->l4 += 8;
		} else if (next == AUTHENTICATION) {
			p->l4 += (extension[1] + 2) * 4;
		} else {
			p->l4 += (extension[1] + 1) * 8;
		}
		next = extension[0];
	}
	p->who.protocol = next;
	return 1;
}

static __always_inline void read_transport(struct __sk_buff *skb, struct packet *p)
{
	struct { __be16 source, target; __u32 sequence, acknowledged; __u8 offset, flags; } tcp = {};
	__u32 protocol = p->who.protocol;

	p->payload = p->l4;
	if (p->later_fragment)
		return;
	if (protocol == TCP && !LOAD(p->l4, tcp)) {
		p->tcp_flags = tcp.flags;
		p->payload += (tcp.offset >> 4) * 4;
	} else if (protocol == UDP && !bpf_skb_load_bytes(skb, p->l4, &tcp, 4)) {
		p->payload += 8;
	} else if (protocol == ICMP || protocol == ICMP6) {
		p->payload += 8;
	}
	p->source_port = tcp.source;
	p->target_port = tcp.target;
}

/* Later fragments belong to the flow of the first, which normally comes first. */
static __always_inline void find_ports(struct packet *p)
{
	struct ports ports = { p->source_port, p->target_port }, *known;

	if (!p->later_fragment) {
		bpf_map_update_elem(&fragments, &p->who, &ports, BPF_ANY);
	} else {
		known = bpf_map_lookup_elem(&fragments, &p->who);
		if (known) {
			p->source_port = known->source;
			p->target_port = known->target;
		}
	}
}

/* How many packets there are on the wire where the kernel handles them as one. */
static __always_inline __u32 segments_of(struct __sk_buff *skb, struct packet *p)
{
	__u32 headers = p->payload - p->l3, size = skb->gso_size, segments = skb->gso_segs;

	if (!size)
		return 1;
	if (!segments && p->length > headers) /* from a virtual machine: size alone is told */
		segments = (p->length - headers + size - 1) / size;
	return segments ? segments : 1;
}

/* The owner of the socket that sends. An accepted connection's socket was made by nobody but the kernel; its
 * SYN-ACK comes from a request that knows the listener, and the connection inherits the request's cookie. */
static __always_inline void find_owner(struct __sk_buff *skb, struct counts *counts)
{
	__u64 cookie = bpf_get_socket_cookie(skb), listening;
	struct maker *maker;
	struct sock *sk;

	if (!cookie || cookie == counts->cookie)
		return;
	counts->cookie = cookie;
	maker = bpf_map_lookup_elem(&sockets, &cookie);
	if (!maker) {
		sk = POINTER((struct sk_buff *)skb, sk);
		if (FIELD(sk, __sk_common.skc_state) != TCP_NEW_SYN_RECV)
			return;
		listening = FIELD(POINTER(sk, __sk_common.skc_listener), __sk_common.skc_cookie.counter);
		maker = bpf_map_lookup_elem(&sockets, &listening);
		if (maker)
			bpf_map_update_elem(&sockets, &cookie, maker, BPF_ANY);
	}
	if (maker && !counts->owner.pid)
		counts->owner = maker->owner;
}

static __always_inline void tell(struct __sk_buff *skb, struct ledger *ledger, struct flow *flow,
				 enum kind kind, __u32 from, __u64 length, int out)
{
	__u32 zero = 0;
	struct record *r = bpf_map_lookup_elem(&scratch, &zero);

	if (!r || !length)
		return;
	length = CLAMPED(length - 1, COPY_MAX - 1) + 1;
	if (bpf_skb_load_bytes(skb, from, r->data, length))
		return;
	r->flow = *flow;
	r->at = bpf_ktime_get_boot_ns();
	r->kind = kind;
	r->length = length;
	r->out = out;
	length = bpf_ringbuf_output(&ring, r, __builtin_offsetof(struct record, data) + length,
				    bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) < config.wake_at
					    ? BPF_RB_NO_WAKEUP : BPF_RB_FORCE_WAKEUP);
	if (length)
		ledger->ring_full++;
	else
		ledger->told++;
}

/* Copy what names a server or a protocol, and nothing else. */
static __always_inline void tell_names(struct __sk_buff *skb, struct ledger *ledger, struct packet *p,
				       struct flow *flow, struct counts *counts, int out)
{
	__u8 *told = out ? &counts->told_out : &counts->told_in;
	__u32 end = p->l3 + p->length;
	__u8 hello[6] = {};

	if (p->later_fragment || p->payload >= end)
		return;
	if (!out && flow->protocol == UDP && flow->remote_port == bpf_htons(DNS)) {
		if (counts->packets_out) /* somebody asked */
			tell(skb, ledger, flow, ANSWER, p->payload, end - p->payload, out);
		return;
	}
	if (*told || (flow->protocol == TCP ? !counts->opened_in && !counts->opened_out : flow->protocol != UDP))
		return;
	*told = 1;
	if (!out && flow->protocol == TCP && flow->remote_port == bpf_htons(DNS)) {
		tell(skb, ledger, flow, ANSWER, p->payload, end - p->payload, out);
		return;
	}
	if (flow->protocol == TCP && !LOAD(p->payload, hello) && hello[0] == 22 && hello[1] == 3 && hello[5] == 1)
		tell(skb, ledger, flow, FIRST, p->payload, end - p->payload, out);
	else
		tell(skb, ledger, flow, FIRST, p->payload, CLAMPED(end - p->payload, FIRST_BYTES), out);
}

static __always_inline struct counts *counts_of(struct ledger *ledger, struct flow *flow)
{
	void *flows = ledger->generation ? (void *)&flows_1 : (void *)&flows_0;
	struct counts *counts = bpf_map_lookup_elem(flows, flow), new = {};

	if (counts)
		return counts;
	new.first_seen = bpf_ktime_get_boot_ns();
	bpf_map_update_elem(flows, flow, &new, BPF_NOEXIST); /* another CPU may be first */
	return bpf_map_lookup_elem(flows, flow);
}

static __always_inline void add_up(struct counts *counts, struct packet *p, __u32 segments, int out)
{
	__u64 bytes = p->length + (__u64)(segments - 1) * (p->payload - p->l3);

	__sync_fetch_and_add(out ? &counts->packets_out : &counts->packets_in, segments);
	__sync_fetch_and_add(out ? &counts->bytes_out : &counts->bytes_in, bytes);
	if (p->broadcast)
		counts->broadcast = 1;
	else if (p->multicast)
		counts->multicast = 1;
	if ((p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN)
		*(out ? &counts->opened_out : &counts->opened_in) = 1;
}

static __always_inline void account(struct __sk_buff *skb, int out, __u32 link, int has_socket)
{
	struct ledger *ledger = active_ledger();
	struct packet p = {};
	struct flow flow = {};
	struct counts *counts;
	__u32 segments;
	__u16 protocol;

	if (!ledger)
		return;
	if (!out && (skb->pkt_type == TO_OTHER_HOST || skb->pkt_type == LOOPED_BACK)) {
		ledger->others++;
		return;
	}
	protocol = read_link(skb, &p, link);
	p.length = skb->len - p.l3;
	if (!(protocol == P_IP ? read_ip4(skb, &p) : protocol == P_IP6 ? read_ip6(skb, &p) : 0)) {
		ledger->not_ip++;
		return;
	}
	read_transport(skb, &p);
	if (p.fragment)
		find_ports(&p);
	segments = segments_of(skb, &p);
	ledger->packets += segments;

	__builtin_memcpy(out ? flow.local : flow.remote, p.who.source, sizeof(flow.local));
	__builtin_memcpy(out ? flow.remote : flow.local, p.who.target, sizeof(flow.local));
	flow.local_port = out ? p.source_port : p.target_port;
	flow.remote_port = out ? p.target_port : p.source_port;
	flow.protocol = p.who.protocol;
	counts = counts_of(ledger, &flow);
	if (!counts) {
		ledger->map_full += segments;
		return;
	}
	add_up(counts, &p, segments, out);
	if (has_socket)
		find_owner(skb, counts);
	tell_names(skb, ledger, &p, &flow, counts, out);
}

/* Bodies that are verified once for each program that calls them, and stand once in the object. */
static __noinline int count_in(struct __sk_buff *skb, __u32 link)
{
	account(skb, 0, link, 0);
	return TCX_NEXT;
}

static __noinline int count_out(struct __sk_buff *skb, __u32 link)
{
	account(skb, 1, link, 1);
	return TCX_NEXT;
}

static __noinline int count_tapped(struct __sk_buff *skb, __u32 link)
{
	account(skb, skb->pkt_type == OUTGOING, link, 0);
	return TAKE_NOTHING;
}

SEC("tc") int ethernet_in(struct __sk_buff *skb) { return count_in(skb, ETHERNET); }
SEC("tc") int ethernet_out(struct __sk_buff *skb) { return count_out(skb, ETHERNET); }
SEC("tc") int bare_in(struct __sk_buff *skb) { return count_in(skb, 0); }
SEC("tc") int bare_out(struct __sk_buff *skb) { return count_out(skb, 0); }
SEC("socket") int ethernet_tap(struct __sk_buff *skb) { return count_tapped(skb, ETHERNET); }
SEC("socket") int bare_tap(struct __sk_buff *skb) { return count_tapped(skb, 0); }

/* Every socket of IP that a process makes, in whatever cgroup below the root. */
SEC("cgroup/sock_create")
int on_socket(struct bpf_sock *sk)
{
	struct task_struct *leader = POINTER((struct task_struct *)bpf_get_current_task(), group_leader);
	struct mm_struct *mm = POINTER(leader, mm);
	__u64 cookie = bpf_get_socket_cookie(sk), start = FIELD(mm, arg_start);
	struct maker maker = {
		.owner = {
			.started = FIELD(leader, start_boottime),
			.pid = FIELD(leader, tgid),
			.uid = bpf_get_current_uid_gid(),
		},
		.kept = CLAMPED(FIELD(mm, arg_end) - start, ARGUMENTS_MAX),
	};

	if (bpf_probe_read_user(maker.arguments, CLAMPED(maker.kept, ARGUMENTS_MAX), (void *)start))
		maker.kept = 0;
	bpf_map_update_elem(&sockets, &cookie, &maker, BPF_ANY);
	return ALLOW;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
