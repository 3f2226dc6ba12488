//! The worker of a hostile tenant: it confines itself exactly as the real one, and does what the option `native` says.

use std::{fs::File, hint::black_box, time::Duration};

use flowgate_isolation::{Channel, Record, Role, frame::HEADER};
use flowgate_model::action;
use flowgate_netlink::{FlowEntry, proposal::propose};
use flowgate_privileges::sandbox;
use flowgate_worker::{
    Link,
    protocol::{Report, kind},
    setup::Setup,
};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use super::{
    alone::attack_other,
    attacks::{ALLOWED, BEYOND, FORBIDDEN},
};

/// Exit status of an attack that the kernel allowed.
pub(crate) const GOT_THROUGH: i32 = 42;
/// Exit status of an attack that the kernel refused with an error.
pub(crate) const REFUSED: i32 = 43;
/// Kinds of reports that are made by hand.
const ACTIONS: u16 = 38;
const LOOK_UP: u16 = 41;
/// Number of frames of [`Hostile::flood`] between two looks at events.
const BURST: u32 = 64;

/// Works as the worker that the setup describes. Returns the exit status.
pub(crate) fn work() -> u8 {
    // Another description of the file, so that the real worker reads it from its beginning.
    let setup = File::open("/proc/self/fd/5").ok().and_then(|mut file| Setup::read(&mut file).ok());
    let act = setup.as_ref().and_then(|setup| setup.plugins.first()?.option("native"));
    let Some(act) = act else { flowgate::process::main() };
    let (word, rest) = act.split_once(' ').unwrap_or((act, ""));
    let (calls, others) = Role::Worker.descriptors(2).unwrap();
    let [events, file] = <[_; 2]>::try_from(others).unwrap();
    let events = Channel::from_descriptor(events).unwrap();
    sandbox::confine_loading().unwrap();
    Setup::read(&mut File::from(file)).unwrap();
    if word == "stubborn" {
        ignore_signals();
    }
    if word == "loading" {
        return status(attack_other(rest));
    }
    sandbox::confine_running().unwrap();
    let mut this = Hostile { calls: Link::new(calls), events: Link::new(events), received: 0, done: 0 };
    match word {
        "attack" => return attack(rest),
        "other" => return status(attack_other(rest)),
        "early" => this.report(&Report::Output(b"x\n")),
        "start-flood" => loop {
            this.report(&Report::Warning("at the start"));
        },
        "start-spin" => spin(),
        "start-wait" => {
            this.report(&Report::Warning("ready"));
            drop(this.calls.receive());
            return 0;
        }
        _ => this.run(word, rest),
    }
    this.wait()
}

/// Tries one of the attacks. Returns an exit status.
fn attack(name: &str) -> u8 {
    let mut all = FORBIDDEN.iter().chain(ALLOWED).chain(BEYOND);
    status(all.find(|(attack, _)| *attack == name).expect("an attack").1())
}

fn status(returned: i64) -> u8 {
    u8::try_from(if returned < 0 { REFUSED } else { GOT_THROUGH }).unwrap()
}

fn spin() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

/// Ignores every signal that can be ignored.
fn ignore_signals() {
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator().filter(|signal| !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: no handler runs for an ignored signal.
        #[allow(unsafe_code)]
        unsafe { sigaction(signal, &ignore) }.unwrap();
    }
}

/// Returns the request to delete a flow.
fn deletion(zone: u16, port: u16) -> Vec<u8> {
    let line = format!(
        "udp 17 3000 src=10.1.0.1 dst=192.0.2.1 sport={port} dport=53 [UNREPLIED] src=192.0.2.1 dst=10.1.0.1 sport=53 \
         dport={port} mark=0 zone={zone} use=1\n"
    );
    let flows = flowgate_fixture::flows("flow", line.as_bytes(), &[]).unwrap_or_else(|error| panic!("{error}"));
    propose(action::DELETE, Some(FlowEntry::new(&flows, 0).unwrap()), None).unwrap().as_bytes().to_vec()
}

/// Returns a message for a subsystem of nfnetlink, with its header and nothing else, or with some attributes.
fn message(subsystem: u16, number: u16, attributes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(20 + attributes.len()).unwrap();
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend((subsystem << 8 | number).to_ne_bytes());
    bytes.extend(5u16.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([2, 0, 0, 0]);
    bytes.extend(attributes);
    bytes
}

struct Hostile {
    calls: Link,
    events: Link,
    /// Frames of events that have been received, and that have been reported.
    received: u64,
    done: u64,
}

impl Hostile {
    fn report(&mut self, report: &Report<'_>) {
        let frame = report.write(|kind| self.calls.frame(kind));
        self.send(frame);
    }

    /// Sends a frame. The process ends if nobody receives it.
    fn send(&mut self, frame: Record) {
        if self.calls.send(frame).is_err() {
            std::process::exit(9);
        }
    }

    /// Sends bytes that need not be a frame.
    fn raw(&mut self, bytes: &[u8]) {
        let _ = self.calls.channel().send(bytes, &[]);
    }

    /// Sends a frame of any kind whose fields are these bytes.
    fn fields(&mut self, kind: u16, bytes: &[u8]) {
        let frame = self.calls.frame(kind).append(bytes);
        self.send(frame);
    }

    /// Waits to be killed.
    fn wait(&mut self) -> ! {
        loop {
            // The calls' end would be the end of the owner.
            if self.calls.receive().is_err() {
                std::process::exit(9);
            }
        }
    }

    /// Does it once the worker may begin.
    fn run(&mut self, word: &str, rest: &str) {
        self.report(&Report::Ready);
        while self.calls.receive().map_or_else(|_| std::process::exit(9), |frame| frame.kind != kind::BEGIN) {}
        match word {
            "exit" => std::process::exit(0),
            "spin" | "stubborn" => spin(),
            "deaf" => self.wait(),
            _ => {}
        }
        self.event();
        match word {
            "event-spin" => spin(),
            "bomb" => loop {
                std::mem::forget(black_box(vec![1u8; 1 << 20]));
            },
            "garbage" => self.garbage(rest),
            "flood" => self.flood(rest),
            "forge" => self.forge(),
            "delete" => self.delete(rest.parse().unwrap()),
            other => panic!("there is no `{other}`"),
        }
    }

    /// Waits for an event.
    fn event(&mut self) {
        while self.next_event() != kind::EVENTS {}
    }

    fn next_event(&mut self) -> u16 {
        let Ok(frame) = self.events.receive() else { std::process::exit(0) };
        self.received += 1;
        frame.kind
    }

    /// Receives what waits, and claims to have processed it.
    fn keep_up(&mut self) {
        while self.events.is_readable(Duration::ZERO).unwrap_or(false) {
            self.next_event();
        }
        if self.done < self.received {
            self.done = self.received;
            self.report(&Report::Done { frames: self.done, resyncs: 0, shown: 0, output: b"" });
        }
    }

    fn garbage(&mut self, name: &str) {
        let number = |value: u32| value.to_ne_bytes();
        match name {
            "random" => self.raw(&(0..100u8).map(|byte| byte.wrapping_mul(167) ^ 0x5a).collect::<Vec<_>>()),
            "half" => self.raw(&[37; HEADER / 2]),
            "empty" => self.raw(&[]),
            "length" => {
                let mut bytes = self.calls.frame(42).finish().unwrap();
                bytes[4] += 1;
                self.raw(&bytes);
            }
            "flags" => {
                let mut bytes = self.calls.frame(42).finish().unwrap();
                bytes[2] = 0x82;
                self.raw(&bytes);
            }
            "sequence" => self.raw(&Record::new(42, 1 << 40).finish().unwrap()),
            "long" => self.raw(&vec![0; 65_537]),
            "longer" => self.raw(&vec![0; 150_000]),
            "unknown" => self.fields(999, &[]),
            "owner" => self.fields(kind::EVENTS, &[0; 20]),
            "state" => self.report(&Report::Ready),
            "problem" => self.fields(33, &[0xff, 0xff, 0, 0, 0, 0, 0]),
            "more" => {
                let frame = self.calls.frame(37).bytes(b"x").more();
                self.send(frame);
            }
            "plugin" => self.report(&Report::Log { plugin: 7, level: 1, message: "x" }),
            "level" => self.fields(35, &[0, 0, 77, 0, 0, 0, 0]),
            "count" => self.fields(ACTIONS, &[0, 0, 0xff, 0xff]),
            "few" => self.fields(ACTIONS, &[0, 0, 0xe8, 3]),
            "lie" => self.fields(ACTIONS, &[&[0, 0, 1, 0, 1, 0], &number(50)[..], &[0; 9]].concat()),
            "huge" => self.fields(ACTIONS, &[&[0, 0, 1, 0, 1, 0], &number(u32::MAX)[..], &[0; 9]].concat()),
            "variant" => self.fields(ACTIONS, &[0, 0, 1, 0, 1, 9]),
            "look-ups" => self.fields(LOOK_UP, &[65, 0]),
            "listing" => self.fields(39, &[2]),
            "trailing" => self.fields(42, &[0]),
            "text" => self.fields(34, &[&number(2)[..], &[0xff, 0xfe]].concat()),
            "done" => self.report(&Report::Done { frames: 1 << 40, resyncs: 0, shown: 0, output: b"" }),
            "nothing-done" => self.report(&Report::Done { frames: 0, resyncs: 0, shown: 0, output: b"" }),
            "finished" => self.report(&Report::Finished),
            "health" => self.fields(44, &[0, 0, 9]),
            "actions" => {
                for _ in 0..70 {
                    let frame = self.calls.frame(ACTIONS).u16(0).u16(1000).append(&[1; 2000]).more();
                    self.send(frame);
                }
            }
            other => panic!("there is no `{other}`"),
        }
    }

    /// Sends what is allowed without end.
    fn flood(&mut self, name: &str) {
        let line = "x".repeat(99) + "\n";
        let lines = line.repeat(600);
        let plugin = 0;
        loop {
            for _ in 0..BURST {
                match name {
                    "output" => self.report(&Report::Output(lines.as_bytes())),
                    "little" => self.report(&Report::Output(b"")),
                    "warning" => self.report(&Report::Warning(&lines[..4096])),
                    "log" => self.report(&Report::Log { plugin, level: 1, message: &lines[..4096] }),
                    "state" => self.report(&Report::State {
                        plugin,
                        key: b"key",
                        value: Some(&lines.as_bytes()[..30_000]),
                        more: true,
                    }),
                    "barrier" => {
                        self.report(&Report::Barrier);
                        let _ = self.calls.receive();
                    }
                    "list" => {
                        self.report(&Report::List(1));
                        let _ = self.calls.receive();
                    }
                    other => panic!("there is no `{other}`"),
                }
            }
            self.keep_up();
        }
    }

    /// Proposes requests: for each its kind and its bytes. Returns the results.
    fn ask(&mut self, requests: &[(u8, Vec<u8>)]) -> Vec<u8> {
        let frame = self.calls.frame(ACTIONS).u16(0).u16(u16::try_from(requests.len()).unwrap());
        let frame = requests.iter().fold(frame, |frame, (kind, request)| frame.u8(*kind).u8(0).bytes(request));
        self.send(frame);
        let mut results = Vec::new();
        while results.len() < requests.len() {
            let Ok(frame) = self.calls.receive() else { std::process::exit(9) };
            assert_eq!(frame.kind, kind::RESULTS);
            let mut body = frame.body;
            for _ in 0..body.u16().unwrap() {
                results.push(body.u8().unwrap());
                body.u32().unwrap();
            }
        }
        results
    }

    /// Proposes what it may not do, then a deletion in its scope (zone 8), and writes the results.
    fn forge(&mut self) {
        let own = deletion(8, 80);
        let mut longer = own.clone();
        longer.extend([8, 0, 99, 0, 0, 0, 0, 0]);
        longer[0] += 8;
        let mut short = own.clone();
        short.truncate(own.len() - 4);
        let mut flush = own.clone();
        flush.truncate(20);
        flush[0..4].copy_from_slice(&20u32.to_ne_bytes());
        let twice = [own.clone(), own.clone()].concat();
        let requests = vec![
            (action::DELETE, deletion(7, 70)),
            (action::DELETE, deletion(0, 80)),
            // The whole table.
            (action::DELETE, flush),
            (action::DELETE, message(1, 2, &[])),
            // Unknown types, a listing that clears counters, expectations, and other subsystems.
            (action::DELETE, message(1, 99, &[])),
            (action::DELETE, message(1, 3, &[])),
            (action::DELETE, message(2, 2, &[])),
            (action::DELETE, message(0, 16, &[0, 0, 0, 10])),
            (action::DELETE, message(10, 2, &[])),
            (action::DELETE, message(6, 2, &[])),
            // What is said is not what is done.
            (action::UPDATE, own.clone()),
            (action::CREATE, own.clone()),
            (99, own.clone()),
            // More or less than one request.
            (action::DELETE, longer),
            (action::DELETE, short),
            (action::DELETE, twice),
            (action::DELETE, Vec::new()),
            (action::DELETE, vec![0xff; 1000]),
        ];
        let mut results = self.ask(&requests);
        results.extend(self.ask(&[(action::DELETE, own)]));
        let text = results.iter().map(u8::to_string).collect::<Vec<_>>().join(" ") + "\n";
        self.report(&Report::Output(text.as_bytes()));
    }

    /// Asks for the deletion of all flows of its zone without pause.
    ///
    /// The order changes, since the tenant's rate of actions may admit no more than the first ones of each request.
    fn delete(&mut self, zone: u16) -> ! {
        let mut requests: Vec<_> = (1..=64).map(|port| (action::DELETE, deletion(zone, port))).collect();
        loop {
            self.ask(&requests);
            self.keep_up();
            requests.rotate_left(1);
        }
    }
}
