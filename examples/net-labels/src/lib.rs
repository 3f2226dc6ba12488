//! Annotates flows with the networks of both ends, from a table of networks, and sets connection labels with these
//! names.
//!
//! The longest prefix wins, as in a routing table. Labels can be matched by rules (nft `ct label`), by `-L --label`,
//! and by the next plugin.

mod table;

use flowgate_sdk::{event, prelude::*};

use table::Table;

struct NetLabels {
    table: Table,
    /// For each name of the table, the label of that name, if there is one.
    bits: Vec<Option<u16>>,
    label: Ends,
    only: bool,
}

/// The ends of a flow to look up.
#[derive(Clone, Copy, Default)]
struct Ends {
    source: bool,
    destination: bool,
}

impl NetLabels {
    /// Returns the labels of the table's names, if labels are to be set.
    fn bits(setup: &Setup, table: &Table) -> Result<Vec<Option<u16>>, String> {
        let bit = |name: &String| setup.labels.iter().find(|label| label.name == *name).map(|label| label.bit);
        let bits: Vec<Option<u16>> = table.names().iter().map(bit).collect();
        if bits.iter().all(Option::is_none) {
            let some = table.names().first().map_or("", String::as_str);
            return Err(format!(
                "option label: none of the table's names, such as {some:?}, is the name of a label; labels are named in \
                 connlabel.conf (--labelmap names another file)"
            ));
        }
        Ok(bits)
    }

    fn name(&self, index: Option<usize>) -> Option<&str> {
        self.table.names().get(index?).map(String::as_str)
    }
}

impl Plugin for NetLabels {
    fn describe() -> Description {
        Description::new("net-labels", "1.0.0", "Names the networks of both ends, and sets labels of these names")
            .required("table", "@FILE", "lines `NETWORK NAME`, or the same with `;` between them")
            .option("label", "none|source|destination|both", "ends whose network becomes a label", Some("none"))
            .option("only", "true|false", "keep only flows of which an end has a name", Some("false"))
            .reads(field::ORIGINAL_ADDRESSES | field::LABELS | field::PROTOCOL)
            .wants("update.labels")
    }

    fn configure(setup: &Setup) -> Result<Self, String> {
        let table =
            Table::parse(setup.text("table").unwrap_or_default()).map_err(|error| format!("option table: {error}"))?;
        let label = match setup.text("label").unwrap_or("none") {
            "none" => Ends::default(),
            "source" => Ends { source: true, destination: false },
            "destination" => Ends { source: false, destination: true },
            "both" => Ends { source: true, destination: true },
            other => {
                return Err(format!("option label: {other:?} is none of `none`, `source`, `destination` and `both`"));
            }
        };
        let bits = if label.source || label.destination { Self::bits(setup, &table)? } else { Vec::new() };
        Ok(NetLabels { table, bits, label, only: setup.switch("only")? })
    }
}

impl Filter for NetLabels {
    fn keep(&mut self, flow: &Flow<'_>, notes: &mut Notes) -> bool {
        if !flow.has(field::ORIGINAL_ADDRESSES) {
            return !self.only;
        }
        let source = self.table.find(flow.original().source());
        let destination = self.table.find(flow.original().destination());
        let mut update = Update::new();
        for (index, key, label) in
            [(source, "source_net", self.label.source), (destination, "destination_net", self.label.destination)]
        {
            let Some(name) = self.name(index) else { continue };
            notes.annotate(flow, key, name);
            let bit = index.and_then(|index| self.bits.get(index).copied().flatten());
            // A label that is already set needs no request to the kernel.
            if let Some(bit) = bit.filter(|&bit| label && !flow.has_label(bit)) {
                update = update.add_label(bit);
            }
        }
        if flow.event() != event::DESTROY {
            notes.update(flow, &update);
        }
        !self.only || source.is_some() || destination.is_some()
    }
}

flowgate_sdk::filter!(NetLabels);

#[cfg(test)]
mod tests {
    use flowgate_sdk::{
        FlowStage, action,
        bindings::flowgate::conntrack::setup::Label,
        testing::{Row, batch, setup},
    };

    use super::*;

    const TABLE: &str = "10.0.0.0/8 office; 10.9.0.0/16 lab; 2001:db8::/32 office";

    fn with(options: &[(&str, &str)], labels: &[(u16, &str)]) -> Result<NetLabels, String> {
        let mut setup = setup(options);
        setup.labels = labels.iter().map(|(bit, name)| Label { bit: *bit, name: (*name).into() }).collect();
        NetLabels::configure(&setup)
    }

    fn flows() -> Flows {
        batch([
            Row::ipv4(protocol::TCP).original("10.9.0.1", "192.0.2.1", 4000, 80),
            Row::ipv6(protocol::TCP).original("2001:db9::1", "2001:db8::1", 4000, 80),
            Row::ipv4(protocol::TCP).original("192.0.2.1", "192.0.2.2", 4000, 80),
        ])
    }

    #[test]
    fn both_ends_are_named() {
        let outcome = with(&[("table", TABLE)], &[]).unwrap().process(&flows());
        let notes = outcome.annotations.unwrap();
        assert_eq!(notes.rows, [0, 1]);
        assert_eq!((notes.keys.get(0), notes.values.get(0)), (Some(&b"source_net"[..]), Some(&b"lab"[..])));
        assert_eq!((notes.keys.get(1), notes.values.get(1)), (Some(&b"destination_net"[..]), Some(&b"office"[..])));
        assert!(outcome.verdicts.is_empty() && outcome.actions.is_none());
        let outcome = with(&[("table", TABLE), ("only", "true")], &[]).unwrap().process(&flows());
        assert_eq!(outcome.verdicts, [1, 1, 0]);
    }

    #[test]
    fn labels_are_set_where_they_have_a_name() {
        let mut plugin = with(&[("table", TABLE), ("label", "both")], &[(3, "lab"), (9, "office")]).unwrap();
        let outcome = plugin.process(&flows());
        let actions = outcome.actions.unwrap();
        assert_eq!((actions.kinds, actions.rows), (vec![action::UPDATE; 2], vec![0, 1]));
        let values = outcome.values.unwrap();
        let labels = &values.rare.as_ref().unwrap().labels;
        assert_eq!(labels.get(0).unwrap()[..2], [1 << 3, 0]);
        assert_eq!(labels.get(1).unwrap()[..2], [0, 1 << 1]);
    }

    #[test]
    fn wrong_options_are_named() {
        let error = |options: &[(&str, &str)]| with(options, &[(1, "other")]).err().unwrap();
        assert!(error(&[("table", "10.0.0.0/99 a")]).contains("option table: line 1"));
        assert!(error(&[("table", TABLE), ("label", "x")]).contains("option label: \"x\""));
        assert!(error(&[("table", TABLE), ("label", "both")]).contains("connlabel.conf"));
    }
}
