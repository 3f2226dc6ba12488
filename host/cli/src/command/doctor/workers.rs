//! What separates the processes that run plugins of tenants from each other, if the service is started as this process
//! was.

use super::{Finding, Level};
use flowgate_base::text::path_text;
use flowgate_isolation::cgroup::{Controllers, NoGroups, OwnGroup};
use flowgate_privileges::users;

/// Checks users, PID namespace and control groups.
pub(super) fn examine() -> Vec<Finding> {
    let group = OwnGroup::find().map(|group| {
        let error = group.check().err();
        (group, error)
    });
    vec![user(users::is_root(), users::can_be_changed()), pid_namespace(users::can_make_namespaces()), cgroup(group)]
}

fn user(is_root: bool, can_be_changed: bool) -> Finding {
    let check = "workers.users";
    match (is_root, can_be_changed) {
        (true, true) => Finding::ok(check, "workers of a policy get users of their own (`worker-uids`)"),
        (false, true) => Finding::ok(check, "workers of a policy get users of their own if it names them (`worker-uids`)"),
        (true, false) => Finding::ok(
            check,
            "workers of a policy have the user of the service: CAP_SETUID, CAP_SETGID and CAP_KILL are not all in effect",
        )
        .mend("give the container or service these capabilities"),
        (false, false) => Finding::ok(check, "workers of a policy have the user of the service, which is not root")
            .mend("start the service as root"),
    }
}

fn pid_namespace(can_be_made: bool) -> Finding {
    let check = "workers.pid_namespace";
    match can_be_made {
        true => Finding::ok(check, "workers of a policy get a PID namespace, if nothing forbids it"),
        false => {
            Finding::ok(check, "workers of a policy see the process IDs of the service: CAP_SYS_ADMIN is not in effect")
                .mend("start the service as root")
        }
    }
}

/// `group` has the group of the process, and why it cannot be used.
fn cgroup(group: Result<(OwnGroup, Option<NoGroups>), NoGroups>) -> Finding {
    const DELEGATE: &str = "Delegate=memory pids cpu and ProtectControlGroups=no in the unit of the service";
    const BOOT: &str = "boot with systemd.unified_cgroup_hierarchy=1";
    let check = "workers.cgroup";
    let (group, error) = match group {
        Ok(found) => found,
        Err(error) => return Finding::ok(check, format!("workers of a policy get no cgroup: {error}")).mend(BOOT),
    };
    let names = |of: Controllers| of.names().collect::<Vec<_>>().join(", ");
    let old = match names(group.old) {
        old if old.is_empty() => String::new(),
        old => format!("; version 1 has the controllers {old} (a hybrid hierarchy), which version 2 lacks therefore"),
    };
    if let Some(error) = error {
        let what = match &error {
            NoGroups::Shared(_) => format!("start the service in a cgroup of its own: {DELEGATE}"),
            _ => DELEGATE.to_string(),
        };
        return Finding::ok(check, format!("workers of a policy get no cgroup: {error}{old}")).mend(what);
    }
    let path = path_text(&group.path);
    let finding = |text: String| Finding::new(Level::Ok, check, text);
    match (names(group.available), group.available.memory) {
        (all, true) => finding(format!("workers of a policy get a cgroup each, in {path}: {all}{old}")),
        (some, false) => {
            let some = if some.is_empty() { "no controller".into() } else { some };
            let text =
                format!("workers of a policy get a cgroup each, in {path}, without a limit of memory: {some}{old}");
            finding(text).mend(if old.is_empty() { DELEGATE } else { BOOT })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_with_what_would_turn_it_on() {
        let all = Controllers { memory: true, pids: true, cpu: true };
        let (none, memory) = (Controllers::default(), Controllers { memory: true, ..Controllers::default() });
        let group = |available, old| OwnGroup { path: "/cg/a".into(), available, old };
        let refused = || std::io::Error::from_raw_os_error(libc::EROFS);
        for (found, text, mend) in [
            (Ok((group(all, none), None)), "get a cgroup each, in /cg/a: memory, pids, cpu", None),
            (
                Ok((group(none, all), None)),
                "without a limit of memory: no controller; version 1 has the controllers memory, pids, cpu (a hybrid",
                Some("boot with"),
            ),
            (
                Ok((group(none, none), None)),
                "without a limit of memory: no controller",
                Some("Delegate=memory pids cpu"),
            ),
            (
                Ok((group(none, memory), Some(NoGroups::Shared("/cg/a".into())))),
                "no cgroup: other processes are in the group /cg/a as well; version 1 has the controllers memory (",
                Some("start the service in a cgroup of its own: Delegate="),
            ),
            (
                Ok((group(all, none), Some(NoGroups::NotWritable("/cg/a".into(), refused())))),
                "no group can be made in /cg/a: Read-only file system",
                Some("Delegate="),
            ),
            (
                Ok((group(all, none), Some(NoGroups::NotDelegated("/cg/a".into())))),
                "systemd has not delegated the group /cg/a to the service",
                Some("Delegate="),
            ),
            (Err(NoGroups::NotMounted), "no cgroup: cgroup version 2 is not mounted", Some("boot with")),
        ] {
            let finding = cgroup(found);
            assert!(finding.text.contains(text), "{}", finding.text);
            assert_eq!(finding.level, Level::Ok);
            let reported = finding.mend.as_deref();
            assert!(
                mend.map_or(reported.is_none(), |mend| reported.is_some_and(|reported| reported.starts_with(mend))),
                "{reported:?}"
            );
        }
    }

    #[test]
    fn root_gets_what_nobody_else_gets() {
        for (root, can, words, mend) in [
            (true, true, "get users of their own (`", None),
            (false, true, "if it names them", None),
            (true, false, "are not all in effect", Some("give the container")),
            (false, false, "which is not root", Some("start the service as root")),
        ] {
            let finding = user(root, can);
            assert!(finding.text.contains(words), "{}", finding.text);
            assert_eq!(finding.mend.is_some(), mend.is_some());
        }
        assert!(pid_namespace(true).mend.is_none() && pid_namespace(false).mend.is_some());
    }
}
