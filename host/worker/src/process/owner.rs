//! The owner of the worker, as the worker sees it: it receives reports and answers questions.

use std::{
    io,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use flowgate_isolation::{Frame, Record, Violation};
use flowgate_netlink::source::SourceError;
use flowgate_pipeline::loader::ServiceReceiver;

use crate::{
    Link, LinkError,
    protocol::{BYTES, KEY, LISTINGS, Report, VALUE, kind, parts},
};

/// The other end of the channel for calls.
#[derive(Debug)]
pub(super) struct Owner {
    calls: Mutex<Link>,
    /// Names of the plugins, in order.
    plugins: OnceLock<Vec<String>>,
    /// Output that has not been sent.
    output: Mutex<Vec<u8>>,
    /// True for the numbers of open listings.
    listings: Mutex<[bool; LISTINGS as usize]>,
}

impl Owner {
    pub(super) fn new(calls: Link) -> std::sync::Arc<Self> {
        std::sync::Arc::new(Owner {
            calls: Mutex::new(calls),
            plugins: OnceLock::new(),
            output: Mutex::default(),
            listings: Mutex::default(),
        })
    }

    /// Sets the names by which plugins are known in services.
    pub(super) fn name_plugins(&self, names: Vec<String>) {
        // There is one setup.
        let _ = self.plugins.set(names);
    }

    fn lock(&self) -> MutexGuard<'_, Link> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a report. If the owner has ended, so does the worker: the end of the stream of events says so.
    pub(super) fn report(&self, report: &Report<'_>) {
        let _ = self.send(|link| report.write(|kind| link.frame(kind)));
    }

    fn output(&self) -> MutexGuard<'_, Vec<u8>> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes output, which is gathered until there is a frame of it, or [`Owner::report_done`] or [`Owner::flush`] is
    /// called.
    pub(super) fn write(&self, bytes: &[u8]) {
        let mut output = self.output();
        output.extend_from_slice(bytes);
        let mut rest = output.as_slice();
        while let Some(most) = rest.get(..BYTES) {
            // Whole lines, so that the owner drops whole ones.
            let length = most.iter().rposition(|&byte| byte == b'\n').map_or(BYTES, |last| last + 1);
            let (part, left) = rest.split_at(length);
            self.report(&Report::Output(part));
            rest = left;
        }
        let sent = output.len() - rest.len();
        output.drain(..sent);
    }

    /// Returns true if output has been gathered.
    pub(super) fn has_output(&self) -> bool {
        !self.output().is_empty()
    }

    /// Sends the gathered output.
    pub(super) fn flush(&self) {
        let mut output = self.output();
        if !output.is_empty() {
            self.report(&Report::Output(&output));
            output.clear();
        }
    }

    /// Reports how far the stream of events has been processed, with the gathered output.
    pub(super) fn report_done(&self, frames: u64, resyncs: u64, shown: u64) {
        let mut output = self.output();
        self.report(&Report::Done { frames, resyncs, shown, output: &output });
        output.clear();
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// The owner has ended.
    pub(super) fn send(&self, frame: impl FnOnce(&Link) -> Record) -> io::Result<()> {
        let mut link = self.lock();
        let frame = frame(&link);
        link.send(frame)
    }

    /// Receives the next frame of an answer, and reads it.
    ///
    /// # Errors
    /// The owner has ended, or what it sends makes no sense.
    pub(super) fn answer<R>(&self, read: impl FnOnce(Frame<'_>) -> Result<R, Violation>) -> Result<R, SourceError> {
        let failed = |error: LinkError| SourceError::Other { errno: libc::EPIPE, error: Box::new(error) };
        let mut link = self.lock();
        let frame = link.receive().map_err(failed)?;
        if frame.kind == kind::FAILED {
            let errno = { frame.body }.u32().map_err(|violation| failed(violation.into()))?;
            return Err(SourceError::Kernel(i32::try_from(errno).unwrap_or(libc::EIO)));
        }
        read(frame).map_err(|violation| failed(violation.into()))
    }

    /// Waits until the worker may begin; returns false if it may not. `change` receives changes of states until then:
    /// the plugin's name, the key, and the value unless the entry has been removed.
    pub(super) fn may_begin(&self, change: impl Fn(&str, &[u8], Option<Vec<u8>>)) -> bool {
        let mut part = Vec::new();
        loop {
            let begun = self.answer(|frame| {
                let mut body = frame.body;
                match frame.kind {
                    kind::BEGIN => return Ok(true),
                    kind::STATE => {}
                    other => return Err(Violation::Kind(other)),
                }
                let (plugin, key) = (body.u16()?, body.bytes(KEY)?);
                let is_set = body.bool()?;
                if is_set {
                    part.extend_from_slice(body.bytes(VALUE)?);
                }
                let name = self.plugins.get().and_then(|names| names.get(usize::from(plugin)));
                if let Some(name) = name.filter(|_| !frame.more) {
                    change(name, key, is_set.then(|| std::mem::take(&mut part)));
                }
                Ok(false)
            });
            match begun {
                Ok(true) => return true,
                Ok(false) => {}
                Err(_) => return false,
            }
        }
    }

    /// Returns the index of a plugin.
    fn plugin(&self, name: &str) -> Option<u16> {
        let index = self.plugins.get()?.iter().position(|plugin| plugin == name)?;
        u16::try_from(index).ok()
    }

    /// Returns the number of a listing that is not open, and marks it as open.
    pub(super) fn open_listing(&self) -> Option<u8> {
        let mut listings = self.listings.lock().unwrap_or_else(PoisonError::into_inner);
        let index = listings.iter().position(|open| !open)?;
        *listings.get_mut(index)? = true;
        u8::try_from(index).ok()
    }

    /// Marks a listing as closed.
    pub(super) fn close_listing(&self, number: u8) {
        let mut listings = self.listings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = listings.get_mut(usize::from(number)) {
            *open = false;
        }
    }
}

impl ServiceReceiver for Owner {
    fn log(&self, plugin: &str, level: u8, message: &str) {
        if let Some(plugin) = self.plugin(plugin) {
            self.report(&Report::Log { plugin, level, message });
        }
    }

    fn changed(&self, plugin: &str, key: &[u8], value: Option<&[u8]>) {
        let Some(plugin) = self.plugin(plugin) else { return };
        let Some(value) = value else {
            return self.report(&Report::State { plugin, key, value: None, more: false });
        };
        for (part, more) in parts(value) {
            self.report(&Report::State { plugin, key, value: Some(part), more });
        }
    }
}
