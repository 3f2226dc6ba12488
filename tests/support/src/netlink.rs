//! The netfilter sockets of a network namespace, as `/proc/net/netlink` lists them.

use crate::Program;
use std::{collections::BTreeSet, fs};

/// `NETLINK_NETFILTER` in `linux/netlink.h`.
const NETFILTER: &str = "12";

/// A netfilter socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedSocket {
    /// Its inode.
    pub inode: String,
    /// Its port: usually the process that opened it.
    pub port: u32,
    /// True if it has joined groups.
    pub joined: bool,
    /// Bytes in its receive buffer.
    pub queued: u64,
}

/// Returns the netfilter sockets of the network namespace of the calling thread.
pub fn table() -> Vec<ListedSocket> {
    parse(&fs::read_to_string("/proc/thread-self/net/netlink").expect("the table of netlink sockets"))
}

/// Returns the netfilter sockets of a named network namespace.
pub fn table_of(name: &str) -> Vec<ListedSocket> {
    parse(&Program::new("ip").run(&["netns", "exec", name, "cat", "/proc/net/netlink"]).text())
}

/// Returns the inodes of the open sockets of a process; none if it has ended.
pub fn inodes_of(process: u32) -> BTreeSet<String> {
    let entries = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    let links = entries.filter_map(|entry| fs::read_link(entry.path()).ok()?.into_os_string().into_string().ok());
    links.filter_map(|link| Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())).collect()
}

/// Columns: address, protocol, port, groups, bytes received, bytes to send, dump, locks, drops, inode.
fn parse(table: &str) -> Vec<ListedSocket> {
    let sockets = table.lines().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words.get(1) == Some(&NETFILTER)).then_some(())?;
        let joined = !words.get(3)?.trim_matches('0').is_empty();
        let port = words.get(2)?.parse().ok()?;
        Some(ListedSocket { port, inode: (*words.get(9)?).to_owned(), joined, queued: words.get(4)?.parse().ok()? })
    });
    sockets.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_read_from_the_table_of_the_kernel() {
        let table = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n\
                     000000003c1b6fd3 0   1234       000405d1 0        0        0     2        0        23054   \n\
                     00000000d02fd64c 12  4294963201 00000007 1280     0        0     2        3        23055   \n\
                     00000000d02fd64d 12  77         00000000 0        0        0     2        0        23056   \n";
        let socket = |port, inode: &str, joined, queued| ListedSocket { port, inode: inode.into(), joined, queued };
        assert_eq!(parse(table), [socket(4294963201, "23055", true, 1280), socket(77, "23056", false, 0)]);
    }
}
