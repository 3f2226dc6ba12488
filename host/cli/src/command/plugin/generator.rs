//! Generated flows that resemble those of a router: mostly TCP and UDP, a fifth of them IPv6, half of the others
//! translated, and a few that transfer most of the bytes.

use flowgate_fixture::{DEFAULT_TIME, FlowRows, Tuple, put};
use flowgate_model::{Flows, family, field, protocol, state, status};

/// Xorshift64*, so that the flows are the same on every machine and in every run.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Returns a number less than `limit`.
    fn below(&mut self, limit: u64) -> u64 {
        (self.bits() >> 16) % limit.max(1)
    }
}

/// Returns a batch of `length` flows; batches with different numbers differ.
pub(super) fn batch(number: u64, length: usize) -> Flows {
    let mut random = Random(number.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9) | 1);
    let mut rows = FlowRows::new();
    for _ in 0..length {
        row(&mut random, &mut rows);
    }
    rows.finish()
}

/// Returns an IPv4 address in its mapped form.
fn v4(network: u64, host: u64) -> (u64, u64) {
    (0, 0xffff_0000_0000 | network | host)
}

fn row(random: &mut Random, rows: &mut FlowRows) {
    let (of, number) = match random.below(100) {
        0..56 => (family::IPV4, protocol::TCP),
        56..76 => (family::IPV4, protocol::UDP),
        76..79 => (family::IPV4, protocol::ICMP),
        79..80 => (family::IPV4, protocol::GRE),
        80..92 => (family::IPV6, protocol::TCP),
        92..98 => (family::IPV6, protocol::UDP),
        98..99 => (family::IPV6, protocol::ICMPV6),
        _ => (family::IPV6, protocol::SCTP),
    };
    let row = rows.begin(of);
    let (client, server) = match of {
        // Clients in 10.0.0.0/16; servers anywhere in 64.0.0.0/3, a tenth of them inside.
        family::IPV4 if random.below(10) > 0 => {
            (v4(0x0a00_0000, random.below(1 << 16)), v4(0x4000_0000, random.below(1 << 29)))
        }
        family::IPV4 => (v4(0x0a00_0000, random.below(1 << 16)), v4(0x0a01_0000, random.below(1 << 16))),
        _ => (
            (0x2001_0db8_0000_0000, random.below(1 << 32)),
            (0x2600_0000_0000_0000 | random.below(1 << 32), random.bits()),
        ),
    };
    let (source_l4, destination_l4) = match number {
        protocol::ICMP => (random.below(65536) as u16, 8 << 8),
        protocol::ICMPV6 => (random.below(65536) as u16, 128 << 8),
        protocol::GRE => (random.below(65536) as u16, random.below(65536) as u16),
        protocol::UDP => (32768 + random.below(28000) as u16, if random.below(3) == 0 { 443 } else { 53 }),
        _ => (
            32768 + random.below(28000) as u16,
            *[443, 443, 443, 80, 22, 993].get(random.below(6) as usize).unwrap_or(&443),
        ),
    };
    let original = Tuple {
        source: Some(client),
        destination: Some(server),
        source_l4: Some(source_l4),
        destination_l4: Some(destination_l4),
    };
    let translated = of == family::IPV4 && random.below(2) == 0;
    let icmp = protocol::is_icmp(number);
    let reply = Tuple {
        source: Some(server),
        destination: Some(if translated { v4(0xc000_0200, 1) } else { client }),
        source_l4: Some(if icmp { source_l4 } else { destination_l4 }),
        // Type of the reply to an echo request: 0, or 129 in ICMPv6.
        destination_l4: Some(match number {
            protocol::ICMP => 0,
            protocol::ICMPV6 => 129 << 8,
            _ => source_l4,
        }),
    };
    rows.tuple(false, original);
    rows.tuple(true, reply);
    put(&mut rows.flows.protocol, row, number);
    let replied = random.below(10) > 0;
    let mut bits = status::CONFIRMED;
    if replied {
        bits |= status::SEEN_REPLY;
    }
    if replied && matches!(number, protocol::TCP | protocol::SCTP) {
        bits |= status::ASSURED;
    }
    if translated {
        bits |= status::SRC_NAT | status::SRC_NAT_DONE | status::DST_NAT_DONE;
    }
    put(&mut rows.flows.status, row, bits);
    if number == protocol::TCP {
        let state = match random.below(10) {
            _ if !replied => 1,
            0..6 => state::TCP_ESTABLISHED,
            6..9 => state::TCP_TIME_WAIT,
            _ => 5,
        };
        put(&mut rows.flows.state, row, state);
        rows.carry(field::STATE);
    }
    put(&mut rows.flows.timeout, row, 1 + random.below(432_000) as u32);
    put(&mut rows.flows.mark, row, if random.below(8) == 0 { random.below(16) as u32 } else { 0 });
    put(&mut rows.flows.use_count, row, 1);
    put(&mut rows.flows.id, row, random.bits() as u32);
    // Byte counts range over many orders of magnitude, most of them small.
    let packets = 1 + random.bits() % (1 << (1 + random.below(6) * random.below(4)));
    let counters = rows.flows.counters.get_or_insert_default();
    put(&mut counters.original_packets, row, packets);
    put(&mut counters.original_bytes, row, packets * (40 + random.below(200)));
    put(&mut counters.reply_packets, row, if replied { packets * 2 } else { 0 });
    put(&mut counters.reply_bytes, row, if replied { packets * (80 + random.below(1400)) } else { 0 });
    put(&mut rows.flows.times.get_or_insert_default().start, row, DEFAULT_TIME - random.below(86_400) * 1_000_000_000);
    rows.carry(
        field::PROTOCOL
            | field::REPLY_PROTOCOL
            | field::STATUS
            | field::TIMEOUT
            | field::MARK
            | field::USE
            | field::ID
            | field::COUNTERS
            | field::START,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_are_whole_and_the_same_every_time() {
        let flows = batch(7, 1000);
        flowgate_model::batch::check(&flows).unwrap();
        assert_eq!(flows.length, 1000);
        assert_eq!(flows, batch(7, 1000));
        assert_ne!(flows, batch(8, 1000));
        let tcp = flows.protocol.iter().filter(|&&number| number == protocol::TCP).count();
        assert!((500..900).contains(&tcp), "{tcp}");
    }
}
