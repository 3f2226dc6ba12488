//! The service that the tests run, with tenants of whom some are hostile.

use std::{collections::BTreeSet, env, fmt::Write as _, fs, path::PathBuf, time::Duration};

use flowgate_test_support::{
    Background, Namespace, Outcome, PATIENCE, Program, entries, json, plugins, program::copy_executable,
    until_or_explain, until_within,
};
use nix::sys::signal::Signal;
use serde_json::Value;

/// The zone of the neighbour, a tenant with a worker of the program.
pub(crate) const NEIGHBOUR: u16 = 7;

/// A tenant.
#[derive(Default)]
pub(crate) struct Tenant<'a> {
    pub name: &'a str,
    pub zone: u16,
    /// Keys of its `limits`.
    pub share: &'a str,
    pub grants: &'a str,
    /// What a hostile worker does; the empty text is a worker of the program.
    pub act: &'a str,
    /// Further options of the plugin.
    pub options: &'a str,
    /// Further keys of the plugin.
    pub plugin: &'a str,
    /// The keys of its file; the empty text is the plugin `attacker`.
    pub file: &'a str,
}

impl Tenant<'_> {
    fn text(&self, file: &str) -> String {
        let Tenant { name, zone, share, grants, act, options, plugin, file: own } = self;
        let file = if own.is_empty() { file } else { own };
        let act = if act.is_empty() { String::new() } else { format!("native = \"{act}\"") };
        let options =
            [act.as_str(), options].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
        format!(
            "[[tenant]]\nname = \"{name}\"\nlimits = {{ {share} }}\nformat = {{ kind = \"text\", show = [\"id\"] }}\n\
             [[tenant.scope]]\nzones = {zone}\n[[tenant.plugin]]\n{file}\ngrants = [{grants}]\n\
             options = {{ {options} }}\n{plugin}\n[[tenant.sink]]\nkind = \"file\"\npath = \"DIR/{name}.log\"\n"
        )
    }
}

/// Returns the neighbour.
pub(crate) fn neighbour() -> Tenant<'static> {
    Tenant { name: "neighbour", zone: NEIGHBOUR, ..Tenant::default() }
}

/// Returns the words of a flow.
pub(crate) fn flow(zone: u16, port: u16) -> String {
    format!("-t 3000 -w {zone} -p udp -s 10.1.0.1 -d 192.0.2.1 --sport {port} --dport 53")
}

/// Creates flows with these ports in a zone.
pub(crate) fn load(namespace: &Namespace, zone: u16, ports: impl Iterator<Item = u16>) {
    let lines: Vec<String> = ports.map(|port| format!("-I {}", flow(zone, port))).collect();
    entries::load(namespace, &lines);
}

/// Returns the ports of the flows of a zone in the table.
pub(crate) fn table(zone: u16) -> BTreeSet<u16> {
    ports(&Program::new("conntrack").must(&["-L", "-w", &zone.to_string()]))
}

/// Returns the source ports of the flows in a text.
pub(crate) fn ports(text: &str) -> BTreeSet<u16> {
    text.lines().filter_map(|line| line.split_once("sport=")?.1.split(' ').next()?.parse().ok()).collect()
}

/// How a service is started.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Start<'a> {
    /// Keys of its section `service`.
    pub keys: &'a str,
    /// The program that starts it, such as `setpriv`, with its arguments; empty to start it directly.
    pub by: &'a [&'a str],
}

/// A running service.
pub(crate) struct Serving {
    pub background: Background,
    pub directory: PathBuf,
}

impl Serving {
    /// Starts the service, and waits until it runs.
    pub(crate) fn start(namespace: &Namespace, tenants: &[Tenant<'_>]) -> Self {
        Self::start_as(namespace, tenants, Start::default())
    }

    /// Starts the service in a certain way, and waits until it runs.
    pub(crate) fn start_as(namespace: &Namespace, tenants: &[Tenant<'_>], start: Start<'_>) -> Self {
        let serving = Self::launch(namespace, tenants, start);
        serving.runs_within(PATIENCE);
        serving
    }

    /// Waits until the service runs, for this time.
    pub(crate) fn runs_within(&self, time: Duration) {
        let runs = || self.errors().contains("generation 1 runs");
        until_within(time, "it runs", runs, || self.explanation());
    }

    /// Starts the service in a certain way, and does not wait.
    pub(crate) fn launch(namespace: &Namespace, tenants: &[Tenant<'_>], start: Start<'_>) -> Self {
        write_with(namespace, tenants, start.keys);
        let directory = namespace.directory();
        let path = directory.join("policy.toml").display().to_string();
        let own = env::current_exe().unwrap();
        let background = match start.by {
            [] => Background::start(&Program::new(own).called("flowgate"), &["run", &path]),
            [first, others @ ..] => {
                // What it has to be called, and where any user may execute it.
                let program = directory.join("flowgate");
                copy_executable(&own, &program);
                let program = program.display().to_string();
                Background::start(&Program::new(first), &[others, &[&program, "run", &path]].concat())
            }
        };
        Serving { background, directory: directory.into() }
    }

    pub(crate) fn errors(&self) -> String {
        self.background.errors()
    }

    /// Returns the lines of the audit, which is one file however much a worker has asked for, each of which must be an
    /// object.
    pub(crate) fn audit(&self) -> Vec<Value> {
        json::lines_so_far(&self.directory.join("audit.jsonl"))
    }

    /// Returns the lines of the audit about a tenant in which `member` has this value.
    pub(crate) fn audited(&self, tenant: &str, member: &str, value: &str) -> Vec<Value> {
        self.audit().into_iter().filter(|line| line["tenant"] == tenant && line[member] == value).collect()
    }

    /// Waits for a line of the audit about a tenant, and returns its reason.
    pub(crate) fn reason(&self, tenant: &str, action: &str) -> String {
        self.until(&format!("{tenant}: {action}"), || !self.audited(tenant, "action", action).is_empty());
        self.audited(tenant, "action", action)[0]["reason"].as_str().unwrap_or_default().to_owned()
    }

    /// Returns what a tenant has written.
    pub(crate) fn output(&self, tenant: &str) -> String {
        fs::read_to_string(self.directory.join(format!("{tenant}.log"))).unwrap_or_default()
    }

    pub(crate) fn ask(&self, words: &[&str]) -> Outcome {
        let socket = self.directory.join("socket").display().to_string();
        let program = Program::new(env::current_exe().unwrap()).called("flowgate");
        program.run(&[&["policy", words[0], "--socket", &socket], &words[1..]].concat())
    }

    /// Returns the status of a tenant.
    pub(crate) fn status(&self, tenant: &str) -> Value {
        let status: Value = serde_json::from_str(&self.ask(&["status", tenant, "-o", "json"]).text()).unwrap();
        status["tenants"][0].clone()
    }

    /// Waits until a condition holds.
    pub(crate) fn until(&self, what: &str, is: impl FnMut() -> bool) {
        until_or_explain(what, is, || self.explanation());
    }

    /// Returns what the service has said, and the last lines of the audit.
    fn explanation(&self) -> String {
        let audit = self.audit();
        let mut text = self.errors();
        for line in audit.iter().rev().take(20) {
            let _ = writeln!(text, "{line}");
        }
        text
    }

    /// Waits until the neighbour has seen all of these ports, and nothing that is not its own.
    pub(crate) fn neighbour_sees(&self, mut wanted: impl Iterator<Item = u16> + Clone) {
        self.until("the neighbour sees every event", || {
            let seen = ports(&self.output("neighbour"));
            wanted.clone().all(|port| seen.contains(&port))
        });
        assert!(wanted.next().is_some());
        let output = self.output("neighbour");
        assert!(output.lines().all(|line| line.contains(&format!("zone={NEIGHBOUR} "))), "{output}");
        let status = self.status("neighbour");
        assert_eq!((&status["state"], &status["lost"]), (&"running".into(), &0.into()), "{status}");
    }

    /// Returns the process IDs of all workers.
    pub(crate) fn workers(&self) -> Vec<i32> {
        let spawner = children(self.background.process().as_raw());
        spawner.into_iter().flat_map(children).filter(|process| comm(*process) == "flowgate-worker").collect()
    }

    /// Ends it.
    pub(crate) fn end(mut self) {
        let outcome = self.background.end_by(Signal::SIGTERM);
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
        // A plugin that panics has trapped.
        assert!(!outcome.errors().contains("panicked at "), "{}", outcome.errors());
    }
}

/// Writes the policy.
pub(crate) fn write(namespace: &Namespace, tenants: &[Tenant<'_>]) {
    write_with(namespace, tenants, "");
}

/// Writes the policy with these keys of the service.
fn write_with(namespace: &Namespace, tenants: &[Tenant<'_>], keys: &str) {
    let plugin = plugins::built("attacker");
    let file = format!("file = \"{}\"\nsha256 = \"{}\"", plugin.display(), plugins::digest(&plugin));
    let head = format!(
        "[service]\nsocket = \"DIR/socket\"\nreload-on-change = false\ndrain = \"500ms\"\n{keys}\n\
         [audit]\npath = \"DIR/audit.jsonl\"\nrotate-size = \"4GiB\"\n"
    );
    let text: String = tenants.iter().map(|tenant| tenant.text(&file)).collect();
    let text = (head + &text).replace("DIR", &namespace.directory().display().to_string());
    fs::write(namespace.directory().join("policy.toml"), text).unwrap();
}

fn comm(process: i32) -> String {
    fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default().trim().to_owned()
}

/// Returns the child processes of a process.
pub(crate) fn children(parent: i32) -> Vec<i32> {
    let numbers = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let parent_of = |process: &i32| {
        let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        text.rsplit(')').next()?.split_whitespace().nth(1)?.parse::<i32>().ok()
    };
    numbers.filter(|process| parent_of(process) == Some(parent)).collect()
}
