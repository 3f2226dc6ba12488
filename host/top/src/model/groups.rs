//! Groups in the model, in place of flows.

use std::collections::BTreeMap;

use super::{DumpResult, Model};
use crate::{
    groups::{FoundGroups, GroupRow, GroupTable},
    snapshot::{Snapshot, Sum},
};

impl Model {
    /// Consumes the groups of a dump. Of too many, only the first ones in the current order are kept.
    pub(crate) fn take_groups(&mut self, found: FoundGroups) {
        let FoundGroups { table: GroupTable { keys, mut rows }, time, events } = found;
        let mut total = Sum::default();
        for row in &rows {
            let rate = row.rate.unwrap_or_default();
            total.add(&Sum { flows: row.flows, bytes: row.bytes, packets: row.packets, rate });
        }
        let counted = total.packets > 0;
        (self.now, self.events) = (time, events);
        if counted && self.round > 0 {
            self.remember_rate(total.rate);
        }
        self.round = self.round.saturating_add(1);
        let (filter, buffer, order) = (&self.filter, &mut self.buffer, self.sort);
        rows.retain(|row| filter.passes_group(row, buffer));
        self.found =
            DumpResult { sums: BTreeMap::from([(0, total)]), matching: rows.len() as u64, counted, dated: false };
        if rows.len() > self.kept {
            rows.select_nth_unstable_by(self.kept, |left, right| order.compare_groups(left, right));
            rows.truncate(self.kept);
        }
        self.groups = Some(GroupTable { keys, rows });
    }

    /// Returns the state to show now.
    pub(super) fn snapshot_of(&self, groups: &GroupTable) -> Snapshot {
        let groups = self.sorted_groups(groups);
        let total = Sum::of_all(&self.found.sums);
        // If all groups are kept they have just been counted, otherwise the last dump counted them.
        let shown = groups.rows.len() as u64;
        let all = self.groups.as_ref().is_some_and(|groups| groups.rows.len() < self.kept);
        Snapshot {
            rows: Vec::new(),
            matching: if all { shown } else { self.found.matching.max(shown) },
            groups: Some(groups),
            sums: self.found.sums.clone(),
            sort: self.sort,
            accounting: (total.flows > 0).then_some(self.found.counted),
            events: self.events,
            now: flowgate_base::clock::now(),
            rounds: self.round,
            history: self.history.iter().rev().copied().collect(),
        }
    }

    /// Returns the groups that pass the filter, in order.
    fn sorted_groups(&self, groups: &GroupTable) -> GroupTable {
        let mut buffer = String::new();
        let passing = groups.rows.iter().filter(|row| self.filter.passes_group(row, &mut buffer));
        let mut rows: Vec<GroupRow> = passing.cloned().collect();
        rows.sort_unstable_by(|left, right| self.sort.compare_groups(left, right));
        GroupTable { keys: groups.keys.clone(), rows }
    }
}
