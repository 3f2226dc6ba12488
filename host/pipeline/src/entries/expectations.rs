//! Expectations as entries of a pipeline. The kernel has no ticks, look-backs, resyncs, changes or merges of them.

use std::ops::Range;

use super::{Batch, Entries, NO_ANNOTATIONS, NO_ROW, RowOf};
use crate::{
    outcome::{RecordedOutcomes, StageOutcome},
    role::Role,
};
use flowgate_model::{
    Annotations, Expectations, Flows, action,
    batch::{self, MergedAnnotations},
    expectation_field,
    grants::Grants,
};
use flowgate_netlink::{
    Request,
    decode::{Arrival, DecodeError, ExpectationDecoder},
    encode::{EncodeError, ExpectationEntry, expectations},
    message::{Message, MessageKind},
    process_names::ProcessNames,
};
use flowgate_runtime::{Instance, PluginError};

fn entry((batch, row): RowOf<'_, Expectations>) -> Result<ExpectationEntry<'_>, EncodeError> {
    ExpectationEntry::new(batch, row)
}

impl Entries for Expectations {
    type Decoder = ExpectationDecoder;

    const STAGE: Role = Role::ExpectationStage;
    const FORMAT: Role = Role::ExpectationFormat;
    // They are few, so that batches of them need not be joined.
    const PRINTS_BATCHES: bool = false;

    fn take(batch: &mut Batch) -> Option<Self> {
        if let Batch::Expectations(rows) = batch { Some(std::mem::take(rows)) } else { None }
    }

    fn rows(&self) -> usize {
        self.length as usize
    }

    fn count_entries(&self) -> usize {
        self.rows()
    }

    fn kinds(&self) -> &[u8] {
        &self.event
    }

    fn stamp(&mut self, time: u64) {
        self.time = time;
    }

    fn pick(&self, row: usize) -> Self {
        batch::copy_expectation_row(self, row)
    }

    fn append(&mut self, rows: &Self) {
        *self = rows.clone();
    }

    fn retain(&mut self, verdicts: &[u8]) {
        batch::retain_expectations(self, verdicts);
    }

    fn gaps(&self) -> Vec<u8> {
        vec![0; self.length as usize]
    }

    fn add_names(&mut self, names: &mut ProcessNames) {
        for (row, (&port, has)) in self.port_id.iter().zip(&mut self.has).enumerate() {
            if let Some(name) = names.name(None, port) {
                batch::push_sparse(&mut self.program, row, name);
                *has |= expectation_field::PROGRAM;
            }
        }
    }

    fn decoder(_fields: u64) -> ExpectationDecoder {
        ExpectationDecoder::new()
    }

    fn clear(&mut self, decoder: &mut ExpectationDecoder) {
        decoder.clear(self);
    }

    fn push(
        &mut self,
        decoder: &mut ExpectationDecoder,
        message: &Message<'_>,
        arrival: Arrival,
    ) -> Result<(), DecodeError> {
        match message.kind() {
            MessageKind::Expectation | MessageKind::ExpectationDestroyed => decoder.push(self, message, arrival),
            _ => Ok(()),
        }
    }

    fn push_gap(
        &mut self,
        _decoder: &mut ExpectationDecoder,
        _received: u64,
        _lost: Option<u32>,
    ) -> Result<(), DecodeError> {
        Ok(())
    }

    fn process(
        &mut self,
        instance: &mut Instance,
        _reads: u64,
        _hidden: &mut Flows,
    ) -> Result<StageOutcome<Self>, PluginError> {
        instance.process_expectations(self).map(StageOutcome::from)
    }

    fn finish(instance: &mut Instance) -> Result<StageOutcome<Self>, PluginError> {
        instance.finish_expectations().map(StageOutcome::from)
    }

    fn check(&self) -> Result<(), String> {
        batch::check_expectations(self)
    }

    fn annotations(&self) -> &Annotations {
        self.annotations.as_ref().unwrap_or(&NO_ANNOTATIONS)
    }

    fn annotate(&mut self, annotated: MergedAnnotations) {
        batch::set_expectation_annotations(self, annotated);
    }

    fn recorded(outcomes: &mut RecordedOutcomes) -> &mut Vec<StageOutcome<Self>> {
        &mut outcomes.expectations
    }

    fn request(
        kind: u8,
        target: Option<RowOf<'_, Self>>,
        values: Option<RowOf<'_, Self>>,
    ) -> Result<Request, EncodeError> {
        match kind {
            action::DELETE => expectations::delete(target.or(values).map(entry).ok_or(NO_ROW)??),
            _ => expectations::create(values.or(target).map(entry).ok_or(NO_ROW)??, kind == action::CREATE),
        }
    }

    fn lookup(&self, row: usize) -> Result<Request, EncodeError> {
        expectations::get(ExpectationEntry::new(self, row)?)
    }

    fn is_granted(
        grants: &Grants,
        kind: u8,
        _target: Option<RowOf<'_, Self>>,
        _values: Option<RowOf<'_, Self>>,
    ) -> bool {
        grants.allow_expectation(kind)
    }

    fn planned(_kind: u8, target: Option<RowOf<'_, Self>>, values: Option<RowOf<'_, Self>>) -> Self {
        target.or(values).map_or_else(Self::default, |(rows, row)| batch::copy_expectation_row(rows, row))
    }

    fn begin_format(instance: &mut Instance) -> Result<Vec<u8>, PluginError> {
        instance.begin_expectation_format()
    }

    fn render(&mut self, instance: &mut Instance, _reads: u64, _hidden: &mut Flows) -> Result<Vec<u8>, PluginError> {
        instance.render_expectations(self)
    }

    fn end_format(instance: &mut Instance) -> Result<Vec<u8>, PluginError> {
        instance.finish_expectation_format()
    }

    fn parts(&self) -> Option<Vec<Range<usize>>> {
        batch::expectation_ranges(self)
    }

    fn part(&self, range: Range<usize>) -> Self {
        batch::copy_expectation_rows(self, range)
    }
}
