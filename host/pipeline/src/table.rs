//! What flows and expectations have in common: tables that are decoded, staged and rendered batch by batch.

use std::ops::Range;

use super::{format::Format, resync::Resync};
use flowgate_model::batch;
use flowgate_model::{Expectations, Flows, event, expectation_field, field};
use flowgate_netlink::process_names::ProcessNames;
use flowgate_netlink::{
    decode::{Arrival, DecodeError, ExpectationDecoder, FlowDecoder},
    message::{Message, MessageKind},
};
use flowgate_runtime::PluginError;

/// A table of rows that a pipeline can carry.
pub trait Table: Default + Sized {
    /// What fills it.
    type Decoder: Send;

    /// Number of rows.
    fn rows(&self) -> usize;

    /// Number of rows that are entries, and not word of a gap.
    fn entries(&self) -> usize;

    /// What happened to each row ([`event`]); empty where no row is an event.
    fn kinds(&self) -> &[u8];

    /// Sets the wall clock of the batch, nanoseconds since 1970.
    fn stamp(&mut self, time: u64);

    /// Empties the table; allocations are kept.
    fn clear(&mut self, decoder: &mut Self::Decoder);

    /// Adds the row of a message, if it is about such a row.
    ///
    /// # Errors
    /// The message is malformed; no row was added.
    fn push(&mut self, decoder: &mut Self::Decoder, message: &Message<'_>, arrival: Arrival)
    -> Result<(), DecodeError>;

    /// Adds a row that says that events were lost before it, where the table has such rows.
    ///
    /// # Errors
    /// The batch is full.
    fn push_gap(&mut self, decoder: &mut Self::Decoder, received: u64, lost: Option<u32>) -> Result<(), DecodeError>;

    /// Has `resync` take in what the rows say, and take out those that nobody asked for.
    fn follow(&mut self, resync: &mut Resync<'_>);

    /// Fills the table, which is empty, with events that make up for lost ones; `false` if there are none.
    fn made_up(&mut self, decoder: &mut Self::Decoder, resync: &mut Resync<'_>, most: usize) -> bool;

    /// Adds the names of the programs that caused events, and of the network namespaces of events.
    fn name_programs(&mut self, programs: &mut ProcessNames);

    /// What the format puts before everything.
    ///
    /// # Errors
    /// The format failed.
    fn begin(format: &mut Format) -> Result<Vec<u8>, PluginError>;

    /// The table as bytes.
    ///
    /// # Errors
    /// The format failed.
    fn render(&mut self, format: &mut Format) -> Result<Vec<u8>, PluginError>;

    /// How to take the table apart, where it is too much for one call of a format; none if it is not.
    fn parts(&self) -> Option<Vec<Range<usize>>>;

    /// Some of its rows.
    fn part(&self, range: Range<usize>) -> Self;

    /// What the format puts after everything.
    ///
    /// # Errors
    /// The format failed.
    fn end(format: &mut Format) -> Result<Vec<u8>, PluginError>;
}

impl Table for Flows {
    type Decoder = FlowDecoder;

    fn rows(&self) -> usize {
        self.length as usize
    }

    fn entries(&self) -> usize {
        let gaps =
            self.events.as_ref().map_or(0, |events| events.kind.iter().filter(|&&kind| kind == event::GAP).count());
        self.rows().saturating_sub(gaps)
    }

    fn kinds(&self) -> &[u8] {
        self.events.as_ref().map(|events| events.kind.as_slice()).unwrap_or_default()
    }

    fn stamp(&mut self, time: u64) {
        self.time = time;
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

    fn follow(&mut self, resync: &mut Resync<'_>) {
        resync.follow(self);
    }

    fn made_up(&mut self, decoder: &mut FlowDecoder, resync: &mut Resync<'_>, most: usize) -> bool {
        resync.tell(decoder, self, most)
    }

    fn name_programs(&mut self, programs: &mut ProcessNames) {
        let Some(events) = &mut self.events else { return };
        for (row, has) in self.has.iter_mut().enumerate() {
            // Columns that nobody reads are empty.
            let port = events.port_id.get(row).copied().unwrap_or_default();
            let namespace = if *has & field::NAMESPACE != 0 { events.namespace_id.get(row).copied() } else { None };
            if let Some(name) = namespace.and_then(|id| programs.namespaces.name(id)) {
                batch::push_sparse(&mut events.namespace_name, row, name);
                *has |= field::NAMESPACE_NAME;
            }
            if let Some(name) = programs.name(namespace, port) {
                batch::push_sparse(&mut events.program, row, name);
                *has |= field::PROGRAM;
            }
        }
    }

    fn begin(format: &mut Format) -> Result<Vec<u8>, PluginError> {
        format.instance().begin_flow_format()
    }

    fn render(&mut self, format: &mut Format) -> Result<Vec<u8>, PluginError> {
        format.flows(self)
    }

    fn parts(&self) -> Option<Vec<Range<usize>>> {
        batch::parts(self)
    }

    fn part(&self, range: Range<usize>) -> Self {
        batch::part(self, range)
    }

    fn end(format: &mut Format) -> Result<Vec<u8>, PluginError> {
        format.instance().finish_flow_format()
    }
}

impl Table for Expectations {
    type Decoder = ExpectationDecoder;

    fn rows(&self) -> usize {
        self.length as usize
    }

    fn entries(&self) -> usize {
        self.rows()
    }

    fn kinds(&self) -> &[u8] {
        &self.event
    }

    fn stamp(&mut self, time: u64) {
        self.time = time;
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

    /// Resyncs are about flows.
    fn follow(&mut self, _resync: &mut Resync<'_>) {}

    /// Resyncs are about flows.
    fn made_up(&mut self, _decoder: &mut ExpectationDecoder, _resync: &mut Resync<'_>, _most: usize) -> bool {
        false
    }

    fn name_programs(&mut self, programs: &mut ProcessNames) {
        for (row, (&port, has)) in self.port_id.iter().zip(&mut self.has).enumerate() {
            if let Some(name) = programs.name(None, port) {
                batch::push_sparse(&mut self.program, row, name);
                *has |= expectation_field::PROGRAM;
            }
        }
    }

    fn begin(format: &mut Format) -> Result<Vec<u8>, PluginError> {
        format.instance().begin_expectation_format()
    }

    fn render(&mut self, format: &mut Format) -> Result<Vec<u8>, PluginError> {
        format.expectations(self)
    }

    fn parts(&self) -> Option<Vec<Range<usize>>> {
        batch::expectation_parts(self)
    }

    fn part(&self, range: Range<usize>) -> Self {
        batch::expectation_part(self, range)
    }

    fn end(format: &mut Format) -> Result<Vec<u8>, PluginError> {
        format.instance().finish_expectation_format()
    }
}
