//! A terminal of tmux, with a shell that runs a command in it and then prints the state in which the command left the
//! terminal.

use flowgate_test_support::{Namespace, until_or_explain};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{path::PathBuf, process::Command};

/// A terminal with a running command. Its tmux server ends when this is dropped.
pub(super) struct Terminal {
    socket: PathBuf,
}

impl Terminal {
    /// Starts a command with words separated by blanks, in a terminal of 130 columns and 30 lines in the namespace.
    pub(super) fn start(namespace: &Namespace, command: &str) -> Self {
        flowgate_test_support::program::must_heed_signals();
        let terminal = Self { socket: namespace.directory().join("tmux") };
        // `stty` prints `icanon` in the usual line mode, and `-icanon` in raw mode.
        let shell =
            format!("echo before; {command}; echo status=$?; stty -a | grep -o -- '-\\?icanon'; exec sleep 1000");
        let size = ["-x", "130", "-y", "30"];
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
    pub(super) fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Resizes the terminal.
    pub(super) fn resize(&self, width: u16, height: u16) {
        self.tmux(&["resize-window", "-x", &width.to_string(), "-y", &height.to_string()]);
    }

    /// Returns the content of the screen.
    pub(super) fn picture(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen is as wanted, and returns its content.
    pub(super) fn until(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let picture = std::cell::RefCell::new(String::new());
        let is_wanted = || {
            picture.replace(self.picture());
            wanted(&picture.borrow())
        };
        until_or_explain(what, is_wanted, || format!("this is on the screen:\n{}", picture.borrow()));
        picture.into_inner()
    }

    /// Waits until all of these words are on the screen.
    pub(super) fn shows(&self, words: &[&str]) -> String {
        self.until(&format!("{words:?} are shown"), |picture| words.iter().all(|word| picture.contains(word)))
    }

    /// Sends a signal to the command.
    pub(super) fn signal(&self, signal: Signal) {
        let shell = self.tmux(&["list-panes", "-F", "#{pane_pid}"]);
        let shell = shell.trim();
        let children =
            std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).expect("the shell's children");
        let command = children.split_whitespace().next().expect("the command runs").parse().expect("a number");
        kill(Pid::from_raw(command), signal).expect("sending a signal");
    }

    /// Waits until the command has ended and the terminal is restored.
    pub(super) fn is_given_back(&self, status: i32) {
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
