//! One line of output, split into the part that must be equal and the times that change between two calls.

/// A line of `-L`, in any of the formats.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Line {
    /// The line with `~` in place of each changing time, and otherwise unchanged.
    pub rest: String,
    /// The changing times in seconds, in order of position.
    pub times: Vec<u64>,
}

impl Line {
    /// Extracts the changing times from a line; a line of unknown format is left as it is.
    pub(super) fn new(line: &str) -> Self {
        if line.starts_with("<flow") {
            return Self::take(line, &[after(line, "<timeout>"), after(line, "<deltatime>")]).without_clock();
        }
        if ["-A ", "-D ", "-U "].iter().any(|prefix| line.starts_with(prefix)) {
            return Self::take(line, &[line[3..].starts_with("-t ").then_some(6)]);
        }
        if let Some(at) = expectation(line) {
            let clock = line.starts_with('[').then_some(1);
            let mut taken = Self::take(line, &[clock, Some(at)]);
            if clock.is_some() {
                // `[~.MICROS]`: six columns, padded with spaces on the right.
                let digits = taken.rest[3..9].trim_end_matches(' ');
                if digits.bytes().all(|byte| byte.is_ascii_digit()) {
                    taken.rest.replace_range(3..9, "~");
                }
            }
            return taken;
        }
        // `[LAYER-3 NUMBER ]LAYER-4 NUMBER TIMEOUT `: names are padded to eight columns.
        let start = if ["ipv4     2 ", "ipv6     10 "].iter().any(|family| line.starts_with(family)) {
            9 + line[9..].find(' ').unwrap_or(0) + 1
        } else {
            0
        };
        let timeout = line.get(start + 9..).and_then(|tail| Some(start + 9 + tail.find(' ')? + 1));
        Self::take(line, &[timeout, after(line, " delta-time=")])
    }

    /// Extracts the decimal numbers that start at the given positions, which must be in ascending order.
    fn take(line: &str, places: &[Option<usize>]) -> Self {
        let (mut rest, mut times, mut done) = (String::with_capacity(line.len()), Vec::new(), 0);
        for place in places.iter().flatten() {
            let digits = line[*place..].bytes().take_while(u8::is_ascii_digit).count();
            if let Ok(number) = line[*place..place + digits].parse() {
                rest.push_str(&line[done..*place]);
                rest.push('~');
                times.push(number);
                done = place + digits;
            }
        }
        rest.push_str(&line[done..]);
        Self { rest, times }
    }

    /// Extracts the XML timestamp `<when><hour>0</hour> ... <year>2026</year></when>` as one time.
    ///
    /// Its numbers are replaced by `~`. A timestamp of another format, or whose weekday does not match its date, is
    /// left as it is.
    fn without_clock(mut self) -> Self {
        let Some(start) = self.rest.find("<when>") else { return self };
        let Some(length) = self.rest[start..].find("</when>") else { return self };
        let clock = &self.rest[start..start + length];
        let number = |name: &str| {
            let text = &clock[after(clock, &format!("<{name}>"))?..];
            text[..text.find('<')?].parse::<i64>().ok()
        };
        let names = ["hour", "min", "sec", "wday", "day", "month", "year"];
        let [Some(hour), Some(minute), Some(second), Some(weekday), Some(day), Some(month), Some(year)] =
            names.map(number)
        else {
            return self;
        };
        // Days since 1970-01-01, a Thursday, in the Gregorian calendar; years start in March here.
        let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 719_469;
        if (days + 4).rem_euclid(7) + 1 != weekday {
            return self;
        }
        let Ok(time) = u64::try_from(days * 86_400 + hour * 3_600 + minute * 60 + second) else { return self };
        let shape = names.iter().map(|name| format!("<{name}>~</{name}>")).collect::<String>();
        let expected = clock.split(|c: char| c.is_ascii_digit()).filter(|part| !part.is_empty()).collect::<Vec<_>>();
        if expected.join("~") != format!("<when>{shape}") {
            return self;
        }
        self.rest.replace_range(start..start + length, &format!("<when>{shape}"));
        self.times.push(time);
        self
    }

    /// Returns true if this line surrounds the flows, such as the head of an XML document.
    pub(super) fn frames(&self) -> bool {
        self.rest.starts_with('<') && !self.rest.starts_with("<flow")
    }
}

/// Returns the position after `what`.
fn after(line: &str, what: &str) -> Option<usize> {
    line.find(what).map(|at| at + what.len())
}

/// Returns the position of an expectation's timeout: `[CLOCK\t]TIMEOUT proto=`.
fn expectation(line: &str) -> Option<usize> {
    let at = if line.starts_with('[') { line.find('\t')? + 1 } else { 0 };
    let tail = line[at..].trim_start_matches(|character: char| character.is_ascii_digit());
    (tail.len() < line.len() - at && tail.starts_with(" proto=")).then_some(at)
}

/// What [`Line`] extracts, and what it must not extract.
#[test]
fn only_times_are_taken_out() {
    for (line, rest, times) in [
        (
            "udp      17 29 src=1.1.1.1 mark=0 delta-time=7 use=1",
            "udp      17 ~ src=1.1.1.1 mark=0 delta-time=~ use=1",
            vec![29, 7],
        ),
        ("ipv6     10 icmpv6   58 9 src=::1 type=128", "ipv6     10 icmpv6   58 ~ src=::1 type=128", vec![9]),
        ("udp      17 src=1.1.1.1", "udp      17 src=1.1.1.1", vec![]),
        ("unknown  255 599 src=1.1.1.1", "unknown  255 ~ src=1.1.1.1", vec![599]),
        ("-A -t 598 -u UNSET -s 1.1.1.1", "-A -t ~ -u UNSET -s 1.1.1.1", vec![598]),
        ("-A -u UNSET -s 1.1.1.1", "-A -u UNSET -s 1.1.1.1", vec![]),
        (
            "<flow><timeout>5</timeout><mark>1</mark><deltatime>6</deltatime></flow>",
            "<flow><timeout>~</timeout><mark>1</mark><deltatime>~</deltatime></flow>",
            vec![5, 6],
        ),
        (
            "<flow><timeout>5</timeout><when><hour>23</hour><min>59</min><sec>58</sec><wday>2</wday><day>30</day>\
             <month>11</month><year>2026</year></when></flow>",
            "<flow><timeout>~</timeout><when><hour>~</hour><min>~</min><sec>~</sec><wday>~</wday><day>~</day>\
             <month>~</month><year>~</year></when></flow>",
            vec![5, 1_796_083_198],
        ),
        // One day and one second later, a Tuesday.
        (
            "<flow><when><hour>0</hour><min>0</min><sec>0</sec><wday>3</wday><day>1</day><month>12</month>\
             <year>2026</year></when></flow>",
            "<flow><when><hour>~</hour><min>~</min><sec>~</sec><wday>~</wday><day>~</day><month>~</month>\
             <year>~</year></when></flow>",
            vec![1_796_083_200],
        ),
        (
            "<flow><when><hour>0</hour><min>0</min><sec>0</sec><wday>4</wday><day>1</day><month>12</month>\
             <year>2026</year></when></flow>",
            "<flow><when><hour>0</hour><min>0</min><sec>0</sec><wday>4</wday><day>1</day><month>12</month>\
             <year>2026</year></when></flow>",
            vec![],
        ),
        ("299 proto=17 src=1.1.1.1", "~ proto=17 src=1.1.1.1", vec![299]),
        ("[1795480090.41579 ]\t299 proto=17", "[~.~]\t~ proto=17", vec![1795480090, 299]),
        ("[1795480090.4 579 ]\t299 proto=17", "[~.4 579 ]\t~ proto=17", vec![1795480090, 299]),
    ] {
        assert_eq!(Line::new(line), Line { rest: rest.into(), times }, "{line}");
    }
}
