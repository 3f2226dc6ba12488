//! The stock format for what `-o` asks for, and its options.

use flowgate_model::OptionValue;
use flowgate_pipeline::FormatSpec;
use flowgate_syntax::Output;

/// Details of a command's output that follow from the command, not from `-o`, as in conntrack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormatContext {
    /// True if XML has a root element.
    pub header: bool,
    /// True if that element is closed at the end.
    pub footer: bool,
    /// The command in front of each line of `-o save`: `A`, `D`, or `event` for one that depends on the event; `None`
    /// if `-o save` changes nothing.
    pub save: Option<&'static str>,
    /// True if labels are printed once a label map is loaded.
    pub labels: bool,
    /// True if times of the kernel are printed if they are asked for.
    pub kernel_times: bool,
    /// True if the current time is printed if it is asked for.
    pub time: bool,
}

/// Details of output with columns: `-o table`, `csv` and `tsv`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnOptions {
    /// The columns, with commas; `None` for the usual ones.
    pub columns: Option<String>,
    /// True if there are no headings.
    pub no_header: bool,
    /// The columns of the terminal; 0 if there is none.
    pub width: u16,
    /// True for colours.
    pub color: bool,
}

impl FormatContext {
    /// Of listed flows.
    pub const LISTING: Self =
        FormatContext { header: true, footer: true, save: Some("A"), labels: true, kernel_times: true, time: false };
    /// Of events of flows.
    pub const EVENTS: Self = FormatContext { save: Some("event"), time: true, ..Self::LISTING };
    /// Of expectations, listed or in events.
    pub const EXPECTATIONS: Self = FormatContext { save: None, time: true, ..Self::LISTING };

    /// Returns the stock format for what `-o` asks for; `columns` is for output with columns.
    #[must_use]
    pub fn format(self, output: Output, columns: &ColumnOptions) -> FormatSpec {
        let mut options = Vec::new();
        let mut option = |name: &str, value: &str| options.push(OptionValue::new(name, value));
        let wants = |what: Output, allowed: bool| allowed && output.contains(what);
        let name = if output.contains(Output::JSON) {
            "json"
        } else if output.contains(Output::COLUMNED) {
            columns.add_to(output, &mut option);
            "table"
        } else if let Some(command) = self.save.filter(|_| output.contains(Output::SAVE)) {
            option("command", command);
            if output.contains(Output::COMPLETE) {
                option("complete", "true");
            }
            "save"
        } else if output.contains(Output::XML) {
            option("header", if self.header { "true" } else { "false" });
            option("footer", if self.footer { "true" } else { "false" });
            "xml"
        } else {
            "text"
        };
        if matches!(name, "table" | "text") {
            for (what, name) in [(Output::EXTENDED, "extended"), (Output::ID, "id")] {
                if output.contains(what) {
                    option(name, "true");
                }
            }
        }
        if matches!(name, "xml" | "text" | "table") {
            if wants(Output::TIMESTAMP, self.time) {
                option("timestamp", "true");
            }
            if wants(Output::KERNEL_TIMESTAMP, self.kernel_times) {
                option("ktimestamp", "true");
            }
        }
        FormatSpec::Stock { name, options, labels: self.labels }
    }
}

impl ColumnOptions {
    /// Adds the options of the stock format `table` that differ from its defaults.
    pub fn add_to(&self, output: Output, option: &mut impl FnMut(&str, &str)) {
        if let Some((_, name)) =
            [(Output::CSV, "csv"), (Output::TSV, "tsv")].iter().find(|(of, _)| output.contains(*of))
        {
            option("output", name);
        }
        if let Some(columns) = &self.columns {
            option("columns", columns);
        }
        if self.no_header {
            option("header", "no");
        }
        if self.width > 0 {
            option("width", &self.width.to_string());
        }
        if self.color {
            option("color", "yes");
        }
    }
}
