//! Offers the table to stages that look back.

use super::{
    Pipeline, RunError,
    decode::{Malformed, skipped},
};
use crate::{entries::Entries, stage::Reason};
use flowgate_base::clock::now;
use flowgate_netlink::{
    message::Messages,
    source::{Datagram, Source, SourceError},
};

/// Opens a dump of the table.
pub type LookBack<'a> = Box<dyn FnMut() -> Result<Box<dyn Source>, SourceError> + 'a>;

impl<T: Entries> Pipeline<'_, T> {
    /// Offers the table to the stages that look back, for this reason or because their instance is new.
    pub(super) fn look_back(&mut self, reason: Option<Reason>) -> Result<(), RunError> {
        let Some(open) = &mut self.look_back else { return Ok(()) };
        let reasons: Vec<Option<Reason>> = self.stages.iter().map(|stage| stage.wants_look_back(reason)).collect();
        if reasons.iter().all(Option::is_none) {
            return Ok(());
        }
        if reason == Some(Reason::Gap) && self.resync.is_none() {
            self.counters.resync();
        }
        let mut source = open()?;
        for (stage, reason) in self.stages.iter_mut().zip(&reasons) {
            if let Some(reason) = reason {
                stage.begin_look_back(*reason, &mut self.executor)?;
            }
        }
        let mut part = T::default();
        let mut datagram = Datagram::new();
        loop {
            let more = source.next(&mut datagram)?;
            if more {
                for message in Messages::new(datagram.bytes()) {
                    let pushed = message
                        .map_err(Malformed::from)
                        .and_then(|message| Ok(part.push(&mut self.decoder, &message, datagram.arrival(false, 0))?));
                    if let Err(malformed) = pushed {
                        self.warnings.line(&skipped(&malformed));
                    }
                }
            }
            if part.rows() >= self.spec.batch || !more {
                self.offer(&mut part, &reasons)?;
                part.clear(&mut self.decoder);
            }
            if !more {
                break;
            }
        }
        for (stage, _) in self.stages.iter_mut().zip(&reasons).filter(|(_, reason)| reason.is_some()) {
            stage.end_look_back(&mut self.executor)?;
        }
        self.settle()
    }

    /// Offers a part of the table, filtered by the command's selector, to the stages that look back.
    fn offer(&mut self, part: &mut T, reasons: &[Option<Reason>]) -> Result<(), RunError> {
        part.stamp(now());
        for stage in self.stages.iter_mut().filter(|stage| stage.selects()) {
            stage.batch(part, &mut self.executor)?;
        }
        for (stage, _) in self.stages.iter_mut().zip(reasons).filter(|(_, reason)| reason.is_some()) {
            stage.look_back(part, &mut self.executor)?;
        }
        Ok(())
    }
}
