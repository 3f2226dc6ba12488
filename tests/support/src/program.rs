//! Running programs: captured output, exit status, and a clear message if a program is not installed.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A program and the way it is started.
#[derive(Clone, Debug)]
pub struct Program {
    /// The file to execute: a name to be searched in `PATH`, or a path.
    pub path: PathBuf,
    /// `argv[0]`; `path` if absent.
    pub called: Option<OsString>,
    /// Environment variables in addition to the inherited ones.
    pub environment: Vec<(String, String)>,
    /// User and group that it runs as; those of the caller if absent.
    pub user: Option<u32>,
}

/// Exit status and output of a program.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// The bytes written to standard output.
    pub stdout: Vec<u8>,
    /// The bytes written to standard error.
    pub stderr: Vec<u8>,
    /// Exit status as a shell reports it: 0-255, or 128 plus the number of the signal that ended it.
    pub status: i32,
}

impl Outcome {
    /// Returns standard output as text, with replacement characters for bytes that are not UTF-8.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Returns standard error as text, with replacement characters for bytes that are not UTF-8.
    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

/// Returns the exit status as a shell reports it: the status, or 128 plus the signal.
pub fn shell_status(status: std::process::ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

/// Copies a program, or the dynamic loader, to be executed.
///
/// A separate process writes the copy: a child started meanwhile by another thread of the tests would inherit a file
/// that is open for writing here, and until that child executes its program nobody could execute the copy (ETXTBSY).
///
/// # Panics
/// If it cannot be copied.
pub fn copy_executable(from: &Path, to: &Path) {
    let status = Command::new("cp").arg(from).arg(to).status().expect("cp runs");
    assert!(status.success(), "cp {} {}: {status}", from.display(), to.display());
}

/// User and group ID without privileges: `nobody` on all common systems.
pub const NOBODY: &str = "65534";
/// Words in front of a command line that run it as [`NOBODY`] with CAP_NET_ADMIN and no other capability.
pub const AS_NOBODY_WITH_NET_ADMIN: [&str; 9] = [
    "setpriv",
    "--reuid",
    NOBODY,
    "--regid",
    NOBODY,
    "--clear-groups",
    "--inh-caps=-all,+net_admin",
    "--ambient-caps=-all,+net_admin",
    "--bounding-set=-all,+net_admin",
];

/// Returns the installed `conntrack`.
pub fn conntrack() -> Program {
    Program::new("conntrack")
}

/// Splits a command line at spaces; `''` is an empty word.
pub fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().map(|word| if word == "''" { "" } else { word }).collect()
}

impl Program {
    /// Returns a program by name or path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), called: None, environment: Vec::new(), user: None }
    }

    /// Sets `argv[0]`.
    pub fn called(mut self, name: &str) -> Self {
        self.called = Some(name.into());
        self
    }

    /// Sets an environment variable.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Runs the program as another user and group, without supplementary groups or capabilities.
    pub fn user(mut self, id: u32) -> Self {
        self.user = Some(id);
        self
    }

    /// Runs a copy of the program in a directory, since other users may not have access to the build directory.
    ///
    /// # Panics
    /// If it cannot be copied.
    pub fn copied_to(mut self, directory: &Path) -> Self {
        let copy = directory.join("flowgate");
        copy_executable(&self.path, &copy);
        self.path = copy;
        self
    }

    /// Returns the command, for redirections that [`Program::run`] does not offer.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.args(arguments);
        if let Some(name) = &self.called {
            command.arg0(name);
        }
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        if let Some(id) = self.user {
            // The standard library drops the supplementary groups of root by itself.
            command.uid(id).gid(id);
        }
        command
    }

    /// Starts the program with an empty standard input and pipes for its output.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap_or_else(|error| panic!("{}", self.explain(&error)))
    }

    /// Runs the program to its end with `input` on standard input.
    pub fn run_with(&self, arguments: &[&str], input: &[u8]) -> Outcome {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() });
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{}", self.explain(&error)));
        let output = std::thread::scope(|scope| {
            if let Some(mut pipe) = child.stdin.take() {
                // A program may stop reading early; its status says whether that is an error.
                scope.spawn(move || pipe.write_all(input));
            }
            child.wait_with_output().unwrap_or_else(|error| panic!("waiting for {}: {error}", self.path.display()))
        });
        Outcome { stdout: output.stdout, stderr: output.stderr, status: shell_status(output.status) }
    }

    /// Runs the program to its end with an empty standard input.
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        self.run_with(arguments, b"")
    }

    /// Runs the program, panics unless it succeeds, and returns its standard output.
    pub fn must(&self, arguments: &[&str]) -> String {
        self.must_with(arguments, b"")
    }

    /// Runs the program with `input`, panics unless it succeeds, and returns its standard output.
    pub fn must_with(&self, arguments: &[&str], input: &[u8]) -> String {
        let outcome = self.run_with(arguments, input);
        assert!(
            outcome.status == 0,
            "`{} {}` ended with status {}:\n{}",
            self.path.display(),
            arguments.join(" "),
            outcome.status,
            outcome.errors()
        );
        outcome.text()
    }

    /// Returns the message for a program that cannot be started.
    pub fn explain(&self, error: &std::io::Error) -> String {
        let name = self.path.display().to_string();
        let package = match name.as_str() {
            "conntrack" => "conntrack",
            "nft" => "nftables",
            "ip" => "iproute2",
            "ping" => "iputils-ping",
            "mount" => "mount",
            "systemd-analyze" => "systemd",
            _ => return format!("cannot run {name}: {error}"),
        };
        match error.kind() {
            std::io::ErrorKind::NotFound => format!("{name} is not installed: apt-get install {package}"),
            _ => format!("cannot run {name}: {error}"),
        }
    }
}

/// Fails if this process ignores signals that tests send, as background jobs of a shell do: programs that it starts
/// inherit this.
///
/// # Panics
/// If SIGHUP, SIGINT or SIGTERM is ignored.
pub fn must_heed_signals() {
    let status = std::fs::read_to_string("/proc/self/status").expect("the state of this process");
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("the signals that are ignored");
    let ignored = u64::from_str_radix(ignored.trim(), 16).expect("a bit set");
    for (number, name) in [(1, "HUP"), (2, "INT"), (15, "TERM")] {
        assert!(
            ignored & 1 << (number - 1) == 0,
            "SIG{name} is ignored here; run the tests by `make test`, or by `env --default-signal={name} cargo test ...`"
        );
    }
}
