//! `--set NAME=VALUE`: a device's parameters on the command line.

use std::collections::BTreeSet;

use clap::Args;
use serde_json::{Map, Value};
use understudy_catalog::Device;

use crate::config::expected;
use crate::failure::Failure;

/// A device's parameters.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct SetArgs {
    /// A parameter of the device, such as `part=c3xxx`: a value in JSON, or else text. Can be given
    /// several times. The parameters are in `understudy schema config`.
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
    set: Vec<Setting>,
}

#[derive(Debug, Clone)]
struct Setting {
    name: String,
    value: Value,
    /// As it was given.
    text: String,
}

fn setting(text: &str) -> Result<Setting, String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    // A word need not be in quotes, as JSON wants it.
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
    Ok(Setting { name: name.to_owned(), value, text: text.to_owned() })
}

impl SetArgs {
    pub(crate) fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// The parameters, tried on the device.
    pub(crate) fn of(&self, device: &Device) -> Result<Map<String, Value>, Failure> {
        let known = device.default_parameters();
        let known: Vec<&str> = match &known {
            Value::Object(known) => known.keys().map(String::as_str).collect(),
            _ => Vec::new(),
        };
        let mut names = BTreeSet::new();
        for Setting { name, text, .. } in &self.set {
            if !known.contains(&name.as_str()) {
                let what = format!("{} has no parameter {name:?}", device.name);
                let remedy = format!("one of: {}", known.join(", "));
                return Err(Failure::usage(what, format!("--set {text}"), remedy));
            }
            if !names.insert(name) {
                let what = format!("{name} is set twice");
                return Err(Failure::usage(what, format!("--set {text}"), "set it once"));
            }
        }
        let pair = |setting: &Setting| (setting.name.clone(), setting.value.clone());
        let all: Map<String, Value> = self.set.iter().map(pair).collect();
        let Err(error) = device.build(all.clone().into()) else { return Ok(all) };
        // The one that is wrong by itself, if there is one: serde does not name it.
        let alone = self.set.iter().find_map(|setting| {
            let value: Map<String, Value> = [pair(setting)].into_iter().collect();
            let error = device.build(value.into()).err()?;
            Some((error.to_string(), format!("--set {}", setting.text)))
        });
        let (message, place) = alone.unwrap_or_else(|| (error.to_string(), self.words().join(" ")));
        let (what, remedy) = expected(&message);
        let default = || format!("see understudy schema config, {}", device.name);
        Err(Failure::usage(what, place, remedy.unwrap_or_else(default)))
    }

    /// The options again, as a shell takes them.
    pub(crate) fn words(&self) -> Vec<String> {
        self.set.iter().map(|setting| format!("--set {}", quoted(&setting.text))).collect()
    }

    /// The device and what is set, for people.
    pub(crate) fn name(&self, device: &Device) -> String {
        let texts = self.set.iter().map(|setting| setting.text.as_str());
        [device.name].into_iter().chain(texts).collect::<Vec<_>>().join(" ")
    }
}

/// As a shell takes it literally, and without quotes if it needs none.
pub(crate) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(texts: &[&str]) -> SetArgs {
        SetArgs { set: texts.iter().map(|text| setting(text).unwrap()).collect() }
    }

    #[test]
    fn values_are_json_or_else_text() {
        let device = understudy_catalog::find("qat").unwrap();
        let of = |texts: &[&str]| Value::from(set(texts).of(device).unwrap());
        assert_eq!(of(&[]), json!({}));
        let both = json!({ "part": "c3xxx", "mailbox_version": 1 });
        assert_eq!(of(&["part=c3xxx", "mailbox_version=1"]), both);
        assert_eq!(of(&[r#"part="c3xxx""#, "mailbox_version= 1 "]), both);
        assert!(setting("part").is_err());
    }

    #[test]
    fn what_is_wrong_is_told_with_what_would_be_right() {
        let line = |device: &str, texts: &[&str]| {
            let device = understudy_catalog::find(device).unwrap();
            set(texts).of(device).unwrap_err().to_string()
        };
        let lines = [
            line("qat", &["prat=c3xxx"]),
            line("qat", &["mailbox_version=9"]),
            line("qat", &["mailbox_version=1", "part=c4xxx"]),
            line("qat", &["mailbox_version=1", "mailbox_version=1"]),
            line("qat", &["mailbox_version="]),
            line("qat", &["=1"]),
            line("virtio-crypto", &["queue_size=1000", "data_queues=2"]),
            line("virtio-crypto", &["packed_queues=no"]),
            line("qaic", &["boot=[1]"]),
        ];
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn commands_survive_a_shell() {
        assert_eq!(quoted("/tmp/a.sock"), "/tmp/a.sock");
        assert_eq!(quoted("./server it's"), r"'./server it'\''s'");
        assert_eq!(quoted(""), "''");
        let words = set(&["part=c3xxx", r#"part="c3xxx""#]).words();
        assert_eq!(words, ["--set part=c3xxx", r#"--set 'part="c3xxx"'"#]);
    }
}
