//! The value of `--plugin`: a file, then options.
//!
//! `FILE[,name=value...]`. A backslash makes the next character an ordinary one, and double quotes do so for all between
//! them (but for the backslash and the closing quote), so that a comma, a quote or a backslash can be part of a file
//! name or a value: `deny.wasm,networks="10.0.0.0/8,192.168.0.0/16"`. Names and values are UTF-8; a value may be empty
//! and may contain `=`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::error::CliError;
use super::settings::PluginSpec;
use crate::model::OptionValue;

/// Reads the value.
pub fn parse(text: &[u8]) -> Result<PluginSpec, CliError> {
    let mut parts = split(text)?.into_iter();
    let file = parts.next().filter(|file| !file.is_empty()).ok_or_else(|| CliError::PluginWithoutFile(text.into()))?;
    let mut options = Vec::new();
    for part in parts {
        let wrong = || CliError::PluginOption { value: text.into(), option: part.as_slice().into() };
        let content = std::str::from_utf8(&part).map_err(|_| CliError::PluginText(text.into()))?;
        let (name, value) = content.split_once('=').ok_or_else(wrong)?;
        if name.is_empty() {
            return Err(wrong());
        }
        options.push(OptionValue { name: name.to_owned(), value: value.to_owned() });
    }
    Ok(PluginSpec { file: PathBuf::from(OsString::from_vec(file)), options })
}

/// Splits at the commas that are neither quoted nor escaped, and resolves quotes and escapes.
fn split(text: &[u8]) -> Result<Vec<Vec<u8>>, CliError> {
    let mut parts = Vec::new();
    let mut part = Vec::new();
    let mut quoted = false;
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            // A backslash at the very end stands for itself.
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

    fn read(text: &str) -> Result<String, String> {
        let spec = parse(text.as_bytes()).map_err(|error| error.to_string())?;
        let options = spec.options.iter().map(|option| format!(" [{}]=[{}]", option.name, option.value));
        Ok(format!("{}{}", spec.file.display(), options.collect::<String>()))
    }

    #[test]
    fn options_follow_the_file() {
        assert_eq!(read("a.wasm").as_deref(), Ok("a.wasm"));
        assert_eq!(read("a.wasm,x=1,y=,x=a=b").as_deref(), Ok("a.wasm [x]=[1] [y]=[] [x]=[a=b]"));
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
    fn what_is_wrong_is_named() {
        let wrong = |text: &str| read(text).expect_err("is wrong");
        assert_eq!(wrong(""), "no file in '' with --plugin option, it takes FILE[,name=value...]");
        assert_eq!(wrong(",x=1"), "no file in ',x=1' with --plugin option, it takes FILE[,name=value...]");
        assert!(wrong("a,x").starts_with("'x' in 'a,x' with --plugin option is not of the form name=value"));
        assert!(wrong("a,").starts_with("'' in 'a,'"));
        assert!(wrong("a,=1").starts_with("'=1' in 'a,=1'"));
        assert!(wrong("a,x=\"1").starts_with("no closing '\"' in 'a,x=\"1'"));
        assert!(parse(b"a,x=\xff").is_err());
    }
}
