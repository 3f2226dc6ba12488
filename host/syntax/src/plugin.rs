//! Parses the value of `--plugin`: a file and plugin options.
//!
//! `FILE[,name=value...]`. A backslash makes the next character ordinary; between double quotes every character except
//! the backslash and the closing quote is ordinary. A comma, a quote or a backslash can thus be part of a file name or
//! a value: `deny.wasm,networks="10.0.0.0/8,192.168.0.0/16"`. Names and values are UTF-8; a value may be empty and may
//! contain `=`. The value `@FILE` is replaced by the content of the file; `@@` at the beginning stands for a single
//! `@`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::environment::Environment;
use super::error::CliError;
use super::settings::PluginArgument;
use flowgate_base::io_error::error_text;
use flowgate_model::OptionValue;
use flowgate_model::{OnError, grants::Grants};

/// Parses the value of `--grant` and adds the grants to the last plugin.
pub fn add_grants(plugins: &mut [PluginArgument], value: &[u8]) -> Result<(), CliError> {
    let plugin = plugins.last_mut().ok_or(CliError::WithoutPlugin("grant"))?;
    let text = std::str::from_utf8(value).map_err(|_| CliError::PluginText(value.into()))?;
    for word in text.split(',').map(str::trim) {
        if word.is_empty() {
            let takes = "it takes grants such as delete,update.mark=0xff";
            let what = if text.trim() == word { "names no grant" } else { "has a comma without a grant beside it" };
            return Err(CliError::Grant(format!("'{text}' {what}; {takes}")));
        }
        plugin.grants.add(word).map_err(|error| CliError::Grant(error.to_string()))?;
    }
    Ok(())
}

/// Parses the value of `--on-error` and sets it for the last plugin.
pub fn set_on_error(plugins: &mut [PluginArgument], value: &[u8]) -> Result<(), CliError> {
    let plugin = plugins.last_mut().ok_or(CliError::WithoutPlugin("on-error"))?;
    let policy: Option<OnError> = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    plugin.on_error = policy.ok_or_else(|| CliError::OnErrorValue(value.into()))?;
    Ok(())
}

/// Returns the value of a plugin option: the text itself, or the content of a file.
fn resolve_value(name: &str, value: &str, environment: &dyn Environment) -> Result<String, CliError> {
    let Some(file) = value.strip_prefix('@') else { return Ok(value.to_owned()) };
    if file.starts_with('@') {
        return Ok(file.to_owned());
    }
    let wrong = |reason: String| CliError::PluginFile { option: name.to_owned(), file: file.as_bytes().into(), reason };
    let bytes = environment.read(file.as_bytes()).map_err(|error| wrong(error_text(&error)))?;
    String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8".to_owned()))
}

/// Parses the value of `--plugin`.
pub fn parse(text: &[u8], environment: &dyn Environment) -> Result<PluginArgument, CliError> {
    let mut parts = split(text)?.into_iter();
    let file = parts.next().filter(|file| !file.is_empty()).ok_or_else(|| CliError::PluginWithoutFile(text.into()))?;
    let mut options: Vec<OptionValue> = Vec::new();
    for part in parts {
        let wrong = || CliError::PluginOption { value: text.into(), option: part.as_slice().into() };
        let part_text = std::str::from_utf8(&part).map_err(|_| CliError::PluginText(text.into()))?;
        let (name, value) = part_text.split_once('=').ok_or_else(wrong)?;
        if name.is_empty() {
            return Err(wrong());
        }
        if options.iter().any(|option| option.name == name) {
            return Err(CliError::PluginOptionTwice { value: text.into(), option: name.to_owned() });
        }
        options.push(OptionValue::new(name, resolve_value(name, value, environment)?));
    }
    let file = PathBuf::from(OsString::from_vec(file));
    Ok(PluginArgument { file, options, grants: Grants::NONE, on_error: OnError::default() })
}

/// Splits at commas that are neither quoted nor escaped, and resolves quotes and escapes.
fn split(text: &[u8]) -> Result<Vec<Vec<u8>>, CliError> {
    let mut parts = Vec::new();
    let mut part = Vec::new();
    let mut quoted = false;
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            // A backslash at the end is ordinary.
            b'\\' => part.push(bytes.next().unwrap_or(b'\\')),
            b'"' => quoted = !quoted,
            b',' if !quoted => parts.push(std::mem::take(&mut part)),
            _ => part.push(byte),
        }
    }
    if quoted {
        return Err(CliError::PluginQuote(text.into()));
    }
    parts.push(part);
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::tests::FakeEnvironment;

    fn read(text: &str) -> Result<String, String> {
        let files = FakeEnvironment::with(&[("t", "1\n2\n")]);
        let spec = parse(text.as_bytes(), &files).map_err(|error| error.to_string())?;
        let options = spec.options.iter().map(|option| format!(" [{}]=[{}]", option.name, option.value));
        Ok(format!("{}{}", spec.file.display(), options.collect::<String>()))
    }

    #[test]
    fn options_follow_the_file() {
        assert_eq!(read("a.wasm").as_deref(), Ok("a.wasm"));
        assert_eq!(read("a.wasm,x=1,y=,z=a=b").as_deref(), Ok("a.wasm [x]=[1] [y]=[] [z]=[a=b]"));
    }

    #[test]
    fn commas_can_be_quoted_or_escaped() {
        assert_eq!(read(r#"a,x="1,2",y=3"#).as_deref(), Ok("a [x]=[1,2] [y]=[3]"));
        assert_eq!(read(r"a,x=1\,2").as_deref(), Ok("a [x]=[1,2]"));
        assert_eq!(read(r#"a\,b,x=\"\\,"y=2""#).as_deref(), Ok(r#"a,b [x]=["\] [y]=[2]"#));
        assert_eq!(read(r#"a,x="1\"2""#).as_deref(), Ok(r#"a [x]=[1"2]"#));
        assert_eq!(read(r"a,x=1\").as_deref(), Ok(r"a [x]=[1\]"));
    }

    #[test]
    fn values_come_from_files() {
        assert_eq!(read("a,x=@t").as_deref(), Ok("a [x]=[1\n2\n]"));
        assert_eq!(read("a,x=@@t,y=a@b").as_deref(), Ok("a [x]=[@t] [y]=[a@b]"));
    }

    #[test]
    fn grants_and_policies_apply_to_the_plugin_before_them() {
        let plugin = |text: &[u8]| parse(text, &FakeEnvironment::default()).unwrap();
        let mut plugins = vec![plugin(b"a"), plugin(b"b")];
        add_grants(&mut plugins, b"delete,update.mark=1").unwrap();
        add_grants(&mut plugins, b"log").unwrap();
        set_on_error(&mut plugins, b"skip").unwrap();
        assert_eq!(plugins[0].grants, Grants::NONE);
        assert_eq!(plugins[1].grants.to_string(), "delete,update.mark=0x1,log");
        assert_eq!((plugins[0].on_error, plugins[1].on_error), (OnError::Stop, OnError::Skip));
        assert!(add_grants(&mut [], b"delete").unwrap_err().to_string().contains("give --plugin FILE first"));
        assert!(
            add_grants(&mut plugins, b"fly").unwrap_err().to_string().starts_with("--grant: there is no grant `fly`")
        );
        for (empty, expected) in [
            ("", "names no grant"),
            (" ", "names no grant"),
            (",", "a comma without a grant"),
            (", ,", "a comma without a grant"),
            ("delete,", "a comma without a grant"),
            (",delete", "a comma without a grant"),
            ("delete,,log", "a comma without a grant"),
        ] {
            let error = add_grants(&mut plugins, empty.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(expected), "{empty}: {error}");
        }
        assert!(set_on_error(&mut plugins, b"x").unwrap_err().to_string().contains("not one of skip, drop and stop"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |text: &str| read(text).expect_err("is wrong");
        assert_eq!(wrong(""), "no file in '' with --plugin option, it takes FILE[,name=value...]");
        assert_eq!(wrong(",x=1"), "no file in ',x=1' with --plugin option, it takes FILE[,name=value...]");
        assert!(wrong("a,x").starts_with("'x' in 'a,x' with --plugin option is not of the form name=value"));
        assert_eq!(wrong("a,x=1,x=2"), "option 'x' is given twice in 'a,x=1,x=2' with --plugin option");
        assert!(wrong("a,").starts_with("'' in 'a,'"));
        assert!(wrong("a,=1").starts_with("'=1' in 'a,=1'"));
        assert!(wrong("a,x=\"1").starts_with("no closing '\"' in 'a,x=\"1'"));
        assert!(parse(b"a,x=\xff", &FakeEnvironment::default()).is_err());
        assert!(wrong("a,x=@none").starts_with("cannot read 'none', the value of the option 'x'"));
    }
}
