//! Random conditions, each in the query language and in SQL.

use flowgate_test_support::Random;

/// The same condition in both languages.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    pub query: String,
    pub sql: String,
}

/// Numbers: the name in the query language, the column, and values that occur.
const NUMBERS: &[(&str, &str, &[u64])] = &[
    ("family", "family", &[2, 10]),
    ("proto", "protocol", &[1, 6, 17, 47, 50, 58, 132, 136, 255]),
    ("protocol", "protocol", &[6, 17, 33]),
    ("state", "state", &[0, 1, 3, 4, 7, 8]),
    ("sport", "original.source_port", &[0, 1, 53, 80, 1000, 1005, 2001, 3003, 65_535]),
    ("dport", "original.destination_port", &[53, 80, 443, 2905, 5004, 8080]),
    ("original.source_port", "original.source_port", &[1001, 2000]),
    ("reply.sport", "reply.source_port", &[53, 80, 8080, 8443, 7701]),
    ("reply.dport", "reply.destination_port", &[6000, 7000, 1001, 53]),
    ("icmp_type", "original.icmp_type", &[0, 3, 8, 13, 128, 139]),
    ("icmp_code", "original.icmp_code", &[0, 3]),
    ("icmp_id", "original.icmp_id", &[0, 1, 9, 4711]),
    ("reply.icmp_type", "reply.icmp_type", &[0, 14, 129]),
    ("source_key", "original.source_key", &[0, 1, 16, 65_535]),
    ("original.packets", "original.packets", &[0, 1, 2, 5, 20]),
    ("reply.bytes", "reply.bytes", &[0, 40, 60, 500, 5000]),
    ("original.bytes", "original.bytes", &[0, 60, 500, 20_000]),
    ("status", "status", &[4, 8, 10, 14, 0x188]),
    ("mark", "mark", &[0, 1, 5, 255, 256, 0xff00, 0x7fff_ffff, 0xffff_ffff]),
    ("zone", "COALESCE(zone, 0)", &[0, 1, 5, 65_535]),
    ("original.zone", "COALESCE(\"original.zone\", 0)", &[0, 6, 65_535]),
    ("reply.zone", "COALESCE(\"reply.zone\", 0)", &[0, 1, 7]),
    ("use", "use", &[1, 2]),
    ("snat.port", "nat.source.port", &[6000, 7000, 7700]),
    ("dnat.port", "nat.destination.port", &[8080, 8443, 7701]),
    ("snat.icmp_id", "nat.source.icmp_id", &[9]),
    ("original.vtag", "original.vtag", &[1, 12_345, 12_350]),
    ("reply.vtag", "reply.vtag", &[0, 2, 67_890]),
    ("master.protocol", "master.protocol", &[6, 17]),
    ("master.dport", "master.destination_port", &[21, 69]),
];

/// Addresses: the name, and the column.
const ADDRESSES: &[(&str, &str)] = &[
    ("src", "original.source"),
    ("dst", "original.destination"),
    ("original.source", "original.source"),
    ("reply.src", "reply.source"),
    ("reply.dst", "reply.destination"),
    ("snat", "nat.source.address"),
    ("dnat", "nat.destination.address"),
    ("master.src", "master.source"),
];

/// Networks, with their first and last addresses as numbers.
fn networks() -> Vec<(String, u128, u128)> {
    [
        "10.0.0.0/8",
        "10.1.0.0/16",
        "192.0.2.1/32",
        "127.0.0.1",
        "203.0.113.7",
        "198.51.100.0/24",
        "0.0.0.0/0",
        "2001:db8::/32",
        "2001:db8::1",
        "fe80::/10",
        "::/0",
        "10.3.0.8/29",
    ]
    .iter()
    .map(|text| {
        let (address, length) = text.split_once('/').unwrap_or((text, ""));
        let address: std::net::IpAddr = address.parse().unwrap();
        let (bits, width) = match address {
            std::net::IpAddr::V4(address) => (u128::from(address.to_bits()) | 0xffff_0000_0000, 32),
            std::net::IpAddr::V6(address) => (address.to_bits(), 128),
        };
        let length: u32 = length.parse().unwrap_or(width);
        let rest = 1u128.checked_shl(width - length).map_or(u128::MAX, |size| size - 1);
        ((*text).to_owned(), bits, bits | rest)
    })
    .collect()
}

/// Texts: the name, the column, and values that occur.
const TEXTS: &[(&str, &str, &[&str])] = &[
    ("helper", "helper", &["ftp", "tftp", "sip"]),
    ("protocol_name", "protocol_name", &["tcp", "udp", "icmp", "icmpv6", "udplite"]),
    ("state_name", "state_name", &["ESTABLISHED", "TIME_WAIT", "SYN_SENT", "SHUTDOWN_SENT"]),
    ("family_name", "family_name", &["ipv4", "ipv6"]),
];

const COMPARISONS: [(&str, &str, &str); 6] =
    [("==", "eq", "="), ("!=", "ne", "<>"), ("<", "lt", "<"), ("<=", "le", "<="), (">", "gt", ">"), (">=", "ge", ">=")];

/// Makes conditions.
pub(super) struct Generator<'a> {
    pub random: &'a mut Random,
}

impl Generator<'_> {
    fn one<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.random.below(items.len())]
    }

    /// Returns a comparison in both languages.
    fn comparison(&mut self) -> (&'static str, &'static str) {
        let (symbol, word, sql) = self.one(&COMPARISONS);
        (if self.random.chance(1, 4) { word } else { symbol }, sql)
    }

    /// Returns a number in one of its notations.
    fn notation(&mut self, number: u64) -> String {
        match self.random.below(6) {
            0 => format!("{number:#x}"),
            1 => format!("{number:#b}"),
            _ => number.to_string(),
        }
    }

    fn column(name: &str) -> String {
        if name.contains('(') { name.to_owned() } else { format!("\"{name}\"") }
    }

    /// Returns an arithmetic expression, which is nowhere negative and fits in 127 bits.
    fn number(&mut self, depth: usize) -> (String, String) {
        if depth == 0 || self.random.chance(1, 2) {
            let (name, column, values) = self.one(NUMBERS);
            if self.random.chance(1, 4) {
                // Not 0, by which a division would be an error, and a value of every field.
                let value = (self.one(values) & 0xff) | 1;
                return (value.to_string(), format!("{value}::HUGEINT"));
            }
            return (name.to_owned(), Self::column(column));
        }
        let ((left, left_sql), (right, right_sql)) = (self.number(depth - 1), self.number(depth - 1));
        // Constants are computed before, and may be an error.
        if !left.contains(char::is_alphabetic) && !right.contains(char::is_alphabetic) {
            return (left, left_sql);
        }
        let (operator, sql) = self.one(&[("+", "+"), ("*", "*"), ("/", "//"), ("%", "%"), ("&", "&"), ("|", "|")]);
        (format!("({left} {operator} {right})"), format!("({left_sql} {sql} {right_sql})"))
    }

    /// Returns a condition on one field or expression.
    fn term(&mut self) -> Condition {
        let false_if_absent = |sql: String| format!("COALESCE({sql}, FALSE)");
        let (query, sql) = match self.random.below(16) {
            0..=3 => {
                let (name, column, values) = self.one(NUMBERS);
                let ((operator, sql), value) = (self.comparison(), self.one(values));
                let column = Self::column(column);
                // As a port or a state, a number above the width is an error.
                (
                    format!("{name} {operator} {}", self.notation(value)),
                    false_if_absent(format!("{column} {sql} {value}")),
                )
            }
            4 | 5 => {
                let name = self.one(&["mark", "status"]);
                let (mask, value) =
                    (self.one(&[1u64, 4, 0xf, 0xff00, 0x3f00, 0xffff_ffff]), self.one(&[0u64, 1, 4, 8, 0x100]));
                let (operator, sql) = self.one(&[("==", "="), ("!=", "<>"), (">", ">")]);
                let notation = self.notation(mask);
                (
                    format!("{name} & {notation} {operator} {value}"),
                    false_if_absent(format!("({name} & {mask}) {sql} {value}")),
                )
            }
            6 => {
                let ((left, left_sql), (right, right_sql)) = (self.number(2), self.number(1));
                let (operator, sql) = self.comparison();
                // A constant with a constant is decided before, and may be an error.
                (
                    format!("{left} + mark {operator} {right} + zone"),
                    false_if_absent(format!("{left_sql} + mark {sql} {right_sql} + COALESCE(zone, 0)")),
                )
            }
            7 | 8 => {
                let (name, column, values) = self.one(NUMBERS);
                let column = Self::column(column);
                let mut members = Vec::new();
                let mut sql = Vec::new();
                for _ in 0..1 + self.random.below(6) {
                    let (one, two) = (self.one(values), self.one(values));
                    let (first, last) = (one.min(two), one.max(two));
                    if self.random.chance(1, 2) {
                        members.push(format!("{first}..{last}"));
                        sql.push(format!("{column} BETWEEN {first} AND {last}"));
                    } else {
                        members.push(self.notation(first));
                        sql.push(format!("{column} = {first}"));
                    }
                }
                let (not, sql_not) = self.one(&[("", ""), ("", ""), ("not ", "NOT ")]);
                (
                    format!("{name} {not}in {{{}}}", members.join(", ")),
                    false_if_absent(format!("{sql_not}({})", sql.join(" OR "))),
                )
            }
            9..=11 => {
                let (name, column) = self.one(ADDRESSES);
                let all = networks();
                let mut members = Vec::new();
                let mut sql = Vec::new();
                for _ in 0..1 + self.random.below(4) {
                    let (text, first, last) = &all[self.random.below(all.len())];
                    members.push(text.clone());
                    // A network is one of its family.
                    let family = if text.contains('.') { 2 } else { 10 };
                    let within = format!("BETWEEN {first}::UHUGEINT AND {last}::UHUGEINT AND family = {family}");
                    sql.push(format!("CASE WHEN \"{column}\" IS NOT NULL THEN \"{column}\" {within} END"));
                }
                let (not, sql_not) = self.one(&[("", ""), ("", ""), ("not ", "NOT ")]);
                let set = if members.len() == 1 && self.random.chance(1, 2) {
                    members[0].clone()
                } else {
                    format!("{{{}}}", members.join(", "))
                };
                (format!("{name} {not}in {set}"), false_if_absent(format!("{sql_not}({})", sql.join(" OR "))))
            }
            12 => {
                let ((left, left_column), (right, right_column)) = (self.one(ADDRESSES), self.one(ADDRESSES));
                let (operator, sql) = self.one(&[("==", "="), ("!=", "<>")]);
                (
                    format!("{left} {operator} {right}"),
                    false_if_absent(format!("\"{left_column}\" {sql} \"{right_column}\"")),
                )
            }
            13 => {
                let (name, column, values) = self.one(TEXTS);
                let value = self.one(values);
                match self.random.below(5) {
                    0 => (
                        format!("{name} contains \"{value}\""),
                        false_if_absent(format!("contains({column}, '{value}')")),
                    ),
                    1 => (
                        format!("{name} starts_with '{}'", &value[..2]),
                        false_if_absent(format!("starts_with({column}, '{}')", &value[..2])),
                    ),
                    2 => (
                        format!("{name} matches \"^{}|{}$\"", &value[..1], &value[1..]),
                        false_if_absent(format!("regexp_matches({column}, '^{}|{}$')", &value[..1], &value[1..])),
                    ),
                    3 => (
                        format!("{name} in {{\"{value}\", \"x\"}}"),
                        false_if_absent(format!("{column} IN ('{value}', 'x')")),
                    ),
                    _ => (format!("{name} != \"{value}\""), false_if_absent(format!("{column} <> '{value}'"))),
                }
            }
            14 => match self.random.below(5) {
                0 => {
                    let (name, column, _) = self.one(&NUMBERS[4..20]);
                    if column.contains('(') {
                        ("has(mark)".to_owned(), "mark IS NOT NULL".to_owned())
                    } else {
                        (format!("has({name})"), format!("\"{column}\" IS NOT NULL"))
                    }
                }
                1 => {
                    let (name, column) = self.one(ADDRESSES);
                    (format!("has({name})"), format!("\"{column}\" IS NOT NULL"))
                }
                2 => {
                    let label = self.one(&["0", "5", "31", "64", "100", "127"]);
                    (format!("label({label})"), false_if_absent(format!("list_contains(labels, '{label}')")))
                }
                3 => ("labels contains \"eth0-in\"".to_owned(), false_if_absent("list_contains(labels, '1')".into())),
                _ => ("has(labels)".to_owned(), "labels IS NOT NULL".to_owned()),
            },
            _ => {
                let (query, sql) = self.one(&[
                    ("assured", "(status & 4) <> 0"),
                    ("seen_reply", "(status & 2) <> 0"),
                    ("proto == tcp", "protocol = 6"),
                    ("proto in {udp, sctp}", "protocol IN (17, 132)"),
                    ("dport == https", "\"original.destination_port\" = 443"),
                    (
                        "dport in {domain, http..https}",
                        "\"original.destination_port\" = 53 OR \"original.destination_port\" BETWEEN 80 AND 443",
                    ),
                    ("state == ESTABLISHED", "state_name = 'ESTABLISHED'"),
                    ("state != ESTABLISHED", "state_name <> 'ESTABLISHED'"),
                    (
                        "state in {SYN_SENT, TIME_WAIT, COOKIE_WAIT}",
                        "state_name IN ('SYN_SENT', 'TIME_WAIT', 'COOKIE_WAIT')",
                    ),
                    ("family == ipv6", "family = 10"),
                    ("bytes > 1k", "\"original.bytes\" + \"reply.bytes\" > 1024"),
                    ("packets >= 3", "\"original.packets\" + \"reply.packets\" >= 3"),
                    ("true", "TRUE"),
                ]);
                (query.to_owned(), false_if_absent(sql.to_owned()))
            }
        };
        Condition { query, sql: format!("({sql})") }
    }

    /// Returns a condition of several terms.
    pub(super) fn condition(&mut self, depth: usize) -> Condition {
        if depth == 0 || self.random.chance(1, 3) {
            return self.term();
        }
        if self.random.chance(1, 5) {
            let Condition { query, sql } = self.condition(depth - 1);
            let not = self.one(&["not ", "!"]);
            return Condition { query: format!("{not}({query})"), sql: format!("(NOT {sql})") };
        }
        let parts: Vec<Condition> = (0..2 + self.random.below(3)).map(|_| self.condition(depth - 1)).collect();
        let (and, sql_and) = self.one(&[(" and ", " AND "), (" && ", " AND "), (" or ", " OR "), (" || ", " OR ")]);
        let join = |between: &str, part: fn(&Condition) -> &str| {
            parts.iter().map(|condition| format!("({})", part(condition))).collect::<Vec<_>>().join(between)
        };
        Condition {
            query: join(and, |condition| &condition.query),
            sql: format!("({})", join(sql_and, |condition| &condition.sql)),
        }
    }
}
