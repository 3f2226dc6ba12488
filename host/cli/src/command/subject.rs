//! What a command is about: flows or expectations. What differs between the two, in one place.

use flowgate_model::{Expectations, Flows, Selection};
use flowgate_netlink::{
    DumpFilter, DumpKind, EncodeError, ExpectationEntry, FlowEntry, Request,
    decode::{ExpectationDecoder, FlowDecoder},
    encode::{expectations, flows},
    group,
};
use flowgate_pipeline::{executor::Actionable, loader::Role, stage::Staged};
use flowgate_syntax::{EventGroups, Settings};

/// A table that commands are about.
pub(super) trait Subject: Actionable + Staged {
    /// The role of stages.
    const STAGE: Role;
    /// The role of formats.
    const FORMAT: Role;

    /// A decoder that fills these fields.
    fn decoder(fields: u64) -> Self::Decoder;

    /// The row that the command line describes.
    fn given(settings: &Settings) -> Self;

    /// The request for the entry that the command line names.
    fn lookup(settings: &Settings) -> Result<Request, EncodeError>;

    /// The filters of the dumps, one after the other, that have what is wanted.
    fn filters(settings: &Settings, table: DumpKind) -> Vec<DumpFilter>;

    /// The groups of events.
    fn groups(settings: &Settings) -> u32;

    /// The request that empties the table of both families. `family` is 0, or one after the other where the kernel refuses that.
    fn flush(family: u8) -> Request;

    /// The selector, if it selects anything away.
    fn selection(settings: &Settings) -> Option<&Selection>;
}

impl Subject for Flows {
    const STAGE: Role = Role::FlowStage;
    const FORMAT: Role = Role::FlowFormat;

    fn decoder(fields: u64) -> FlowDecoder {
        FlowDecoder::new(fields)
    }

    fn given(settings: &Settings) -> Self {
        settings.template.clone()
    }

    fn lookup(settings: &Settings) -> Result<Request, EncodeError> {
        flows::get(FlowEntry::new(&settings.template, 0)?)
    }

    fn filters(settings: &Settings, table: DumpKind) -> Vec<DumpFilter> {
        match table {
            DumpKind::FLOWS => DumpFilter::plan_dumps(&settings.selection).0,
            DumpKind::FlowsAndZero => vec![DumpFilter::plan(&settings.selection).filter],
            _ => vec![DumpFilter::family_only(settings.family.unwrap_or(0))],
        }
    }

    fn groups(settings: &Settings) -> u32 {
        let EventGroups { new, update, destroy } = settings.events;
        [(new, group::NEW), (update, group::UPDATE), (destroy, group::DESTROY)]
            .iter()
            .filter(|(wanted, _)| *wanted)
            .fold(0, |groups, (_, group)| groups | group)
    }

    fn flush(family: u8) -> Request {
        flows::flush(family)
    }

    fn selection(settings: &Settings) -> Option<&Selection> {
        (settings.selection != Selection::default()).then_some(&settings.selection)
    }
}

impl Subject for Expectations {
    const STAGE: Role = Role::ExpectationStage;
    const FORMAT: Role = Role::ExpectationFormat;

    fn decoder(_fields: u64) -> ExpectationDecoder {
        ExpectationDecoder::new()
    }

    fn given(settings: &Settings) -> Self {
        settings.expectation.clone()
    }

    fn lookup(settings: &Settings) -> Result<Request, EncodeError> {
        expectations::get(ExpectationEntry::new(&settings.expectation, 0)?)
    }

    fn filters(settings: &Settings, _table: DumpKind) -> Vec<DumpFilter> {
        vec![DumpFilter::family_only(settings.family.unwrap_or(0))]
    }

    fn groups(_settings: &Settings) -> u32 {
        group::EXPECTATIONS
    }

    fn flush(family: u8) -> Request {
        expectations::flush(family)
    }

    fn selection(_settings: &Settings) -> Option<&Selection> {
        None
    }
}
