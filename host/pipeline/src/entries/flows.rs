//! Flows as entries of a pipeline.

use std::ops::Range;

use super::{Batch, Entries, NO_ANNOTATIONS, NO_ROW, RowOf};
use crate::{
    aggregate,
    merge::{self, Reduced},
    outcome::{RecordedOutcomes, StageOutcome},
    resync::Resync,
    role::Role,
};
use flowgate_model::{
    Annotations, Changes, Flows, action,
    batch::{self, MergedAnnotations, TextCost},
    event, field,
    grants::Grants,
    verdict,
};
use flowgate_netlink::{
    Request,
    decode::{Arrival, DecodeError, FlowDecoder},
    encode::{
        EncodeError, FlowEntry,
        flows::{self, IfExists},
    },
    message::{Message, MessageKind},
    process_names::ProcessNames,
};
use flowgate_runtime::{Instance, PluginError};

fn entry((batch, row): RowOf<'_, Flows>) -> Result<FlowEntry<'_>, EncodeError> {
    FlowEntry::new(batch, row)
}

impl Entries for Flows {
    type Decoder = FlowDecoder;

    const STAGE: Role = Role::FlowStage;
    const FORMAT: Role = Role::FlowFormat;
    const PRINTS_BATCHES: bool = true;

    fn take(batch: &mut Batch) -> Option<Self> {
        if let Batch::Flows(rows) = batch { Some(std::mem::take(rows)) } else { None }
    }

    fn rows(&self) -> usize {
        self.length as usize
    }

    fn count_entries(&self) -> usize {
        let gaps =
            self.events.as_ref().map_or(0, |events| events.kind.iter().filter(|&&kind| kind == event::GAP).count());
        self.rows().saturating_sub(gaps)
    }

    fn kinds(&self) -> &[u8] {
        self.events.as_ref().map(|events| events.kind.as_slice()).unwrap_or_default()
    }

    fn time(&self) -> u64 {
        self.time
    }

    fn stamp(&mut self, time: u64) {
        self.time = time;
    }

    fn pick(&self, row: usize) -> Self {
        batch::copy_row(self, row)
    }

    fn append(&mut self, rows: &Self) {
        batch::append(self, rows);
    }

    fn retain(&mut self, verdicts: &[u8]) {
        batch::retain(self, verdicts);
    }

    fn gaps(&self) -> Vec<u8> {
        let kinds = self.kinds();
        let keep = |row| if kinds.get(row) == Some(&event::GAP) { verdict::KEEP } else { verdict::DROP };
        (0..self.rows()).map(keep).collect()
    }

    fn add_names(&mut self, names: &mut ProcessNames) {
        let Some(events) = &mut self.events else { return };
        for (row, has) in self.has.iter_mut().enumerate() {
            // Columns that nothing reads are empty.
            let port = events.port_id.get(row).copied().unwrap_or_default();
            let namespace = if *has & field::NAMESPACE != 0 { events.namespace_id.get(row).copied() } else { None };
            if let Some(name) = namespace.and_then(|id| names.namespaces.name(id)) {
                batch::push_sparse(&mut events.namespace_name, row, name);
                *has |= field::NAMESPACE_NAME;
            }
            if let Some(name) = names.name(namespace, port) {
                batch::push_sparse(&mut events.program, row, name);
                *has |= field::PROGRAM;
            }
        }
    }

    fn decoder(fields: u64) -> FlowDecoder {
        FlowDecoder::new(fields)
    }

    fn clear(&mut self, decoder: &mut FlowDecoder) {
        decoder.clear(self);
    }

    fn push(&mut self, decoder: &mut FlowDecoder, message: &Message<'_>, arrival: Arrival) -> Result<(), DecodeError> {
        match message.kind() {
            MessageKind::Flow | MessageKind::FlowDestroyed => decoder.push(self, message, arrival),
            _ => Ok(()),
        }
    }

    fn push_gap(&mut self, decoder: &mut FlowDecoder, received: u64, lost: Option<u32>) -> Result<(), DecodeError> {
        decoder.push_gap(self, received, lost)
    }

    fn decode_whole(message: &Message<'_>) -> Option<Self> {
        let (mut decoder, mut one) = (FlowDecoder::new(field::ALL), Flows::default());
        one.push(&mut decoder, message, Arrival::Entry).ok()?;
        (one.length == 1).then_some(one)
    }

    fn follow(&mut self, resync: &mut Resync<'_>) {
        resync.follow(self);
    }

    fn make_up(&mut self, decoder: &mut FlowDecoder, resync: &mut Resync<'_>, most: usize) -> bool {
        resync.push_synthetic(decoder, self, most)
    }

    fn process(
        &mut self,
        instance: &mut Instance,
        reads: u64,
        hidden: &mut Flows,
    ) -> Result<StageOutcome<Self>, PluginError> {
        batch::project(self, reads, hidden, |shown| instance.process_flows(shown)).map(StageOutcome::from)
    }

    fn finish(instance: &mut Instance) -> Result<StageOutcome<Self>, PluginError> {
        instance.finish_flows().map(StageOutcome::from)
    }

    fn tick(instance: &mut Instance, now: u64) -> Result<StageOutcome<Self>, PluginError> {
        instance.tick(now).map(StageOutcome::from)
    }

    fn begin_look_back(instance: &mut Instance, reason: u8) -> Result<(), PluginError> {
        instance.begin_look_back(reason)
    }

    fn look_back(
        &mut self,
        instance: &mut Instance,
        reads: u64,
        hidden: &mut Flows,
    ) -> Result<StageOutcome<Self>, PluginError> {
        batch::project(self, reads, hidden, |shown| instance.look_back(shown)).map(StageOutcome::from)
    }

    fn end_look_back(instance: &mut Instance) -> Result<StageOutcome<Self>, PluginError> {
        instance.end_look_back().map(StageOutcome::from)
    }

    fn check(&self) -> Result<(), String> {
        batch::check(self)
    }

    fn change(&mut self, changes: &Changes, values: &Self, fixed: u64) {
        batch::change(self, changes, values, fixed);
    }

    fn written(&self, changes: &Changes, values: &Self, fixed: u64) -> Result<TextCost, String> {
        batch::text_cost(self, changes, values, fixed)
    }

    fn annotations(&self) -> &Annotations {
        self.rare.as_ref().map_or(&NO_ANNOTATIONS, |rare| &rare.annotations)
    }

    fn annotate(&mut self, annotated: MergedAnnotations) {
        batch::set_annotations(self, annotated);
    }

    fn recorded(outcomes: &mut RecordedOutcomes) -> &mut Vec<StageOutcome<Self>> {
        &mut outcomes.flows
    }

    fn request(
        kind: u8,
        target: Option<RowOf<'_, Self>>,
        values: Option<RowOf<'_, Self>>,
    ) -> Result<Request, EncodeError> {
        let entry_of_action = target.or(values).map(entry).ok_or(NO_ROW)??;
        match kind {
            action::DELETE => flows::delete(entry_of_action),
            action::UPDATE => flows::update(entry_of_action, values.map(entry).ok_or(NO_ROW)??),
            _ => {
                let existing = if kind == action::CREATE { IfExists::Fail } else { IfExists::Update };
                flows::create(values.or(target).map(entry).ok_or(NO_ROW)??, existing)
            }
        }
    }

    fn lookup(&self, row: usize) -> Result<Request, EncodeError> {
        flows::get(FlowEntry::new(self, row)?)
    }

    fn is_granted(grants: &Grants, kind: u8, target: Option<RowOf<'_, Self>>, values: Option<RowOf<'_, Self>>) -> bool {
        grants.allow(kind, target, values)
    }

    fn is_harmless(kind: u8, errno: i32, values: Option<RowOf<'_, Self>>) -> bool {
        let labels =
            values.is_some_and(|(values, row)| values.has.get(row).is_some_and(|has| has & field::LABELS != 0));
        match (kind, errno) {
            (action::DELETE | action::UPDATE, libc::ENOENT) => true,
            // The entry is older than the first rule that uses labels, and has no room for any.
            (action::UPDATE, libc::ENOSPC) => labels,
            _ => false,
        }
    }

    fn merge(&self, row: usize, existing: &Self) -> Option<Reduced> {
        merge::merge(self, row, existing)
    }

    fn without(&self, row: usize, errno: i32, orphans: bool) -> Option<Reduced> {
        merge::without(self, row, errno, orphans)
    }

    fn left_out(&self, row: usize, errno: i32) -> Option<String> {
        merge::left_out(self, row, errno)
    }

    fn planned(kind: u8, target: Option<RowOf<'_, Self>>, values: Option<RowOf<'_, Self>>) -> Self {
        let mut planned = match (target, values) {
            (Some((batch, row)), None) => batch::copy_row(batch, row),
            (None, Some((values, row))) => batch::copy_row(values, row),
            (Some((batch, row)), Some((values, value))) => {
                let mut planned = batch::copy_row(values, value);
                if matches!(kind, action::DELETE | action::UPDATE) {
                    // The row of the batch identifies the flow, the values are what it gets.
                    let named = Changes { rows: vec![0], values: vec![row as u32], clear: vec![batch::IDENTITY] };
                    batch::change(&mut planned, &named, batch, !batch::IDENTITY);
                    if let (Some(family), Some(of)) = (planned.family.first_mut(), batch.family.get(row)) {
                        *family = *of;
                    }
                }
                planned
            }
            (None, None) => Flows::default(),
        };
        if let (action::DELETE, Some(has)) = (kind, planned.has.first_mut()) {
            // Only what identifies the flow: the rest will have changed by the time that the line is used.
            *has &= batch::IDENTITY;
        }
        // An action is printed, not the event with which the flow arrived.
        planned.events = None;
        planned
    }

    fn aggregate(&mut self, instance: &mut Instance, reads: u64, hidden: &mut Flows) -> Result<(), PluginError> {
        aggregate::add(self, instance, reads, hidden)
    }

    fn begin_format(instance: &mut Instance) -> Result<Vec<u8>, PluginError> {
        instance.begin_flow_format()
    }

    fn render(&mut self, instance: &mut Instance, reads: u64, hidden: &mut Flows) -> Result<Vec<u8>, PluginError> {
        batch::project(self, reads, hidden, |shown| instance.render_flows(shown))
    }

    fn end_format(instance: &mut Instance) -> Result<Vec<u8>, PluginError> {
        instance.finish_flow_format()
    }

    fn parts(&self) -> Option<Vec<Range<usize>>> {
        batch::ranges(self)
    }

    fn part(&self, range: Range<usize>) -> Self {
        batch::copy_rows(self, range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planned_update_names_the_flow_and_what_it_gets() {
        let batch = Flows {
            length: 2,
            has: vec![field::SOURCE | field::MARK; 2],
            family: vec![2, 10],
            mark: vec![1, 2],
            original: flowgate_model::Tuples {
                source: flowgate_model::Addresses { hi: vec![0, 1], lo: vec![3, 4] },
                ..Default::default()
            },
            ..Flows::default()
        };
        let values =
            Flows { length: 1, has: vec![field::TIMEOUT], family: vec![2], timeout: vec![60], ..Flows::default() };
        let planned = Flows::planned(action::UPDATE, Some((&batch, 1)), Some((&values, 0)));
        assert_eq!(planned.has, [field::SOURCE | field::TIMEOUT]);
        assert_eq!((planned.family[0], planned.original.source.lo[0], planned.timeout[0]), (10, 4, 60));
        batch::check(&planned).unwrap();
    }
}
