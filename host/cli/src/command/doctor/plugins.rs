//! Execution of code of plugins from files in this process. Stock plugins run in the same way everywhere.

use super::Finding;
use flowgate_runtime::{Execution, execution::Barrier};

/// Checks the code generation that the kernel allows the process.
pub(super) fn examine(execution: Execution) -> Finding {
    let check = "plugins.code";
    let text = format!("plugins from files run as {execution}");
    match (execution.barrier, execution.limit) {
        (None, None) => Finding::ok(check, text),
        (Some(Barrier::Denied), _) => Finding::warning(check, text)
            .mend("MemoryDenyWriteExecute=no in the unit, where plugins are to run at full speed"),
        (Some(Barrier::Refused(_)), _) => {
            Finding::warning(check, text).mend("allow the process mprotect with PROT_EXEC (seccomp, SELinux: execmem)")
        }
        (None, Some(_)) => Finding::warning(check, text).mend("ulimit -v unlimited, or LimitAS=infinity in the unit"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::doctor::Level;

    #[test]
    fn what_slows_plugins_down_is_told_with_a_way_out() {
        let free = Execution { barrier: None, limit: None };
        assert_eq!(examine(free).level, Level::Ok);
        for (execution, words, mend) in [
            (Execution { barrier: Some(Barrier::Denied), ..free }, "10 to 25 times", "MemoryDenyWriteExecute=no"),
            (Execution { barrier: Some(Barrier::Refused(libc::EPERM)), ..free }, "interpreted", "PROT_EXEC"),
            (Execution { limit: Some(1 << 29), ..free }, "536870912 bytes", "LimitAS=infinity"),
        ] {
            let finding = examine(execution);
            assert_eq!(finding.level, Level::Warning);
            assert!(finding.text.contains(words), "{finding:?}");
            assert!(finding.mend.as_deref().is_some_and(|command| command.contains(mend)), "{finding:?}");
        }
    }
}
