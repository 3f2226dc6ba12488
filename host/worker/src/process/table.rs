//! The kernel's table, as the owner shows it.

use std::sync::Arc;

use flowgate_isolation::Violation;
use flowgate_model::Flows;
use flowgate_netlink::{
    Message, Messages, Request,
    source::{Barriers, Datagram, Source, SourceError},
};
use flowgate_pipeline::{entries::Entries as _, resync::Kernel};

use super::owner::Owner;
use crate::protocol::{LOOKUPS, Report, kind, look_up, split_at_frame};

/// The table.
pub(super) struct RemoteTable(pub Arc<Owner>);

impl Kernel for RemoteTable {
    fn list(&mut self) -> Result<Box<dyn Source>, SourceError> {
        let number = self.0.open_listing().ok_or(SourceError::Kernel(libc::EBUSY))?;
        let mut listing = RemoteListing { owner: self.0.clone(), number, first: None, ended: false };
        let mut first = Datagram::new();
        listing.ask(&Report::List(number), &mut first)?;
        listing.first = Some(first);
        Ok(Box::new(listing))
    }

    fn look_up(&mut self, flows: &Flows, found: &mut dyn FnMut(&Message<'_>)) -> Result<(), SourceError> {
        let requests: Vec<Request> = (0..flows.length as usize).filter_map(|row| flows.lookup(row).ok()).collect();
        let mut requests: &[Request] = &requests;
        while !requests.is_empty() {
            let (some, rest) = split_at_frame(requests, LOOKUPS, |request| request.as_bytes().len() + 4);
            let bytes: Vec<&[u8]> = some.iter().map(Request::as_bytes).collect();
            self.0.send(|link| look_up(|kind| link.frame(kind), &bytes)).map_err(gone)?;
            while self.0.answer(|frame| match frame.kind {
                kind::ENTRIES => {
                    Messages::new(frame.body.rest()).map_while(Result::ok).for_each(|message| found(&message));
                    Ok(true)
                }
                kind::END => Ok(false),
                other => Err(Violation::Kind(other)),
            })? {}
            requests = rest;
        }
        Ok(())
    }
}

/// A listing.
struct RemoteListing {
    owner: Arc<Owner>,
    number: u8,
    first: Option<Datagram>,
    ended: bool,
}

impl RemoteListing {
    /// Asks for entries, and fills them in; none at the end.
    fn ask(&mut self, question: &Report<'_>, datagram: &mut Datagram) -> Result<(), SourceError> {
        datagram.clear();
        self.owner.send(|link| question.write(|kind| link.frame(kind))).map_err(gone)?;
        self.ended = self.owner.answer(|frame| match frame.kind {
            kind::ENTRIES => {
                datagram.fill(frame.body.rest());
                Ok(false)
            }
            kind::END => Ok(true),
            other => Err(Violation::Kind(other)),
        })?;
        Ok(())
    }
}

impl Source for RemoteListing {
    fn next(&mut self, datagram: &mut Datagram) -> Result<bool, SourceError> {
        match self.first.take() {
            Some(first) => *datagram = first,
            None if self.ended => datagram.clear(),
            None => self.ask(&Report::Next(self.number), datagram)?,
        }
        Ok(!self.ended)
    }
}

impl Drop for RemoteListing {
    fn drop(&mut self) {
        self.owner.close_listing(self.number);
    }
}

/// Inserts barriers into the stream of events.
pub(super) struct RemoteBarriers(pub Arc<Owner>);

impl Barriers for RemoteBarriers {
    fn insert(&mut self) -> Result<u32, SourceError> {
        self.0.send(|link| Report::Barrier.write(|kind| link.frame(kind))).map_err(gone)?;
        self.0.answer(|frame| match frame.kind {
            kind::BARRIER => { frame.body }.u32(),
            other => Err(Violation::Kind(other)),
        })
    }
}

/// Returns the error of an owner that has ended.
fn gone(error: std::io::Error) -> SourceError {
    SourceError::Other { errno: error.raw_os_error().unwrap_or(libc::EPIPE), error: Box::new(error) }
}
