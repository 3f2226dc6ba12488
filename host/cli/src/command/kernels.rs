//! Tests of commands on simulated kernels of different ages: the output and the actions are the same on all of them,
//! and no flow is changed that does not match.

use std::ffi::{OsStr, OsString};

use super::Context;
use crate::{
    args::{self, Invocation},
    command::{CommandError, Exit},
};
use flowgate_model::{
    family::{IPV4, IPV6},
    protocol::{TCP, UDP},
};
use flowgate_netlink::Stop;
use flowgate_netlink_testing::fake_kernel::{DumpFilters, FakeFlow, FakeKernel, KernelFeatures};
use flowgate_pipeline::{counters::Counters, stats::Board};
use flowgate_syntax::ProgramName;

/// Returns flows of both families, two protocols and two marks.
fn flows() -> Vec<FakeFlow> {
    let mut flows = Vec::new();
    for family in [IPV4, IPV6] {
        for protocol in [TCP, UDP] {
            for (port, mark) in [(1000, 0), (1001, 5), (1002, 5)] {
                flows.push(FakeFlow::new(family, protocol, port, mark));
            }
        }
    }
    flows
}

/// Runs a command line on a kernel. Returns its output and its outcome.
fn run(kernel: &FakeKernel, line: &str) -> (String, Result<Exit, CommandError>) {
    let name = ProgramName::of(OsStr::new("flowgate"));
    let words: Vec<OsString> = line.split(' ').map(OsString::from).chain(["--netns".into(), "played".into()]).collect();
    let settings = match args::parse(&name, &words, &flowgate_syntax::SystemEnvironment).result {
        Ok(Invocation::Run(settings)) => settings,
        other => panic!("{line}: {other:?}"),
    };
    let (stop, board, mut output) = (Stop::new().unwrap(), Board::default(), Vec::new());
    let mut context = Context {
        name: &name,
        stop: &stop,
        board: &board,
        counters: Counters::default(),
        sink: &mut output,
        loader: None,
        done: 0,
        namespace: Some(("played".into(), kernel.namespace())),
        file: None,
    };
    let result = context.command(&settings, false);
    (String::from_utf8(output).unwrap(), result)
}

/// Returns all kinds of kernels.
fn ages() -> Vec<KernelFeatures> {
    let mut ages = vec![KernelFeatures::RECENT, KernelFeatures::WITHOUT_DELETION_BY_FILTER, KernelFeatures::OLD];
    for errno in [libc::EOPNOTSUPP, libc::EINVAL] {
        ages.push(KernelFeatures {
            filters: DumpFilters::Refused(errno),
            ..KernelFeatures::WITHOUT_DELETION_BY_FILTER
        });
    }
    for errno in [libc::EOPNOTSUPP, libc::EAFNOSUPPORT, libc::EINVAL] {
        for age in [KernelFeatures::RECENT, KernelFeatures::WITHOUT_DELETION_BY_FILTER, KernelFeatures::OLD] {
            ages.push(KernelFeatures { refuses_both_families: Some(errno), ..age });
        }
        let filters = DumpFilters::Refused(libc::EOPNOTSUPP);
        ages.push(KernelFeatures {
            refuses_both_families: Some(errno),
            filters,
            ..KernelFeatures::WITHOUT_DELETION_BY_FILTER
        });
    }
    ages
}

/// Returns true if a selector matches a flow.
type Means = fn(&FakeFlow) -> bool;

/// Selectors, and the flows that they match.
const SELECTORS: [(&str, Means); 9] = [
    ("", |_| true),
    (" -f ipv4", |flow| flow.family == IPV4),
    (" -f ipv6", |flow| flow.family == IPV6),
    (" -p udp", |flow| flow.protocol == UDP),
    (" -m 5", |flow| flow.mark == 5),
    (" -p tcp -m 5", |flow| flow.protocol == TCP && flow.mark == 5),
    (" -f ipv6 -p udp -m 0", |flow| flow.family == IPV6 && flow.protocol == UDP && flow.mark == 0),
    (" -p udp --sport 1001", |flow| flow.protocol == UDP && flow.port == 1001),
    (" -p udp -s 192.0.2.1 -d 198.51.100.1 --sport 1001 --dport 53 -m 0", |_| false),
];

#[test]
fn every_kernel_lists_what_is_meant() {
    for age in ages() {
        for (selector, means) in SELECTORS {
            let kernel = FakeKernel::new(age, flows());
            let (text, result) = run(&kernel, &format!("-L{selector}"));
            let expected = flows().iter().filter(|flow| means(flow)).count();
            assert!(matches!(result, Ok(Exit::Success)), "{age:?}{selector}: {result:?}");
            assert_eq!(text.lines().count(), expected, "{age:?}{selector}:\n{text}");
        }
    }
}

#[test]
fn no_kernel_deletes_what_was_not_named() {
    for age in ages() {
        for (selector, means) in SELECTORS {
            for quiet in ["", " --quiet"] {
                let kernel = FakeKernel::new(age, flows());
                let all = if selector.is_empty() { " --all" } else { "" };
                let (_, result) = run(&kernel, &format!("-D{selector}{all}{quiet}"));
                assert!(result.is_ok(), "{age:?} -D{selector}{quiet}: {result:?}");
                let rest: Vec<FakeFlow> = flows().into_iter().filter(|flow| !means(flow)).collect();
                assert_eq!(kernel.flows(), rest, "{age:?} -D{selector}{quiet}");
            }
        }
    }
}

#[test]
fn no_kernel_updates_what_was_not_named() {
    for age in ages() {
        for (selector, means) in SELECTORS.iter().filter(|(selector, _)| !selector.contains("-m")) {
            let kernel = FakeKernel::new(age, flows());
            let (_, result) = run(&kernel, &format!("-U{selector} -m 77"));
            assert!(result.is_ok(), "{age:?} -U{selector}: {result:?}");
            for flow in kernel.flows() {
                assert_eq!(flow.mark == 77, means(&flow), "{age:?} -U{selector}: {flow:?}");
            }
        }
    }
}

#[test]
fn every_kernel_empties_what_is_meant() {
    for age in ages() {
        for (family, means) in &SELECTORS[..3] {
            let kernel = FakeKernel::new(age, flows());
            let (_, result) = run(&kernel, &format!("-F{family}"));
            assert!(matches!(result, Ok(Exit::Success)), "{age:?} -F{family}: {result:?}");
            let rest: Vec<FakeFlow> = flows().into_iter().filter(|flow| !means(flow)).collect();
            assert_eq!(kernel.flows(), rest, "{age:?} -F{family}");
        }
        let kernel = FakeKernel::new(age, flows());
        let (_, result) = run(&kernel, "-F expect");
        assert!(matches!(result, Ok(Exit::Success)), "{age:?} -F expect: {result:?}");
        assert_eq!((kernel.expectations(), kernel.flows().len()), (0, flows().len()), "{age:?}");
    }
}

#[test]
fn counters_are_zeroed_by_families_where_both_are_refused() {
    for errno in [libc::EOPNOTSUPP, libc::EAFNOSUPPORT, libc::EINVAL] {
        let kernel =
            FakeKernel::new(KernelFeatures { refuses_both_families: Some(errno), ..KernelFeatures::RECENT }, flows());
        let (text, result) = run(&kernel, "-L -z");
        assert!(matches!(result, Ok(Exit::Success)), "{result:?}");
        assert_eq!(text.lines().count(), flows().len());
        assert!(kernel.flows().iter().all(|flow| flow.zeroed));
    }
}

#[test]
fn a_kernel_without_ipv6_has_flows_of_ipv4() {
    let age =
        KernelFeatures { refuses_both_families: Some(libc::EOPNOTSUPP), without_ipv6: true, ..KernelFeatures::OLD };
    let of_ipv4: Vec<FakeFlow> = flows().into_iter().filter(|flow| flow.family == IPV4).collect();
    let kernel = FakeKernel::new(age, of_ipv4.clone());
    let (text, result) = run(&kernel, "-L");
    assert!(matches!(result, Ok(Exit::Success)), "{result:?}");
    assert_eq!(text.lines().count(), of_ipv4.len());
    // A family that the user named does not exist, which is an error.
    assert!(run(&kernel, "-L -f ipv6").1.is_err());
    assert!(matches!(run(&kernel, "-F").1, Ok(Exit::Success)));
    assert_eq!(kernel.flows(), []);
}

#[test]
fn a_kernel_that_refuses_everything_is_told_of_by_its_first_reason() {
    let filters = DumpFilters::Refused(libc::EOPNOTSUPP);
    let age = KernelFeatures { refuses_both_families: Some(libc::EAFNOSUPPORT), filters, ..KernelFeatures::OLD };
    let kernel = FakeKernel::new(KernelFeatures { without_ipv6: true, ..age }, flows());
    let error = run(&kernel, "-L -f ipv6 -p udp").1.unwrap_err();
    assert_eq!(error.to_string(), "Operation failed: Address family not supported by protocol");
    // Without privileges every request is refused, so there is only one attempt.
    let kernel =
        FakeKernel::new(KernelFeatures { refuses_both_families: Some(libc::EPERM), ..KernelFeatures::RECENT }, flows());
    kernel.take_requests();
    let error = run(&kernel, "-L").1.unwrap_err();
    assert!(error.to_string().contains("you must be root"), "{error}");
    assert_eq!(kernel.take_requests().iter().filter(|(kind, _)| *kind == 0x0101).count(), 1);
}

/// A kernel with all features gets no additional requests.
#[test]
fn a_recent_kernel_is_asked_once() {
    let kernel = FakeKernel::new(KernelFeatures::RECENT, flows());
    run(&kernel, "-L").1.unwrap();
    assert_eq!(kernel.take_requests(), [(0x0105, 0), (0x0101, 0)]);
    run(&kernel, "-L -f ipv4 -p udp").1.unwrap();
    assert_eq!(kernel.take_requests(), [(0x0105, 0), (0x0101, 2)]);
    run(&kernel, "-F -f ipv4").1.unwrap();
    assert_eq!(kernel.take_requests(), [(0x0102, 2)]);
    run(&kernel, "-F").1.unwrap();
    assert_eq!(kernel.take_requests(), [(0x0102, 0)]);
}
