//! Restrictions of the unit, container or shell of the process: system calls, threads, descriptors, `/proc`.

use std::{fs, path::Path, thread};

use nix::sys::resource::{Resource, getrlimit};

use super::{Finding, Patient};
use flowgate_base::io_error::error_text;

/// Number of descriptors that is enough for every command.
const DESCRIPTORS: u64 = 32;

/// Checks the restrictions. `answers` is true if connection tracking answers over netlink.
pub(super) fn examine(patient: &Patient<'_>, answers: bool) -> Vec<Finding> {
    let mut findings = vec![system_calls(flowgate_privileges::system_calls_are_filtered()), threads(), descriptors()];
    findings.extend(proc(patient, answers));
    findings
}

fn system_calls(filtered: bool) -> Finding {
    let check = "unit.system_calls";
    if !filtered {
        return Finding::ok(check, "no filter of system calls is in force");
    }
    Finding::ok(
        check,
        "system calls are filtered (seccomp: SystemCallFilter= of the unit, or a container): commands take none of \
         @privileged and @resources; plugins take capset, unless CapabilityBoundingSet= leaves nothing to give up",
    )
}

fn threads() -> Finding {
    let check = "unit.threads";
    match thread::Builder::new().name("trial".into()).spawn(|| ()) {
        Ok(trial) => {
            // The thread returns nothing.
            let _ = trial.join();
            Finding::ok(check, "threads can be started")
        }
        Err(error) => Finding::warning(
            check,
            format!(
                "no thread can be started ({}; RLIMIT_NPROC is {}, pids.max of the cgroup {}): commands do without, more slowly; \
                 plugins and metrics do not run",
                error_text(&error),
                limit(Resource::RLIMIT_NPROC).map_or("unlimited".into(), |limit| limit.to_string()),
                most_tasks().map_or("not known".into(), |most| most.trim().to_string()),
            ),
        )
        .mend("raise TasksMax= and LimitNPROC= of the unit, or ulimit -u, to 16 or more"),
    }
}

fn descriptors() -> Finding {
    let check = "unit.descriptors";
    match limit(Resource::RLIMIT_NOFILE) {
        Some(most) if most < DESCRIPTORS => Finding::warning(
            check,
            format!("the process may have {most} descriptors: with events, sinks or metrics a command may need more"),
        )
        .mend("raise LimitNOFILE= of the unit, or ulimit -n, to 1024"),
        Some(most) => Finding::ok(check, format!("the process may have {most} descriptors")),
        None => Finding::ok(check, "the process may have any number of descriptors"),
    }
}

/// Returns the soft limit of a resource; `None` if it is unlimited or unknown.
fn limit(resource: Resource) -> Option<u64> {
    getrlimit(resource).ok().map(|(soft, _)| soft).filter(|&soft| soft != nix::libc::RLIM_INFINITY)
}

/// Returns `pids.max` of the cgroup of the process.
fn most_tasks() -> Option<String> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
        let root = match controllers {
            "" => "/sys/fs/cgroup",
            "pids" => "/sys/fs/cgroup/pids",
            _ => return None,
        };
        fs::read_to_string(Path::new(root).join(path).join("pids.max")).ok()
    })
}

/// Checks the hidden parts of /proc, and names the checks that need them.
fn proc(patient: &Patient<'_>, answers: bool) -> Option<Finding> {
    let check = "unit.proc";
    if fs::metadata("/proc/self/stat").is_err() {
        return Some(
            Finding::warning(
                check,
                "/proc is hidden or not mounted: settings and modules cannot be determined, programs behind events have no names, and \
                 namespaces are not found by the number of a process",
            )
            .mend("mount -t proc proc /proc"),
        );
    }
    let settings = patient.sysctl("net.netfilter.nf_conntrack_max").is_some();
    (answers && !settings).then(|| {
        Finding::warning(
            check,
            "/proc/sys/net/netfilter is hidden here, as in containers and with ProcSubset=pid, though connection tracking answers: \
             accounting, time stamps, events and protocols cannot be determined",
        )
        .mend("run flowgate doctor outside, with --netns for this network namespace")
    })
}
