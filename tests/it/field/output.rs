//! Output that cannot be written, is slow, or is closed.

use std::{
    io::Read as _,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use flowgate_test_support::{
    Namespace, Outcome, Program, entries,
    program::{copy_executable, shell_status},
    traffic::Traffic,
};

use crate::field::flowgate;

/// Creates UDP flows; their output exceeds one batch.
fn fill(namespace: &Namespace, count: u32) {
    let line = |number: u32| {
        format!("-I -t 600 -s 10.0.{}.{} -d 198.51.100.1 -p udp --sport 4000 --dport 53", number >> 8, number & 0xff)
    };
    entries::load(namespace, &(0..count).map(line).collect::<Vec<_>>());
}

/// Runs a line of sh in which `$F` is the program.
fn sh(program: &Program, line: &str) -> Outcome {
    let mut command = Program::new("sh").command(&["-c", line]);
    command.env("F", &program.path).stdin(Stdio::null());
    let output = command.output().expect("sh");
    Outcome { stdout: output.stdout, stderr: output.stderr, status: shell_status(output.status) }
}

/// Returns the program as a script finds it: through a link named `conntrack`.
fn as_conntrack(namespace: &Namespace) -> Program {
    let link = namespace.directory().join("conntrack");
    if !link.exists() {
        std::os::unix::fs::symlink(flowgate().path, &link).expect("a link");
    }
    Program::new(link)
}

fn must_say(outcome: &Outcome, status: i32, text: &str, what: &str) {
    assert!(
        outcome.status == status && outcome.errors().contains(text),
        "{what}: status {}, not {status} with {text:?}: {}",
        outcome.status,
        outcome.errors()
    );
}

/// Redirections with which the output cannot be written, and the resulting message on standard error.
const HINDRANCES: [(&str, &str); 3] = [
    (">/dev/full", "cannot write: No space left on device"),
    (">&-", "cannot write: Bad file descriptor"),
    ("1</dev/null", "cannot write: Bad file descriptor"),
];

#[test]
fn case_22_what_was_asked_for_is_done_also_if_it_cannot_be_shown() {
    Namespace::run(|namespace| {
        for program in [flowgate(), as_conntrack(namespace)] {
            for (redirection, reason) in HINDRANCES {
                fill(namespace, 3000);
                let outcome = sh(&program, &format!("\"$F\" -D -p udp {redirection}"));
                must_say(&outcome, 1, reason, redirection);
                must_say(&outcome, 1, "3000 flow entries have been deleted.", redirection);
                assert_eq!(entries::count(namespace), 0, "-D {redirection}");
            }
        }
    });
}

#[test]
fn case_22_holds_for_whatever_changes_something_and_shows_it() {
    Namespace::run(|namespace| {
        namespace.account(true);
        fill(namespace, 3000);
        let program = flowgate();
        let full = |words: &str| sh(&program, &format!("\"$F\" {words} >/dev/full"));
        let reason = "cannot write: No space left on device";
        must_say(&full("-U -p udp -m 7"), 1, reason, "-U");
        let marked = program.must(&["-L", "-m", "7"]);
        assert_eq!(marked.lines().count(), 3000, "all have been updated");
        // Formats with output before the first entry and after the last one.
        must_say(&full("-U -p udp -m 8 -o xml"), 1, reason, "-U -o xml");
        assert_eq!(program.must(&["-L", "-m", "8"]).lines().count(), 3000);
        must_say(&full("-U -p udp -m 9 -o json"), 1, reason, "-U -o json");
        assert_eq!(program.must(&["-L", "-m", "9"]).lines().count(), 3000);
        must_say(&full("-L -z"), 1, reason, "-L -z");
        // Without output there is no write error.
        assert_eq!(full("-I -t 600 -s 10.9.0.1 -d 10.9.0.2 -p udp --sport 1 --dport 2").status, 0);
        assert_eq!(full("-D -p udp -s 10.9.0.1 -o save").status, 1);
        assert_eq!(entries::count(namespace), 3000);
        assert_eq!(full("-F").status, 0);
        assert_eq!(entries::count(namespace), 0);
    });
}

#[test]
fn case_22_lines_of_a_load_file_are_all_carried_out() {
    Namespace::run(|namespace| {
        let file = namespace.directory().join("lines");
        let lines = "-D -s 10.0.0.1\n-D -s 10.0.0.2 -o xml\n-U -s 10.0.0.3 -m 5\n\
                     -I -t 600 -s 10.8.0.1 -d 10.8.0.2 -p udp --sport 1 --dport 2\n-D -s 10.0.0.4\n";
        std::fs::write(&file, lines).expect("a file");
        for redirection in [">/dev/full", ">&-"] {
            fill(namespace, 10);
            let outcome = sh(&flowgate(), &format!("\"$F\" -R {} {redirection}", file.display()));
            must_say(&outcome, 1, "cannot write: ", redirection);
            let left = flowgate().must(&["-L", "-o", "save"]);
            assert_eq!(left.lines().count(), 8, "{redirection}: 10 and 1 less 3\n{left}");
            assert!(left.contains("10.8.0.1"), "{left}");
            assert_eq!(flowgate().must(&["-L", "-m", "5"]).lines().count(), 1);
            flowgate().must(&["-F"]);
        }
    });
}

#[test]
fn case_22_counters_are_zeroed_to_the_end() {
    Namespace::run(|namespace| {
        namespace.account(true);
        let _traffic = Traffic::everything(namespace);
        let bytes = || {
            let text = flowgate().must(&["-L"]);
            text.lines().filter(|line| line.contains("packets=") && !line.contains("packets=0 bytes=0")).count()
        };
        assert!(bytes() > 0, "there is something to be zeroed");
        let outcome = sh(&flowgate(), "\"$F\" -L -z >/dev/full");
        must_say(&outcome, 1, "cannot write: ", "-L -z");
        assert_eq!(bytes(), 0);
    });
}

/// The same with actions of plugins, and with the sinks of a pipeline file, each of which fails independently.
#[test]
fn case_22_pipelines_act_to_the_end() {
    Namespace::run(|namespace| {
        fill(namespace, 3000);
        let other = namespace.directory().join("other.log");
        let text = format!(
            "[source]\nkind = \"dump\"\nselect = \"-p udp\"\n[[stage]]\nstock = \"delete\"\n\
             [[sink]]\nkind = \"file\"\npath = \"/dev/full\"\n[[sink]]\nkind = \"file\"\npath = \"{}\"\n",
            other.display()
        );
        let file = namespace.directory().join("pipeline.toml");
        std::fs::write(&file, text).expect("a file");
        let outcome = flowgate().run(&["run", &file.display().to_string()]);
        must_say(&outcome, 1, "cannot write /dev/full: No space left on device", "a full file");
        assert_eq!(entries::count(namespace), 0);
        let shown = std::fs::read_to_string(&other).expect("the other sink");
        assert_eq!(shown.lines().count(), 3000, "the other sink gets everything");
    });
}

#[test]
fn case_22_a_file_on_a_full_disk() {
    Namespace::run(|namespace| {
        let disk = namespace.directory().join("disk");
        std::fs::create_dir(&disk).expect("a directory");
        Program::new("mount").must(&["-t", "tmpfs", "-o", "size=64k", "tmpfs", &disk.display().to_string()]);
        fill(namespace, 3000);
        let outcome = sh(&flowgate(), &format!("\"$F\" -D -p udp >{}/log", disk.display()));
        let left = entries::count(namespace);
        Program::new("umount").must(&[&disk.display().to_string()]);
        must_say(&outcome, 1, "cannot write: No space left on device", "a full disk");
        assert_eq!(left, 0);
    });
}

#[test]
fn case_22_what_only_lists_ends_where_it_cannot_be_shown() {
    Namespace::run(|namespace| {
        fill(namespace, 3000);
        for words in ["-L", "-L -o xml", "-G -p udp -s 10.0.0.1 -d 198.51.100.1 --sport 4000 --dport 53", "-C", "-S"] {
            for (redirection, reason) in &HINDRANCES {
                let outcome = sh(&flowgate(), &format!("\"$F\" {words} {redirection}"));
                must_say(&outcome, 1, reason, &format!("{words} {redirection}"));
            }
        }
        for words in ["-h", "-V", "run --help", "man", "completions bash", "doctor"] {
            let outcome = sh(&flowgate(), &format!("\"$F\" {words} >/dev/full"));
            must_say(&outcome, 1, "cannot write: No space left on device", words);
        }
        assert_eq!(entries::count(namespace), 3000);
    });
}

/// Starts a line of sh with its output in a pipe, reads the first bytes, and closes the pipe.
fn with_reader_that_leaves(program: &Program, line: &str) -> Outcome {
    let mut command = Program::new("sh").command(&["-c", line]);
    command.env("F", &program.path).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("sh");
    let mut pipe = child.stdout.take().expect("a pipe");
    pipe.read_exact(&mut [0; 100]).expect("the first line");
    drop(pipe);
    let output = child.wait_with_output().expect("its end");
    Outcome { stdout: output.stdout, stderr: output.stderr, status: shell_status(output.status) }
}

#[test]
fn case_23_sigpipe_stays_ignored_if_it_was() {
    Namespace::run(|namespace| {
        for program in [flowgate(), as_conntrack(namespace)] {
            fill(namespace, 3000);
            let outcome = with_reader_that_leaves(&program, "trap '' PIPE; exec \"$F\" -D -p udp");
            must_say(&outcome, 1, "cannot write: Broken pipe", "-D");
            assert_eq!(entries::count(namespace), 0);
            fill(namespace, 3000);
            let outcome = with_reader_that_leaves(&program, "trap '' PIPE; exec \"$F\" -L");
            must_say(&outcome, 1, "cannot write: Broken pipe", "-L");
            // Like every program that does not handle the signal.
            for words in ["-L", "-L -o xml"] {
                let outcome = with_reader_that_leaves(&program, &format!("exec \"$F\" {words}"));
                assert_eq!((outcome.status, outcome.errors()), (141, String::new()), "{words}");
            }
            program.must(&["-F"]);
        }
    });
}

/// Returns both ends of a socket. Writing to the second does not block; its buffer is small.
fn pair() -> (UnixStream, OwnedFd) {
    let (reader, writer) = UnixStream::pair().expect("a pair of sockets");
    writer.set_nonblocking(true).expect("O_NONBLOCK");
    (reader, writer.into())
}

#[test]
fn case_24_output_that_does_not_block_is_waited_for() {
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::busy(20_000));
        let (mut reader, writer) = pair();
        let mut command = flowgate().command(&["-L"]);
        command.stdin(Stdio::null()).stdout(Stdio::from(writer)).stderr(Stdio::piped());
        let child = command.spawn().expect("flowgate");
        drop(command);
        let text = read_slowly(&mut reader);
        let output = child.wait_with_output().expect("its end");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        assert_eq!(text.lines().count(), 20_000);
        assert!(errors.contains("20000 flow entries have been shown."), "{errors}");
    });
}

/// Reads in parts, pausing before each of the first 20.
fn read_slowly(reader: &mut UnixStream) -> String {
    let mut text = Vec::new();
    let mut part = vec![0; 64 << 10];
    for number in 0.. {
        if number < 20 {
            std::thread::sleep(Duration::from_millis(10));
        }
        match reader.read(&mut part).expect("a socket") {
            0 => break,
            count => text.extend_from_slice(&part[..count]),
        }
    }
    String::from_utf8(text).expect("UTF-8")
}

#[test]
fn case_24_holds_for_standard_error_and_for_files() {
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::busy(20_000));
        let (mut reader, writer) = pair();
        // Both are the same socket: the summary is written while the last lines are still in its buffer.
        let mut command = flowgate().command(&["-L", "-o", "save"]);
        let errors = Stdio::from(writer.try_clone().expect("a descriptor"));
        command.stdin(Stdio::null()).stdout(Stdio::from(writer)).stderr(errors);
        let mut child: Child = command.spawn().expect("flowgate");
        drop(command);
        let text = read_slowly(&mut reader);
        assert!(child.wait().expect("its end").success());
        assert_eq!(text.lines().count(), 20_001, "all lines, and the summary behind them");

        // The sink of a pipeline.
        let (mut reader, writer) = pair();
        let file = namespace.directory().join("pipeline.toml");
        let text = "[source]\nkind = \"dump\"\n[[sink]]\nkind = \"stdout\"\n";
        std::fs::write(&file, text).expect("a file");
        let mut command = flowgate().command(&["run", &file.display().to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::from(writer)).stderr(Stdio::null());
        let mut child = command.spawn().expect("flowgate");
        drop(command);
        let text = read_slowly(&mut reader);
        assert!(child.wait().expect("its end").success());
        assert_eq!(text.lines().count(), 20_000);
    });
}

#[test]
fn case_25_closed_output_is_an_error() {
    Namespace::run(|namespace| {
        fill(namespace, 1);
        for program in [flowgate(), as_conntrack(namespace)] {
            let outcome = sh(&program, "exec \"$F\" -L >&-");
            must_say(&outcome, 1, "cannot write: Bad file descriptor", "-L >&-");
            // With all three closed, no socket may get one of their numbers.
            let outcome = sh(&program, "exec \"$F\" -L <&- >&- 2>&-");
            assert_eq!(outcome.status, 1);
            // If there is nothing to write, closed descriptors do not matter.
            let outcome = sh(&program, "exec \"$F\" -L -p tcp <&- >&-");
            must_say(&outcome, 0, "0 flow entries have been shown.", "an empty listing");
        }
    });
}

#[test]
fn case_34_closed_descriptors_in_a_root_without_dev() {
    Namespace::run(|namespace| {
        fill(namespace, 1);
        let root = namespace.directory().join("root");
        std::fs::create_dir_all(root.join("bin")).expect("a directory");
        let copy = flowgate().copied_to(&root.join("bin"));
        let name = Path::new("/bin").join(copy.path.file_name().expect("a name"));
        for library in libraries(&copy.path) {
            let to = root.join(library.trim_start_matches('/'));
            std::fs::create_dir_all(to.parent().expect("a directory")).expect("a directory");
            copy_executable(Path::new(&library), &to);
        }
        let line = format!("exec chroot {} {} -L <&- 2>&-", root.display(), name.display());
        let outcome = sh(&flowgate(), &line);
        assert_eq!((outcome.status, outcome.text().lines().count()), (0, 1), "{}", outcome.errors());
        let line = format!("exec chroot {} {} -L <&- >&-", root.display(), name.display());
        must_say(&sh(&flowgate(), &line), 1, "cannot write: Bad file descriptor", "in a root without /dev");
    });
}

/// Returns the shared libraries of a program, including its loader.
fn libraries(program: &Path) -> Vec<String> {
    let output = Command::new("ldd").arg(program).output().expect("ldd");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let words = text.split_whitespace().filter(|word| word.starts_with('/'));
    words.map(str::to_owned).collect()
}

/// A terminal that answers no query, running the program: Ctrl-L, a change of its size, and then `q`.
const TERMINAL: &str = r#"
import fcntl, os, pty, select, signal, struct, sys, termios, time
child, terminal = pty.fork()
if child == 0:
    os.environ["TERM"] = "xterm"
    os.execv(sys.argv[1], [sys.argv[1], "top"])
def size(rows, columns):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
size(24, 80)
def until(what, *texts):
    def there():
        at = 0
        for text in texts:
            at = seen.find(text, at)
            if at < 0:
                return False
        return True
    seen, end = b"", time.time() + 60
    while not there():
        if time.time() > end:
            sys.exit(f"waited in vain for {what}: {seen!r}")
        if select.select([terminal], [], [], 1)[0]:
            try:
                seen += os.read(terminal, 65536)
            except OSError:
                sys.exit(f"it ended before {what}: {seen!r}")
until("the first picture", b"flowgate")
for _ in range(3):
    os.write(terminal, b"\x0c")
    until("a screen that is cleared and drawn as a whole", b"\x1b[2J", b"flowgate")
size(30, 100)
os.kill(child, signal.SIGWINCH)
until("the picture of another size", b"flowgate")
os.write(terminal, b"q")
while True:
    try:
        if not os.read(terminal, 65536):
            break
    except OSError:
        break
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"#;

#[test]
fn case_39_a_terminal_that_answers_no_query_is_drawn_again() {
    Namespace::run(|namespace| {
        fill(namespace, 3);
        let outcome = Program::new("python3").run(&["-c", TERMINAL, &flowgate().path.display().to_string()]);
        assert_eq!((outcome.status, outcome.text().as_str()), (0, "0\n"), "{}", outcome.errors());
    });
}
