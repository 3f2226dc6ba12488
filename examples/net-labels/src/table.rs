//! A table of networks, in which the longest prefix of an address is found.

use std::net::IpAddr;

use flowgate_sdk::address::{self, Cidr};

/// Networks and their names.
///
/// The networks are split into ranges that do not overlap, each with the name of its longest prefix, so that a lookup
/// is a binary search, however deeply networks are nested.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// Names in the order of the text; ranges refer to them by index.
    names: Vec<String>,
    ipv4: Ranges,
    ipv6: Ranges,
}

/// The start of each range, and the name that holds from there on.
#[derive(Debug, Default)]
struct Ranges(Vec<(u128, Option<usize>)>);

impl Table {
    /// Parses a table: lines `NETWORK NAME`, or the same separated by `;`. `#` begins a comment.
    ///
    /// # Errors
    /// Returns the number of the first invalid line, and its error.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut table = Table::default();
        let mut networks: Vec<(Cidr, usize, usize)> = Vec::new();
        // A comment extends to the end of the line, whatever it contains.
        let parts = (1..)
            .zip(text.lines())
            .map(|(number, line)| (number, line.split('#').next().unwrap_or_default()))
            .flat_map(|(number, line)| line.split(';').map(move |part| (number, part.trim())));
        for (number, line) in parts.filter(|(_, part)| !part.is_empty()) {
            let wrong = |what: String| format!("line {number}: {what}");
            let (network, name) = line
                .split_once(char::is_whitespace)
                .ok_or_else(|| wrong(format!("{line:?} is not NETWORK NAME, such as `10.0.0.0/8 office`")))?;
            let network: Cidr = network.parse().map_err(|error| wrong(format!("{error}")))?;
            if let Some((_, _, other)) = networks.iter().find(|(known, _, _)| *known == network) {
                return Err(wrong(format!("line {other} has the same network")));
            }
            networks.push((network, table.index(name.trim()), number));
        }
        if networks.is_empty() {
            return Err("it names no network; a line is NETWORK NAME, such as `10.0.0.0/8 office`".into());
        }
        // A network comes before those within it.
        networks.sort_by_key(|(network, _, _)| (network.first(), u128::MAX - network.last()));
        let of = |ipv4: bool| networks.iter().filter(move |(network, _, _)| network.is_ipv4() == ipv4);
        table.ipv4 = Ranges::of(of(true).map(|(network, name, _)| (*network, *name)));
        table.ipv6 = Ranges::of(of(false).map(|(network, name, _)| (*network, *name)));
        Ok(table)
    }

    /// Returns the index of a name, which is added if it is new.
    fn index(&mut self, name: &str) -> usize {
        self.names.iter().position(|known| known == name).unwrap_or_else(|| {
            self.names.push(name.into());
            self.names.len() - 1
        })
    }

    /// Returns all names, each once.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// Returns the index of the name, in [`Table::names`], of the longest prefix of the address.
    pub(crate) fn find(&self, address: IpAddr) -> Option<usize> {
        let ranges = if address.is_ipv4() { &self.ipv4 } else { &self.ipv6 };
        ranges.find(address::bits(address))
    }
}

impl Ranges {
    /// Splits networks, which are sorted by their start, longer prefixes later.
    fn of(networks: impl Iterator<Item = (Cidr, usize)>) -> Self {
        let mut ranges = Ranges::default();
        let mut open: Vec<(Cidr, usize)> = Vec::new();
        for (network, name) in networks {
            ranges.close(&mut open, Some(network.first()));
            ranges.begin(network.first(), Some(name));
            open.push((network, name));
        }
        ranges.close(&mut open, None);
        ranges
    }

    /// Ends the networks that end before an address; all of them without one.
    fn close(&mut self, open: &mut Vec<(Cidr, usize)>, before: Option<u128>) {
        while let Some((network, _)) = open.pop_if(|(network, _)| before.is_none_or(|start| network.last() < start)) {
            if let Some(next) = network.last().checked_add(1) {
                self.begin(next, open.last().map(|(_, name)| *name));
            }
        }
    }

    /// Starts a range with another name.
    fn begin(&mut self, start: u128, name: Option<usize>) {
        match self.0.last_mut() {
            Some(last) if last.0 == start => last.1 = name,
            _ => self.0.push((start, name)),
        }
    }

    fn find(&self, address: u128) -> Option<usize> {
        let after = self.0.partition_point(|(start, _)| *start <= address);
        self.0.get(after.checked_sub(1)?)?.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name<'a>(table: &'a Table, address: &str) -> Option<&'a str> {
        table.find(address.parse().unwrap()).map(|index| table.names()[index].as_str())
    }

    #[test]
    fn the_longest_prefix_holds() {
        let text = "10.0.0.0/8 office # all of it; really\n10.1.0.0/16 lab\n10.1.2.3 printer; 10.1.255.0/24 lab-edge\n\
                    0.0.0.0/0 world\n2001:db8::/32 office\n2001:db8:1::/48 lab six\n::/0 world6";
        let table = Table::parse(text).unwrap();
        for (address, expected) in [
            ("10.0.0.0", "office"),
            ("10.0.255.255", "office"),
            ("10.1.0.0", "lab"),
            ("10.1.2.2", "lab"),
            ("10.1.2.3", "printer"),
            ("10.1.2.4", "lab"),
            ("10.1.255.255", "lab-edge"),
            ("10.2.0.0", "office"),
            ("11.0.0.0", "world"),
            ("255.255.255.255", "world"),
            ("2001:db8::1", "office"),
            ("2001:db8:1::1", "lab six"),
            ("2001:db8:2::1", "office"),
            ("2001:db9::1", "world6"),
            ("ffff::", "world6"),
        ] {
            assert_eq!(name(&table, address), Some(expected), "{address}");
        }
        assert_eq!(table.names().len(), 7, "a name is kept once");
    }

    #[test]
    fn the_families_are_apart() {
        let table = Table::parse("::/0 six").unwrap();
        assert_eq!(name(&table, "10.0.0.1"), None);
        let table = Table::parse("0.0.0.0/0 four").unwrap();
        assert_eq!(name(&table, "::1"), None);
        assert_eq!(name(&table, "255.255.255.255"), Some("four"));
    }

    /// Compares every prefix with a linear search.
    #[test]
    fn ranges_agree_with_a_plain_search() {
        let mut text = String::new();
        let mut state = 1u32;
        let mut random = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 8
        };
        let mut networks: Vec<(Cidr, String)> = Vec::new();
        for number in 0..300 {
            let line = format!("10.{}.{}.{}/{}", random() % 4, random() % 4, random() % 256, 8 + random() % 25);
            let network: Cidr = line.parse().unwrap();
            if networks.iter().all(|(known, _)| *known != network) {
                text += &format!("{line} n{number}\n");
                networks.push((network, format!("n{number}")));
            }
        }
        let table = Table::parse(&text).unwrap();
        for _ in 0..5000 {
            let address = format!("10.{}.{}.{}", random() % 5, random() % 5, random() % 256);
            let holds = |network: &&(Cidr, String)| network.0.contains(address.parse().unwrap());
            let longest = networks.iter().filter(holds).min_by_key(|(network, _)| network.last() - network.first());
            assert_eq!(name(&table, &address), longest.map(|(_, name)| name.as_str()), "{address}");
        }
    }

    #[test]
    fn wrong_lines_are_named() {
        for (text, expected) in [
            ("10.0.0.0/8", "line 1: \"10.0.0.0/8\" is not NETWORK NAME"),
            ("# x\n10.0.0.0/33 a", "line 2: \"33\" is no prefix length"),
            ("10.0.0.0/8 a\n10.9.9.9/8 b", "line 2: line 1 has the same network"),
            ("# nothing", "names no network"),
        ] {
            let error = Table::parse(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
