//! A terminal of tmux, with a shell that runs a command in it and then prints the state in which the command left the
//! terminal.

use flowgate_test_support::{Namespace, until_or_explain};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

/// A terminal with a running command. Its tmux server ends when this is dropped.
pub(crate) struct Terminal {
    socket: PathBuf,
}

impl Terminal {
    /// Starts a command with words separated by blanks, in a terminal of 130 columns and 30 lines in the namespace.
    pub(crate) fn start(namespace: &Namespace, command: &str) -> Self {
        Self::of_width(namespace, command, 130)
    }

    /// The same with another number of columns.
    pub(crate) fn of_width(namespace: &Namespace, command: &str, columns: u16) -> Self {
        flowgate_test_support::program::must_heed_signals();
        // A server may still be ending while the next one begins.
        static TERMINALS: AtomicU32 = AtomicU32::new(0);
        let number = TERMINALS.fetch_add(1, Ordering::Relaxed);
        let terminal = Self { socket: namespace.directory().join(format!("tmux{number}")) };
        // `stty` prints `icanon` in the usual line mode, and `-icanon` in raw mode.
        let shell =
            format!("echo before; {command}; echo status=$?; stty -a | grep -o -- '-\\?icanon'; exec sleep 1000");
        let columns = columns.to_string();
        let size = ["-x", &columns, "-y", "30"];
        terminal.tmux(&[&["-f", "/dev/null", "new-session", "-d"], &size[..], &["sh", "-c", &shell]].concat());
        terminal
    }

    fn tmux(&self, words: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command
            .env_remove("TMUX")
            .env("TERM", "xterm-256color")
            .env("LC_ALL", "C.UTF-8")
            .arg("-u")
            .arg("-S")
            .arg(&self.socket);
        let output = command
            .args(words)
            .output()
            .unwrap_or_else(|error| panic!("tmux cannot be run: {error}; apt-get install tmux"));
        assert!(output.status.success(), "tmux {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Presses keys, by their names in tmux.
    pub(crate) fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Resizes the terminal.
    pub(crate) fn resize(&self, width: u16, height: u16) {
        self.tmux(&["resize-window", "-x", &width.to_string(), "-y", &height.to_string()]);
    }

    /// Returns the content of the screen.
    pub(crate) fn picture(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Returns the content of the screen with its colours, as escape sequences.
    pub(crate) fn colored_picture(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    /// Waits until the screen is as wanted, and returns its content.
    pub(crate) fn until(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let picture = std::cell::RefCell::new(String::new());
        let is_wanted = || {
            picture.replace(self.picture());
            wanted(&picture.borrow())
        };
        until_or_explain(what, is_wanted, || format!("this is on the screen:\n{}", picture.borrow()));
        picture.into_inner()
    }

    /// Waits until all of these words are on the screen.
    pub(crate) fn shows(&self, words: &[&str]) -> String {
        self.until(&format!("{words:?} are shown"), |picture| words.iter().all(|word| picture.contains(word)))
    }

    /// Sends a signal to the command.
    pub(crate) fn signal(&self, signal: Signal) {
        let shell = self.tmux(&["list-panes", "-F", "#{pane_pid}"]);
        let shell = shell.trim();
        let children =
            std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).expect("the shell's children");
        let command = children.split_whitespace().next().expect("the command runs").parse().expect("a number");
        kill(Pid::from_raw(command), signal).expect("sending a signal");
    }

    /// Waits until the command has ended and the terminal is restored.
    pub(crate) fn is_given_back(&self, status: i32) {
        let picture = self.shows(&["before", &format!("status={status}"), "icanon"]);
        assert!(!picture.contains("-icanon"), "the terminal is still raw:\n{picture}");
        assert!(!picture.contains("flowgate top"), "the screen of before is back:\n{picture}");
        assert_eq!(self.tmux(&["display-message", "-p", "#{cursor_flag}"]).trim(), "1", "the cursor is visible");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Fails if the server has already ended.
        let _ = Command::new("tmux").arg("-S").arg(&self.socket).arg("kill-server").output();
    }
}
