//! Which stock format shows the entries of a command, and with which options.

use super::table::Look;
use flowgate_model::OptionValue;
use flowgate_syntax::Output;

/// The stock format for what `-o` asks for, and its options.
pub(super) fn format(output: Output, look: Look) -> (&'static str, Vec<OptionValue>) {
    let mut options = Vec::new();
    let mut option = |name: &str, value: &str| options.push(OptionValue::new(name, value));
    let wants = |what: Output, allowed: bool| allowed && output.contains(what);
    let plugin = if output.contains(Output::JSON) {
        "json"
    } else if let Some(command) = look.save.filter(|_| output.contains(Output::SAVE)) {
        option("command", command);
        if output.contains(Output::COMPLETE) {
            option("complete", "true");
        }
        "save"
    } else if output.contains(Output::XML) {
        option("header", if look.header { "true" } else { "false" });
        option("footer", if look.footer { "true" } else { "false" });
        "xml"
    } else {
        for (what, name) in [(Output::EXTENDED, "extended"), (Output::ID, "id")] {
            if output.contains(what) {
                option(name, "true");
            }
        }
        "text"
    };
    if matches!(plugin, "xml" | "text") {
        if wants(Output::TIMESTAMP, look.time) {
            option("timestamp", "true");
        }
        if wants(Output::KERNEL_TIMESTAMP, look.kernel_times) {
            option("ktimestamp", "true");
        }
    }
    (plugin, options)
}
