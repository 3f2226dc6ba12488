//! What flows and expectations have in common: tables that are decoded, staged and rendered batch by batch.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{executor::Executor, format::Format, source::Datagram, stage::Stage};
use crate::{
    model::{Expectations, Flows},
    netlink::{
        decode::{DecodeError, ExpectationDecoder, FlowDecoder},
        message::{Message, Subject},
    },
    wasm::PluginError,
};

/// A table of rows that a pipeline can carry.
pub trait Table: Default + Sized {
    /// What fills it.
    type Decoder: Send;

    /// Number of rows.
    fn rows(&self) -> usize;

    /// Sets the wall clock of the batch, nanoseconds since 1970.
    fn stamp(&mut self, time: u64);

    /// Empties the table; allocations are kept.
    fn clear(&mut self, decoder: &mut Self::Decoder);

    /// Adds the row of a message, if it is about such a row.
    ///
    /// # Errors
    /// The message is malformed; no row was added.
    fn push(
        &mut self,
        decoder: &mut Self::Decoder,
        message: &Message<'_>,
        from: &Datagram,
        live: bool,
    ) -> Result<(), DecodeError>;

    /// Lets a stage look at the table.
    ///
    /// # Errors
    /// The stage failed.
    fn stage(&mut self, stage: &mut Stage, executor: &mut dyn Executor<Self>) -> Result<(), PluginError>;

    /// Tells a stage that the stream has ended.
    ///
    /// # Errors
    /// The stage failed.
    fn finish(stage: &mut Stage, executor: &mut dyn Executor<Self>) -> Result<(), PluginError>;

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

    /// What the format puts after everything.
    ///
    /// # Errors
    /// The format failed.
    fn end(format: &mut Format) -> Result<Vec<u8>, PluginError>;
}

/// Wall clock, nanoseconds since 1970.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

impl Table for Flows {
    type Decoder = FlowDecoder;

    fn rows(&self) -> usize {
        self.length as usize
    }

    fn stamp(&mut self, time: u64) {
        self.time = time;
    }

    fn clear(&mut self, decoder: &mut FlowDecoder) {
        decoder.clear(self);
    }

    fn push(
        &mut self,
        decoder: &mut FlowDecoder,
        message: &Message<'_>,
        from: &Datagram,
        live: bool,
    ) -> Result<(), DecodeError> {
        match message.subject() {
            Subject::Flow | Subject::FlowDestroyed => decoder.push(self, message, from.arrival(live)),
            _ => Ok(()),
        }
    }

    fn stage(&mut self, stage: &mut Stage, executor: &mut dyn Executor<Self>) -> Result<(), PluginError> {
        stage.flows(self, |plugin, batch, requests| executor.perform(plugin, batch, requests))
    }

    fn finish(stage: &mut Stage, executor: &mut dyn Executor<Self>) -> Result<(), PluginError> {
        stage.finish_flows(|plugin, batch, requests| executor.perform(plugin, batch, requests))
    }

    fn begin(format: &mut Format) -> Result<Vec<u8>, PluginError> {
        format.instance().begin_flow_format()
    }

    fn render(&mut self, format: &mut Format) -> Result<Vec<u8>, PluginError> {
        format.flows(self)
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
        from: &Datagram,
        live: bool,
    ) -> Result<(), DecodeError> {
        match message.subject() {
            Subject::Expectation | Subject::ExpectationDestroyed => decoder.push(self, message, from.arrival(live)),
            _ => Ok(()),
        }
    }

    fn stage(&mut self, stage: &mut Stage, executor: &mut dyn Executor<Self>) -> Result<(), PluginError> {
        stage.expectations(self, |plugin, batch, requests| executor.perform(plugin, batch, requests))
    }

    fn finish(stage: &mut Stage, executor: &mut dyn Executor<Self>) -> Result<(), PluginError> {
        stage.finish_expectations(|plugin, batch, requests| executor.perform(plugin, batch, requests))
    }

    fn begin(format: &mut Format) -> Result<Vec<u8>, PluginError> {
        format.instance().begin_expectation_format()
    }

    fn render(&mut self, format: &mut Format) -> Result<Vec<u8>, PluginError> {
        format.expectations(self)
    }

    fn end(format: &mut Format) -> Result<Vec<u8>, PluginError> {
        format.instance().finish_expectation_format()
    }
}
