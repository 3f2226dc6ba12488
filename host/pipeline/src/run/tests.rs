//! The division of a dump's rows into batches.

use std::{cell::RefCell, rc::Rc};

use super::*;
use flowgate_model::Flows;
use flowgate_netlink::{decode::FlowDecoder, source::Datagram};
use flowgate_netlink_testing::{attribute, message, tuple};

/// Number of flows in each datagram.
const FLOWS: u32 = 100;

/// A dump of this many datagrams.
struct Dump(u32);

impl Source for Dump {
    fn next(&mut self, datagram: &mut Datagram) -> Result<bool, SourceError> {
        let Some(left) = self.0.checked_sub(1) else { return Ok(false) };
        self.0 = left;
        datagram.clear();
        let tuple = tuple(1, [&[10, 0, 0, 1], &[10, 0, 0, 2]], 17, [1000, 53]);
        let flows = (0..FLOWS).map(|id| message(0x100, 2, 0, 0, 2, &[tuple.clone(), attribute(12, &id.to_be_bytes())]));
        datagram.fill(&flows.collect::<Vec<_>>().concat());
        Ok(true)
    }
}

/// Records the number of rows of each batch.
#[derive(Clone, Default)]
struct Sizes(Rc<RefCell<Vec<usize>>>);

impl Consumer<Flows> for Sizes {
    fn take(&mut self, batch: &mut Flows, _: &mut dyn Sink) -> Result<(), RunError> {
        self.0.borrow_mut().push(batch.length as usize);
        Ok(())
    }
}

/// A sink that discards everything.
struct Nowhere;

impl Sink for Nowhere {
    fn write(&mut self, _: &[u8]) -> Result<(), SinkError> {
        panic!("nothing is to be written")
    }
}

/// Returns the sizes of the batches of this many datagrams.
fn sizes(datagrams: u32, early_rows: usize) -> Vec<usize> {
    let sizes = Sizes::default();
    let mut nowhere = Nowhere;
    let spec = Spec { batch: 1024, ..Spec::flows() };
    let executor = Executor::new(Shows::Entries, FlowDecoder::new(0));
    let engine = PluginEngine::new(None).unwrap();
    let pipeline = Pipeline::new(spec, Vec::new(), executor, engine, &mut nowhere)
        .with_consumer(u64::MAX, Box::new(sizes.clone()))
        .with_warnings(Warnings::new(|warning| panic!("{warning}")))
        .detached();
    let mut pipeline = Pipeline { early_rows, ..pipeline };
    let mut tally = Tally::default();
    pipeline.run_on(&mut Dump(datagrams), &mut tally).unwrap();
    drop(pipeline);
    assert_eq!(tally.shown, u64::from(datagrams * FLOWS));
    sizes.0.take()
}

#[test]
fn what_one_thread_does_alone_comes_in_small_batches() {
    assert_eq!(sizes(7, EARLY_ROWS), [256, 256, 188]);
    // 800 rows are read before the second thread is started.
    assert_eq!(sizes(30, EARLY_ROWS), [256, 256, 256, 1024, 1024, 184]);
}

#[test]
fn what_goes_to_plugins_of_users_comes_in_whole_batches() {
    assert_eq!(sizes(7, 1024), [700]);
    assert_eq!(sizes(30, 1024), [1024, 1024, 952]);
}
