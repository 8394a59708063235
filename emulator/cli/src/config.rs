//! The file behind `serve --config`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use understudy_catalog::{DEVICES, Device, find};

use crate::failure::Failure;
use crate::host::names;

/// Devices in one file at most.
const MAX_DEVICES: usize = 256;

/// Devices to serve from one process.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "understudy configuration")]
pub(crate) struct File<'a> {
    /// Where this file's schema is, for editors. Not read.
    #[serde(rename = "$schema")]
    #[expect(dead_code, reason = "accepted so that editors find the schema")]
    schema: Option<String>,
    /// Folder for the sockets of devices that name none, relative to this file.
    sockets: Option<PathBuf>,
    /// The devices, 1 to 256.
    #[serde(borrow)]
    #[schemars(length(min = 1, max = 256))]
    devices: Vec<Entry<'a>>,
}

/// One device.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Device", transform = parameters_by_device)]
struct Entry<'a> {
    /// Which device, as `understudy devices` lists it.
    #[schemars(schema_with = "device_names")]
    device: DeviceName,
    /// Its socket, relative to this file. Without it: `<name>.sock` in `sockets`.
    socket: Option<PathBuf>,
    /// A name of its own; by default that of the device, with a number from the second on.
    name: Option<String>,
    /// The device's parameters; those that are left out have their defaults.
    #[serde(borrow, default)]
    #[schemars(schema_with = "any_object")]
    parameters: Option<&'a RawValue>,
}

/// The name of a device that exists.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct DeviceName(&'static Device);

impl TryFrom<String> for DeviceName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let unknown = |error| format!("{error}, expected one of {}", names().join(", "));
        find(&name).map(Self).map_err(unknown)
    }
}

fn device_names(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "enum": names() })
}

fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object" })
}

/// Each device's own parameters.
fn parameters_by_device(schema: &mut Schema) {
    let rule = |device: &Device| {
        let mut parameters = device.parameter_schema();
        parameters.remove("$schema");
        serde_json::json!({
            "if": { "properties": { "device": { "const": device.name } } },
            "then": { "properties": { "parameters": parameters } },
        })
    };
    schema.insert("allOf".to_owned(), DEVICES.iter().map(rule).collect());
}

/// A device of a file, ready to be served.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) device: &'static Device,
    pub(crate) parameters: Value,
    pub(crate) socket: PathBuf,
}

/// Reads a file.
pub(crate) fn read(path: &Path) -> Result<Vec<Wanted>, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::usage("cannot read the configuration", path.display(), error))?;
    parse(&text, path)
}

fn parse(text: &str, path: &Path) -> Result<Vec<Wanted>, Failure> {
    let file: File<'_> =
        serde_json::from_str(text).map_err(|error| syntax(&error, path, (0, 0)))?;
    let count = file.devices.len();
    if !(1..=MAX_DEVICES).contains(&count) {
        let what = format!("{count} devices");
        return Err(Failure::usage(what, path.display(), format!("1 to {MAX_DEVICES} of them")));
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let sockets = file.sockets.map(|sockets| folder.join(sockets));
    let mut taken = BTreeSet::new();
    let mut wanted = Vec::new();
    for entry in &file.devices {
        let place = Place { text, path, entry };
        let socket = match (&entry.socket, &sockets) {
            (Some(socket), _) => folder.join(socket),
            (None, Some(sockets)) => unused(sockets, entry, &taken),
            (None, None) => {
                let what = format!("device {:?} has no socket", entry.device.0.name);
                return Err(Failure::usage(what, path.display(), "a socket, or a sockets folder"));
            }
        };
        if !taken.insert(socket.clone()) {
            let what = format!("socket {} is used twice", socket.display());
            return Err(Failure::usage(what, path.display(), "a socket for each device"));
        }
        wanted.push(Wanted { device: entry.device.0, parameters: place.parameters()?, socket });
    }
    Ok(wanted)
}

/// `<name>.sock`, or with a number if that is taken and no name was given.
fn unused(sockets: &Path, entry: &Entry<'_>, taken: &BTreeSet<PathBuf>) -> PathBuf {
    match &entry.name {
        Some(name) => sockets.join(format!("{name}.sock")),
        None => numbered(sockets, entry.device.0.name, taken),
    }
}

/// `<device>.sock`, then `<device>-2.sock` and so on.
pub(crate) fn numbered(folder: &Path, device: &str, taken: &BTreeSet<PathBuf>) -> PathBuf {
    let mut path = folder.join(format!("{device}.sock"));
    let mut number = 2;
    while taken.contains(&path) {
        path = folder.join(format!("{device}-{number}.sock"));
        number += 1;
    }
    path
}

/// Where an entry's parameters stand in the file.
struct Place<'a> {
    text: &'a str,
    path: &'a Path,
    entry: &'a Entry<'a>,
}

impl Place<'_> {
    /// The parameters, tried on the device.
    fn parameters(&self) -> Result<Value, Failure> {
        let Some(raw) = self.entry.parameters else { return Ok(Value::Null) };
        let raw = raw.get();
        let start = raw.as_ptr() as usize - self.text.as_ptr() as usize;
        let value: Value = serde_json::from_str(raw)
            .map_err(|error| syntax(&error, self.path, line_column(self.text, start)))?;
        let Err(error) = self.entry.device.0.build(value.clone()) else { return Ok(value) };
        let message = error.to_string();
        let (what, remedy) = expected(&message);
        // The message names the parameter, or quotes its value.
        let named = what.split(['`', ' ']).find_map(|word| {
            let quoted =
                if word.starts_with('"') { word.to_owned() } else { format!("\"{word}\"") };
            raw.find(&quoted)
        });
        let (line, column) = line_column(self.text, start + named.unwrap_or(0));
        let place = format!("{}:{line}:{column}", self.path.display());
        let default = || format!("see understudy schema config, {}", self.entry.device.0.name);
        Err(Failure::usage(what, place, remedy.unwrap_or_else(default)))
    }
}

/// Line and column of a byte, from 1.
fn line_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    (line, column)
}

/// An error of serde's, whose position counts from `base` (line and column, or zero).
fn syntax(error: &serde_json::Error, path: &Path, base: (usize, usize)) -> Failure {
    let message = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    let message = message.strip_suffix(&position).unwrap_or(&message);
    let (what, remedy) = expected(message);
    let line = error.line() + base.0.saturating_sub(1);
    let column = if error.line() > 1 || base.0 == 0 {
        error.column()
    } else {
        error.column() + base.1.saturating_sub(1)
    };
    let default = || "JSON as understudy schema config describes it".to_owned();
    let place = format!("{}:{line}:{column}", path.display());
    Failure::usage(what, place, remedy.unwrap_or_else(default))
}

/// Splits serde's "unknown field `x`, expected one of `a`, `b`".
pub(crate) fn expected(message: &str) -> (&str, Option<String>) {
    match message.split_once(", expected ") {
        Some((what, wanted)) => (what, Some(format!("expected {wanted}"))),
        None => match message.split_once(", which is not ") {
            Some((what, range)) => (what, Some(format!("expected {range}"))),
            None => (message, None),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(text: &str) -> String {
        parse(text, Path::new("conf/devices.json")).unwrap_err().to_string()
    }

    #[test]
    fn sockets_are_named_and_numbered() {
        let text = r#"{"sockets": "run", "devices": [
            {"device": "virtio-crypto"},
            {"device": "virtio-crypto"},
            {"device": "virtio-crypto", "name": "third"},
            {"device": "virtio-crypto", "socket": "/elsewhere/x.sock"}
        ]}"#;
        let wanted = parse(text, Path::new("conf/devices.json")).unwrap();
        let sockets: Vec<_> = wanted.iter().map(|one| one.socket.to_str().unwrap()).collect();
        assert_eq!(
            sockets,
            [
                "conf/run/virtio-crypto.sock",
                "conf/run/virtio-crypto-2.sock",
                "conf/run/third.sock",
                "/elsewhere/x.sock"
            ]
        );
    }

    #[test]
    fn mistakes_are_found_where_they_are() {
        let cases = [
            r#"{"devices": [,]}"#,
            "{\"devices\": [\n  {\"device\": \"toaster\", \"socket\": \"s\"}\n]}",
            "{\n  \"device\": []\n}",
            r#"{"devices": []}"#,
            r#"{"devices": [{"device": "virtio-crypto"}]}"#,
            "{\"devices\": [{\n  \"device\": \"virtio-crypto\", \"soket\": \"s\"}]}",
            r#"{"devices": [{"device": "virtio-crypto", "socket": "s"},
                            {"device": "virtio-crypto", "socket": "s"}]}"#,
            "{\"devices\": [{\"device\": \"virtio-crypto\", \"socket\": \"s\",\n  \
             \"parameters\": {\"queue_size\": 64,\n    \"queues\": 3}}]}",
            "{\"devices\": [{\"device\": \"virtio-crypto\", \"socket\": \"s\",\n  \
             \"parameters\": {\n    \"data_queues\": 100}}]}",
            "{\"devices\": [{\"device\": \"virtio-crypto\", \"socket\": \"s\",\n  \
             \"parameters\": {\n    \"data_queues\": \"two\"}}]}",
        ];
        let all = names().join(", ");
        let lines = cases.iter().map(|text| failure(text).replace(&all, "(every device)"));
        let lines: Vec<_> = lines.collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
