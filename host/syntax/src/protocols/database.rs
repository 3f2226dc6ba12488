//! The protocols database: names of layer-4 protocols from /etc/protocols (see protocols(5)).

use super::super::environment::Environment;

/// Path of the database.
pub const DATABASE_PATH: &str = "/etc/protocols";

/// Used if the file does not exist: the assignments of IANA that are in practical use.
const BUILT_IN: &str = "ip 0 IP
icmp 1 ICMP
igmp 2 IGMP
ggp 3 GGP
ipencap 4 IP-ENCAP
st 5 ST
tcp 6 TCP
egp 8 EGP
igp 9 IGP
pup 12 PUP
udp 17 UDP
hmp 20 HMP
xns-idp 22 XNS-IDP
rdp 27 RDP
iso-tp4 29 ISO-TP4
dccp 33 DCCP
xtp 36 XTP
ddp 37 DDP
idpr-cmtp 38 IDPR-CMTP
ipv6 41 IPv6
ipv6-route 43 IPv6-Route
ipv6-frag 44 IPv6-Frag
idrp 45 IDRP
rsvp 46 RSVP
gre 47 GRE
esp 50 IPSEC-ESP ESP
ah 51 IPSEC-AH AH
skip 57 SKIP
ipv6-icmp 58 IPv6-ICMP
ipv6-nonxt 59 IPv6-NoNxt
ipv6-opts 60 IPv6-Opts
rspf 73 RSPF
vmtp 81 VMTP
eigrp 88 EIGRP
ospf 89 OSPFIGP
ax.25 93 AX.25
ipip 94 IPIP
etherip 97 ETHERIP
encap 98 ENCAP
pim 103 PIM
ipcomp 108 IPCOMP
vrrp 112 VRRP
l2tp 115 L2TP
isis 124 ISIS
sctp 132 SCTP
fc 133 FC
mobility-header 135 Mobility-Header
udplite 136 UDPLite
mpls-in-ip 137 MPLS-in-IP
manet 138
hip 139 HIP
shim6 140 Shim6
wesp 141 WESP
rohc 142 ROHC
";

/// Names and numbers of protocols.
#[derive(Debug, Clone, Default)]
pub struct Database {
    entries: Vec<(Vec<Vec<u8>>, u8)>,
}

impl Database {
    /// Loads the system's database, or the built-in one if there is none.
    pub fn load(environment: &dyn Environment) -> Self {
        match environment.read(DATABASE_PATH.as_bytes()) {
            Ok(text) => Self::parse(&text),
            Err(_) => Self::built_in(),
        }
    }

    /// Returns the built-in database.
    pub fn built_in() -> Self {
        Self::parse(BUILT_IN.as_bytes())
    }

    /// Parses a database: each line has a name, a number and aliases; comments start with `#`.
    pub fn parse(text: &[u8]) -> Self {
        let entry = |line: &[u8]| {
            let content = line.split(|byte| *byte == b'#').next().unwrap_or_default();
            let mut words = content.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            let name = words.next()?.to_vec();
            let number = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
            let names = std::iter::once(name).chain(words.map(<[u8]>::to_vec)).collect();
            Some((names, number))
        };
        Self { entries: text.split(|byte| *byte == b'\n').filter_map(entry).collect() }
    }

    /// Returns the number of a name, which is case-sensitive; of several entries the first counts.
    pub fn number(&self, name: &[u8]) -> Option<u8> {
        self.entries.iter().find(|(names, _)| names.iter().any(|other| other == name)).map(|(_, number)| *number)
    }

    /// Returns the first name of a number.
    pub fn name(&self, number: u8) -> Option<&[u8]> {
        let (names, _) = self.entries.iter().find(|(_, other)| *other == number)?;
        names.first().map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::environment::tests::FakeEnvironment;
    use super::*;

    #[test]
    fn names_and_aliases_are_case_sensitive() {
        let database = Database::parse(b"# comment\nudp\t17\tUDP x # more\nbroken\nesp 50 ESP\nbig 300\n");
        assert_eq!(database.number(b"udp"), Some(17));
        assert_eq!(database.number(b"x"), Some(17));
        assert_eq!(database.number(b"Udp"), None);
        assert_eq!(database.number(b"more"), None);
        assert_eq!(database.number(b"big"), None);
        assert_eq!(database.name(50), Some(&b"esp"[..]));
    }

    #[test]
    fn without_a_file_the_usual_names_are_known() {
        let database = Database::load(&FakeEnvironment::default());
        assert_eq!(database.number(b"ospf"), Some(89));
        let database = Database::load(&FakeEnvironment::with(&[(DATABASE_PATH, "mine 200\n")]));
        assert_eq!(database.number(b"mine"), Some(200));
        assert_eq!(database.number(b"ospf"), None);
    }
}
