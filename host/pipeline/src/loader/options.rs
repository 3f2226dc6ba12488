//! Options of plugins: checked against the plugin's description, and completed by its defaults.

use super::LoadPluginError;
use flowgate_base::text::clean;
use flowgate_model::{Description, OptionValue};

/// Returns the options in effect: the plugin's defaults, then the given ones.
#[must_use]
pub fn with_defaults(description: &Description, given: &[OptionValue]) -> Vec<OptionValue> {
    let defaults = description.options.iter().filter_map(|spec| {
        let default = spec.default.clone()?;
        let chosen = given.iter().any(|option| option.name == spec.name);
        (!chosen).then(|| OptionValue::new(&spec.name, default))
    });
    defaults.chain(given.iter().cloned()).collect()
}

/// Returns all problems of the given options: unknown ones and missing ones.
#[must_use]
pub fn problems(plugin: &str, description: &Description, given: &[OptionValue]) -> Vec<LoadPluginError> {
    let unknown = given
        .iter()
        .enumerate()
        .filter(|(_, option)| !description.options.iter().any(|spec| spec.name == option.name))
        .map(|(index, option)| {
            (Some(index), format!("it has no option `{}`; {}", clean(&option.name), known(description)))
        });
    let missing = description
        .options
        .iter()
        .filter(|spec| spec.required && spec.default.is_none() && !given.iter().any(|option| option.name == spec.name))
        .map(|spec| {
            let (name, placeholder, help) = (clean(&spec.name), clean(&spec.placeholder), clean(&spec.help));
            (None, format!("it needs the option `{name}={placeholder}` ({help})"))
        });
    let plugin = || plugin.to_string();
    unknown
        .chain(missing)
        .map(|(index, problem)| LoadPluginError::Option { plugin: plugin(), index, problem })
        .collect()
}

/// Returns the plugin's options as a sentence.
fn known(description: &Description) -> String {
    if description.options.is_empty() {
        return "it has none".into();
    }
    let list: Vec<String> = description
        .options
        .iter()
        .map(|spec| format!("{}={} ({})", clean(&spec.name), clean(&spec.placeholder), clean(&spec.help)))
        .collect();
    format!("it has {}", list.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowgate_model::OptionSpec;

    fn described() -> Description {
        let spec = |name: &str, default: Option<&str>, required| OptionSpec {
            name: name.into(),
            placeholder: "N".into(),
            help: "a number".into(),
            default: default.map(Into::into),
            required,
        };
        Description { options: vec![spec("a", Some("1"), false), spec("b", None, true)], ..Description::default() }
    }

    fn given(options: &[(&str, &str)]) -> Vec<OptionValue> {
        options.iter().map(|(name, value)| OptionValue::new(*name, *value)).collect()
    }

    #[test]
    fn defaults_complete_what_is_given() {
        assert_eq!(with_defaults(&described(), &given(&[("b", "2")])), given(&[("a", "1"), ("b", "2")]));
        assert_eq!(with_defaults(&described(), &given(&[("a", "3")])), given(&[("a", "3")]));
    }

    #[test]
    fn all_that_is_wrong_is_found() {
        assert!(problems("x", &described(), &given(&[("b", "")])).is_empty());
        let found: Vec<String> =
            problems("x", &described(), &given(&[("c", "1")])).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "plugin x: it has no option `c`; it has a=N (a number), b=N (a number)",
                "plugin x: it needs the option `b=N` (a number)"
            ]
        );
    }
}
