//! The end of a tenant's thread: with its pipeline, or by a bug of the program, which affects that tenant only.

use std::{
    any::Any,
    panic::{self, AssertUnwindSafe},
    sync::{PoisonError, atomic::Ordering},
};

use super::tenant::TenantRecord;
use crate::command::report::CommandError;
use flowgate_base::Warnings;
use flowgate_base::text::{clean, of_panic};
use flowgate_config::Diagnostic;
use flowgate_policy::{audit::Audit, delivery::Queue};

/// The objects that learn of the end of a tenant.
pub(super) struct TenantEnd<'a> {
    /// Name of the tenant.
    pub name: &'a str,
    pub record: &'a TenantRecord,
    pub queue: &'a Queue,
    pub audit: &'a Audit,
    /// Prints messages about the tenant.
    pub warnings: Warnings,
}

impl TenantEnd<'_> {
    /// Does the work of a tenant's thread. If it fails or panics, the tenant has ended: the reason is printed and
    /// recorded, and its queue is closed. Before the tenant begins, the error is passed to `report` only.
    pub(super) fn of(
        self,
        report: &dyn Fn(Vec<Diagnostic>),
        mistake: impl FnOnce(String) -> Diagnostic,
        work: impl FnOnce() -> Result<(), CommandError>,
    ) {
        // The state of the work is dropped with its thread, and the state that it shares is behind locks that tolerate
        // a panic.
        let done = panic::catch_unwind(AssertUnwindSafe(work));
        if let Err(error) = done.unwrap_or_else(|payload| Err(panicked(payload.as_ref()))) {
            let reason = clean(&error.to_string());
            if *self.record.go.lock().unwrap_or_else(PoisonError::into_inner) == Some(true) {
                self.warnings.line(&format!("WARNING: the tenant has ended: {reason}"));
                self.audit.service(self.record.generation, self.name, "ended", Some(reason.clone()));
                *self.record.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
                self.queue.end();
            } else {
                // The thread that waits for the tenant decides about the error.
                report(vec![mistake(reason)]);
            }
        }
        self.record.finished.store(true, Ordering::Release);
    }
}

fn panicked(payload: &(dyn Any + Send)) -> CommandError {
    let text = of_panic(payload);
    CommandError::Tenant(format!("its thread panicked, which is a fault of flowgate; please report it: {text}"))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Returns the record of a tenant afterwards, the errors passed to `report`, the audit, and the printed messages.
    fn after(
        go: Option<bool>,
        work: impl FnOnce() -> Result<(), CommandError>,
    ) -> (TenantRecord, Vec<String>, String, String) {
        let (kept, said, reported) = <(Arc<Mutex<Vec<u8>>>, Arc<Mutex<String>>, Mutex<Vec<String>>)>::default();
        let mut record = TenantRecord::default();
        record.generation = 3;
        *record.go.lock().unwrap() = go;
        let (queue, lines) = (Queue::new(1000), said.clone());
        queue.push(b"waits", &[1], 1);
        let audit = Audit::to(Box::new(kept.clone()), Warnings::ignored());
        let warnings = Warnings::new(move |line| lines.lock().unwrap().push_str(line));
        let mistake = |message| Diagnostic { path: "p.toml".into(), line: 1, column: 1, message };
        let ending = TenantEnd { name: "blue", record: &record, queue: &queue, audit: &audit, warnings };
        ending.of(
            &|mistakes| reported.lock().unwrap().extend(mistakes.into_iter().map(|it| it.message)),
            mistake,
            work,
        );
        assert!(record.finished.load(Ordering::Acquire));
        let ended = record.ended.lock().unwrap().is_some();
        assert_eq!(queue.counts().waiting, if ended { 0 } else { 5 }, "nothing waits for who has ended");
        let audit = String::from_utf8(kept.lock().unwrap().clone()).unwrap();
        let said = said.lock().unwrap().clone();
        (record, reported.into_inner().unwrap(), audit, said)
    }

    #[test]
    #[allow(clippy::panic, reason = "that is what is tested")]
    fn a_panic_ends_the_tenant_and_says_so() {
        let (record, reported, audit, said) = after(Some(true), || panic!("at \x1b[31m {}", 7));
        let reason = record.ended.lock().unwrap().clone().unwrap();
        assert_eq!(reason, "its thread panicked, which is a fault of flowgate; please report it: at \\u{1b}[31m 7");
        assert!(reported.is_empty() && said.contains("the tenant has ended: its thread panicked"), "{said}");
        let line: serde_json::Value = serde_json::from_str(&audit).unwrap();
        assert_eq!(
            (&line["action"], &line["tenant"], &line["generation"]),
            (&"ended".into(), &"blue".into(), &3.into())
        );
        // The error of a tenant that has not begun goes to the thread that waits for it.
        for go in [None, Some(false)] {
            let (record, reported, audit, said) = after(go, || panic!("early"));
            assert!(record.ended.lock().unwrap().is_none() && audit.is_empty() && said.is_empty());
            assert!(reported.len() == 1 && reported[0].ends_with("please report it: early"), "{reported:?}");
        }
    }

    #[test]
    fn a_failure_ends_the_tenant_and_an_end_is_none() {
        let (record, ..) = after(Some(true), || Err(CommandError::Tenant("disk full".into())));
        assert_eq!(record.ended.lock().unwrap().as_deref(), Some("disk full"));
        let (record, reported, audit, said) = after(Some(true), || Ok(()));
        assert!(record.ended.lock().unwrap().is_none() && reported.is_empty() && audit.is_empty() && said.is_empty());
    }
}
