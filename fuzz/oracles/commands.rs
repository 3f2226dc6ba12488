//! Arbitrary words as a command line, and arbitrary text as a file for `-R`: nothing panics, every error has a message,
//! and the cost of parsing is proportional to the input.

use std::{
    ffi::{OsStr, OsString},
    io::{self, BufRead, Cursor},
    os::unix::ffi::OsStringExt as _,
};

use flowgate_syntax::{Environment, LabelMap, Parsed, ProgramName, parse, split_line};

use super::{input::Input, linear::linear, text::text};

const EXAMPLES: &[&[u8]] = &[
    b"-L -p tcp --state ESTABLISHED --dport 443 -o extended,id,labels -s 10.0.0.0/8 -d 2001:db8::1/64\n",
    b"-I -t 10 -u SEEN_REPLY,ASSURED -s 1.1.1.1 -d 2.2.2.2 -p udp --sport 1 --dport 2 -n 3.3.3.3:1-2 -g 4.4.4.4 -m 0x1/0xff -w 7\n",
    b"-A -t 100 -u SEEN_REPLY -s 10.0.0.1 -d 10.0.0.2 -r 10.0.0.2 -q 10.0.0.1 -p tcp --sport 1 --dport 80 --state SYN_SENT -m 5 -l a,b\n",
    b"-U -p icmp --icmp-type 8 --icmp-code 0 --icmp-id 5 --label-add a --label-del b\n-D -f ipv6 -p gre --srckey 1 --dstkey 2\n",
    b"-I expect -s 1.1.1.1 -d 2.2.2.2 --tuple-src 1.1.1.1 --tuple-dst 2.2.2.2 --mask-src 255.255.255.0 -p tcp --sport 1 --dport 2 -t 10\n",
    b"-E -e NEW,DESTROY -b 2097152 --plugin a.wasm,x=1,y=\"a b\" --grant delete --on-error skip --netns a --batch 5\n# comment\n\n",
    b"-A -s 1.2.3.4 -d 5.6.7.8 -p sctp --orig-port-src 1 --orig-port-dst 2 --helper ftp --helper-info 00ff --secctx \"a b\" --seqadj\n",
];

const WORDS: &[&str] = &[
    "-L ",
    "-D ",
    "-I ",
    "-A ",
    "-U ",
    "-E ",
    "-F ",
    "-C ",
    "-S ",
    "-G ",
    "-V ",
    "-h ",
    "expect ",
    "dying ",
    "-p tcp ",
    "-p 999 ",
    "-o save,",
    "-l ",
    "--label-add ",
    "--zone ",
    "--orig-zone ",
    "--reply-zone ",
    "-R -\n",
    "-m 0x1/0x2 ",
    "-n 1.1.1.1:",
    "--any-nat ",
    "--src-nat=",
    "--plugin ",
    "--grant ",
    "--explain ",
    "--dry-run ",
    "--keep-going ",
    "a,b,c",
    "0.0.0.0/0",
    "::1/128",
    "[::1]:5",
    "1.1.1.1-1.1.1.2",
    "TIME_WAIT ",
    "ASSURED,",
    "\\\"",
    "\\\\",
    "[NEW] ",
    " [process x]",
    "# flowgate: ",
];

/// An environment whose only files are a label map and the file of `-R`.
struct Files<'a>(&'a [u8]);

impl Environment for Files<'_> {
    fn open(&self, name: &[u8]) -> io::Result<Box<dyn BufRead>> {
        match name {
            b"commands" => self.standard_input(),
            b"missing" => Err(io::ErrorKind::NotFound.into()),
            _ => Ok(Box::new(Cursor::new(b"0 a\n1 b\n127 z\n"))),
        }
    }

    fn standard_input(&self) -> io::Result<Box<dyn BufRead>> {
        Ok(Box::new(Cursor::new(self.0.to_vec())))
    }

    fn posixly_correct(&self) -> bool {
        self.0.len() % 2 == 1
    }
}

/// Fails if an error has no message.
fn said<T>(parsed: &Parsed<T>) {
    if let Err(error) = &parsed.result {
        assert!(!error.message().is_empty(), "{error:?}");
    }
}

/// Parses words and text derived from the input.
///
/// # Panics
/// If one of these properties does not hold.
pub(crate) fn run(input: &[u8]) {
    let mut input = Input(input);
    let (name, behind) = (input.pick(&["conntrack", "flowgate"]), input.up_to(3));
    let bytes = text(&mut input, EXAMPLES, WORDS);
    let (name, files) = (ProgramName::of(OsStr::new(name)), Files(&bytes));
    // Words are split at spaces, so they may contain any other character.
    let words: Vec<OsString> =
        bytes.split(|&byte| byte == b' ' || byte == b'\n').map(|word| OsString::from_vec(word.to_vec())).collect();
    said(&linear("words", bytes.len(), || parse(&name, &words, &files)));
    let behind = match behind {
        0 => &[][..],
        1 => &["--keep-going"],
        2 => &["--explain", "--keep-going"],
        _ => &["--dry-run"],
    };
    let words: Vec<OsString> = ["-R", "commands"].iter().chain(behind).map(OsString::from).collect();
    said(&linear("load file", bytes.len(), || parse(&name, &words, &files)));
    linear("lines", bytes.len(), || bytes.split(|&byte| byte == b'\n').map(split_line).filter(Result::is_ok).count());
    linear("labels", bytes.len(), || LabelMap::parse(&bytes));
}
