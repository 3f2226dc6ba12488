//! Lists of requests to the kernel: those that a worker proposes, and those that look up entries.

use flowgate_isolation::{Body, Record, Violation};

use super::{LOOKUPS, REASON, REQUEST, REQUESTS, counted, reports};

/// Actions: for each its kind, and the request to the kernel that the worker proposes.
#[derive(Clone, Copy, Debug)]
pub struct ActionList<'a> {
    body: Body<'a>,
    count: u16,
}

/// An action that a worker proposes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProposedAction<'a> {
    /// Its kind ([`flowgate_model::action`]), as the plugin requests it.
    pub kind: u8,
    /// The request, or why there is none.
    pub request: Result<&'a [u8], NoRequest<'a>>,
}

/// Why there is no request for an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRequest<'a> {
    /// The plugin was not granted the action, or a field that it would set.
    NotGranted,
    /// It cannot be encoded.
    Unencodable(&'a str),
}

impl<'a> ActionList<'a> {
    /// Returns the number of actions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count.into()
    }

    /// Returns true if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn read(mut body: Body<'a>) -> Result<Self, Violation> {
        let count = counted(&mut body, REQUESTS)?;
        let list = ActionList { body, count };
        for _ in 0..count {
            read_action(&mut body)?;
        }
        body.end()?;
        Ok(list)
    }

    /// Appends the list to a frame.
    pub(super) fn write(self, record: Record, more: bool) -> Record {
        write_actions(record, self.count, self, more)
    }
}

impl<'a> Iterator for ActionList<'a> {
    type Item = ProposedAction<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1)?;
        read_action(&mut self.body).ok()
    }
}

fn read_action<'a>(body: &mut Body<'a>) -> Result<ProposedAction<'a>, Violation> {
    let kind = body.u8()?;
    let request = match body.u8()? {
        0 => Ok(body.bytes(REQUEST)?),
        1 => Err(NoRequest::NotGranted),
        2 => Err(NoRequest::Unencodable(body.text(REASON)?)),
        other => return Err(Violation::Value(other.into())),
    };
    Ok(ProposedAction { kind, request })
}

fn write_action(record: Record, action: ProposedAction<'_>) -> Record {
    let record = record.u8(action.kind);
    match action.request {
        Ok(request) => record.u8(0).bytes(request),
        Err(NoRequest::NotGranted) => record.u8(1),
        Err(NoRequest::Unencodable(reason)) => record.u8(2).text(reason, REASON),
    }
}

/// Requests that look up entries.
#[derive(Clone, Copy, Debug)]
pub struct RequestList<'a> {
    body: Body<'a>,
    count: u16,
}

impl<'a> RequestList<'a> {
    pub(super) fn read(mut body: Body<'a>) -> Result<Self, Violation> {
        let count = counted(&mut body, LOOKUPS)?;
        let list = RequestList { body, count };
        for _ in 0..count {
            body.bytes(REQUEST)?;
        }
        body.end()?;
        Ok(list)
    }

    /// Appends the list to a frame.
    pub(super) fn write(self, record: Record) -> Record {
        write_look_up(record, self.count, self)
    }
}

impl<'a> Iterator for RequestList<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1)?;
        self.body.bytes(REQUEST).ok()
    }
}

/// Returns the frame of actions.
pub(crate) fn actions(
    frame: impl FnOnce(u16) -> Record,
    plugin: u16,
    actions: &[ProposedAction<'_>],
    more: bool,
) -> Record {
    let count = u16::try_from(actions.len()).unwrap_or(u16::MAX);
    write_actions(frame(reports::ACTIONS).u16(plugin), count, actions.iter().copied(), more)
}

/// Appends this many actions to a frame.
fn write_actions<'a>(
    record: Record,
    count: u16,
    actions: impl Iterator<Item = ProposedAction<'a>>,
    more: bool,
) -> Record {
    let record = actions.fold(record.u16(count), write_action);
    if more { record.more() } else { record }
}

/// Returns the frame of lookups.
pub(crate) fn look_up(frame: impl FnOnce(u16) -> Record, requests: &[&[u8]]) -> Record {
    let count = u16::try_from(requests.len()).unwrap_or(u16::MAX);
    write_look_up(frame(reports::LOOK_UP), count, requests.iter().copied())
}

/// Appends this many lookups to a frame.
fn write_look_up<'a>(record: Record, count: u16, requests: impl Iterator<Item = &'a [u8]>) -> Record {
    requests.fold(record.u16(count), Record::bytes)
}
