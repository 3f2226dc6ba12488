//! Arbitrary texts as the description of a plugin: descriptions that are too long or too many are rejected, others are
//! compared with the given options. Memory and time are proportional to the texts, and no message contains terminal
//! escapes or hidden characters.

use flowgate_base::text;
use flowgate_model::{Description, OptionSpec, OptionValue, bounds, grants::Grants};
use flowgate_pipeline::loader::options;

use super::{input::Input, linear::linear};

/// Parts of texts: what descriptions consist of, and what a terminal interprets.
const PARTS: &[&str] = &[
    "bytes",
    "a-b",
    "BYTES",
    "delete",
    "update.mark=0xff",
    "update.nothing",
    "create.",
    "1",
    "=",
    ",",
    " ",
    "`",
    "\"",
    "\u{1b}]0;title\u{7}",
    "\u{1b}[31m",
    "\u{9b}2J",
    "\u{202e}",
    "\u{200b}",
    "\u{e0041}",
    "\n",
    "\r",
    "\0",
    "ä",
];

fn words(input: &mut Input<'_>) -> String {
    let mut words: String = (0..input.up_to(4)).map(|_| input.pick(PARTS)).collect();
    if input.one_in(6) {
        words.push_str(&String::from_utf8_lossy(&(0..input.up_to(5)).map(|_| input.byte()).collect::<Vec<_>>()));
    }
    if input.one_in(12) { words.repeat(input.up_to(5000)) } else { words }
}

/// Returns some items: usually few, occasionally more than allowed.
fn items<T>(input: &mut Input<'_>, item: fn(&mut Input<'_>) -> T) -> Vec<T> {
    let most = if input.one_in(12) { 300 } else { 4 };
    (0..input.up_to(most)).map(|_| item(input)).collect()
}

fn option(input: &mut Input<'_>) -> OptionSpec {
    OptionSpec {
        name: words(input),
        help: words(input),
        placeholder: words(input),
        default: input.one_in(2).then(|| words(input)),
        required: input.one_in(2),
    }
}

fn value(input: &mut Input<'_>) -> OptionValue {
    OptionValue::new(words(input), words(input))
}

/// Fails if a message has characters that a terminal would interpret.
fn clean(message: &str) {
    assert!(!message.is_empty() && text::line(message.as_bytes()) == message, "not escaped: {message:?}");
}

/// Checks a description derived from the input, and compares it with options.
///
/// # Panics
/// If one of these properties does not hold.
pub(crate) fn run(input: &[u8]) {
    let mut input = Input(input);
    let description = Description {
        name: words(&mut input),
        version: words(&mut input),
        summary: words(&mut input),
        options: items(&mut input, option),
        grants: items(&mut input, words),
        reads: input.bits(),
        more: items(&mut input, |input| input.bits() as u32),
        details: items(&mut input, value),
    };
    // Some of the described options, and others.
    let mut given: Vec<OptionValue> = (0..input.up_to(3)).map(|_| value(&mut input)).collect();
    for option in description.options.iter().take(input.up_to(3)) {
        given.push(OptionValue::new(&option.name, "1"));
    }
    let texts = |option: &OptionSpec| {
        option.name.len()
            + option.help.len()
            + option.placeholder.len()
            + option.default.as_ref().map_or(0, String::len)
    };
    let length = [&description.name, &description.version, &description.summary].map(String::len).iter().sum::<usize>()
        + description.options.iter().map(texts).sum::<usize>()
        + description.grants.iter().map(String::len).sum::<usize>()
        + description.details.iter().chain(&given).map(|value| value.name.len() + value.value.len()).sum::<usize>();
    if let Err(reason) = linear("bounds", length, || bounds::check_description(&description)) {
        return clean(&reason);
    }
    for problem in linear("problems", length, || options::problems("p.wasm", &description, &given)) {
        clean(&problem.to_string());
    }
    let all = linear("defaults", length, || options::with_defaults(&description, &given));
    assert!(all.len() <= description.options.len() + given.len(), "{all:?}");
    for grant in &description.grants {
        if let Err(error) = linear("grant", length, || grant.parse::<Grants>()) {
            clean(&error.to_string());
        }
    }
}
