//! Rows of flows of any content: what plugins may name and request, complete and incomplete, valid and invalid.

use flowgate_model::{
    Addresses, Dccps, Flows, Masters, Sctp, Sequences, SparseTexts, Synproxies, Tcp, Translations, Tuples, Zones,
    batch::push_sparse, field, protocol,
};

/// Fields that a request to the kernel can have.
pub const SENT: u64 = field::TUPLES
    | field::ZONES
    | field::ID
    | field::STATUS
    | field::TIMEOUT
    | field::MARK
    | field::MARK_MASK
    | field::STATE
    | field::ORIGINAL_WINDOW_SCALE
    | field::REPLY_WINDOW_SCALE
    | field::ORIGINAL_TCP_FLAGS
    | field::REPLY_TCP_FLAGS
    | field::ORIGINAL_VTAG
    | field::REPLY_VTAG
    | field::DCCP
    | field::HELPER
    | field::HELPER_INFO
    | field::LABELS
    | field::LABELS_MASK
    | field::MASTER
    | field::ORIGINAL_SEQUENCE
    | field::REPLY_SEQUENCE
    | field::SYNPROXY
    | field::SOURCE_NAT
    | field::DESTINATION_NAT;

/// Makes rows from numbers, which a generator or a fuzzer yields.
pub struct Rows<'a>(pub &'a mut dyn FnMut() -> u64);

impl Rows<'_> {
    /// Returns a number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        (self.0)() % limit.max(1)
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// Returns an address of the family; now and then an unspecified one, or one that is none of the family.
    fn address(&mut self, family: u8) -> (u64, u64) {
        match (family, self.below(12)) {
            (_, 0) => (0, 0),
            (_, 1) => (7, (self.0)()),
            (2, 2) => (0, 0xffff_0000_0000),
            (2, _) => (0, 0xffff_0a00_0000 | self.below(1 << 24)),
            _ => (0x2001_0db8_0000_0000 | self.below(1 << 32), (self.0)()),
        }
    }

    fn addresses(&mut self, family: u8) -> Addresses {
        let (hi, lo) = self.address(family);
        Addresses { hi: vec![hi], lo: vec![lo] }
    }

    fn word(&mut self) -> u16 {
        let any = self.below(1 << 16) as u16;
        self.pick(&[0, 53, 443, any, u16::MAX])
    }

    fn tuples(&mut self, family: u8) -> Tuples {
        Tuples {
            source: self.addresses(family),
            destination: self.addresses(family),
            source_l4: vec![self.word()],
            destination_l4: vec![self.word()],
        }
    }

    fn number(&mut self) -> u32 {
        let any = (self.0)() as u32;
        self.pick(&[0, 1, 0x2ff, 0xff00, any, u32::MAX])
    }

    /// Returns a text; now and then with a NUL in it, or longer than the kernel takes.
    fn text(&mut self, most: u64, labels: bool) -> SparseTexts {
        let length = match self.below(20) {
            0 => most + 1,
            1 => most,
            2 => 0,
            _ => self.below(most + 1),
        };
        let zero = labels || self.one_in(20);
        let bytes: Vec<u8> = (0..length).map(|_| (self.0)() as u8 | u8::from(!zero)).collect();
        let mut column = SparseTexts::default();
        push_sparse(&mut column, 0, &bytes);
        column
    }

    /// Returns a table of one row with content for all fields, of which it has some. With `complete` it has both
    /// tuples.
    pub fn row(&mut self, family: u8, number: u8, complete: bool) -> Flows {
        let mut flows = Flows {
            length: 1,
            family: vec![family],
            protocol: vec![number],
            original: self.tuples(family),
            reply: self.tuples(family),
            status: vec![self.number()],
            timeout: vec![self.number()],
            mark: vec![self.number()],
            id: vec![self.number()],
            state: vec![self.below(12) as u8],
            zones: Some(Zones { zone: vec![self.word()], original: vec![self.word()], reply: vec![self.word()] }),
            tcp: Some(Tcp {
                original_window_scale: vec![self.below(16) as u8],
                reply_window_scale: vec![self.below(16) as u8],
                original_flags: vec![self.word()],
                reply_flags: vec![self.word()],
            }),
            sctp: Some(Sctp { original_vtag: vec![self.number()], reply_vtag: vec![self.number()] }),
            ..Flows::default()
        };
        let rare = flows.rare.get_or_insert_default();
        rare.helper = self.text(15, false);
        rare.helper_info = if self.one_in(8) { self.text(256, true) } else { self.text(32, true) };
        rare.labels = self.text(16, true);
        rare.labels_mask = self.text(16, true);
        rare.mark_mask = vec![self.number()];
        let of_master = self.pick(&[protocol::TCP, protocol::ICMP, protocol::ICMPV6, protocol::GRE, 99, number]);
        rare.master =
            Masters { rows: vec![0], protocol: vec![of_master], tuple: self.tuples(family), zone: vec![self.word()] };
        for direction in self.pick(&[&[0][..], &[1], &[0, 1], &[1, 0], &[1, 1]]) {
            let Sequences { rows, reply, position, before, after } = &mut rare.sequence;
            rows.push(0);
            reply.push(*direction);
            for column in [position, before, after] {
                column.push(self.number());
            }
        }
        rare.synproxy = Synproxies {
            rows: vec![0],
            isn: vec![self.number()],
            its: vec![self.number()],
            tsoff: vec![self.number()],
        };
        rare.dccp = Dccps { rows: vec![0], role: vec![self.below(3) as u8], handshake: vec![(self.0)()] };
        for end in self.pick(&[&[0][..], &[1], &[0, 1], &[1, 0], &[0, 0]]) {
            let (first, mut last) = (self.address(family), self.address(family));
            let ports = (self.word(), self.word());
            if self.one_in(2) {
                last = first;
            }
            let Translations { rows, destination, first: low, last: high, first_port, last_port } = &mut rare.nat;
            rows.push(0);
            destination.push(*end);
            for (column, (hi, lo)) in [(low, first), (high, last)] {
                column.hi.push(hi);
                column.lo.push(lo);
            }
            first_port.push(ports.0);
            last_port.push(if self.one_in(2) { ports.0 } else { ports.1 });
        }
        // Few fields, some, many, or all.
        let few = (self.0)() & (self.0)() & (self.0)();
        let (some, many) = ((self.0)() & (self.0)(), (self.0)());
        let fields = self.pick(&[0, few, few, some, many, u64::MAX]);
        let tuples = if complete { field::TUPLES } else { (self.0)() | (self.0)() };
        flows.has = vec![SENT & (fields & !field::TUPLES | tuples & field::TUPLES)];
        flows
    }

    /// Returns a family and a protocol.
    pub fn kind(&mut self) -> (u8, u8) {
        let other = (self.0)() as u8;
        let protocols = [
            protocol::TCP,
            protocol::TCP,
            protocol::UDP,
            protocol::ICMP,
            protocol::ICMPV6,
            protocol::SCTP,
            protocol::DCCP,
            protocol::GRE,
            protocol::UDPLITE,
            other,
        ];
        (self.pick(&[2, 2, 10, 10, 10, 2, 2, 10, 7]), self.pick(&protocols))
    }
}
