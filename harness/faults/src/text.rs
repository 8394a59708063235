//! Plans from text, with one line for each mistake.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::kinds::{self, ALL};
use crate::plan::{Fault, Plan};
use crate::resolve::Mistake;

/// Longest text of a plan, in bytes.
pub const MAX_TEXT: usize = 1 << 20;

/// A plan from JSON: `{"faults": [...]}`, or a list of faults, or one fault.
///
/// # Errors
/// Every mistake that can be seen without a device, each with its place.
pub fn plan(text: &str) -> Result<Plan, Vec<Mistake>> {
    if text.len() > MAX_TEXT {
        return Err(vec![at("plan", format!("longer than {MAX_TEXT} bytes"))]);
    }
    let value: Value = serde_json::from_str(text).map_err(|error| {
        vec![at(&format!("line {}, column {}", error.line(), error.column()), describe(&error))]
    })?;
    plan_of(value)
}

/// A plan from a JSON value, as [`plan`].
///
/// # Errors
/// As [`plan`].
pub fn plan_of(value: Value) -> Result<Plan, Vec<Mistake>> {
    let mut map = match value {
        Value::Array(faults) => Map::from_iter([("faults".to_owned(), Value::Array(faults))]),
        Value::Object(map) if map.contains_key("fault") => {
            Map::from_iter([("faults".to_owned(), Value::Array(vec![Value::Object(map)]))])
        }
        Value::Object(map) => map,
        other => {
            let what = format!("{} is no plan, expected {{\"faults\": [...]}}", kind_of(&other));
            return Err(vec![at("plan", what)]);
        }
    };
    // One at a time, so that each mistake is told.
    let faults = match map.insert("faults".to_owned(), Value::Array(Vec::new())) {
        Some(Value::Array(faults)) => faults,
        Some(other) => {
            return Err(vec![at("faults", format!("{}, expected a list", kind_of(&other)))]);
        }
        None => return Err(vec![at("plan", "there is no list of faults".to_owned())]),
    };
    let mut mistakes = Vec::new();
    let mut plan: Plan = match from_value(Value::Object(map), "plan") {
        Ok(plan) => plan,
        Err(mistake) => {
            mistakes.push(mistake);
            Plan::default()
        }
    };
    for (index, value) in faults.into_iter().enumerate() {
        match fault_of(value, &format!("faults[{index}]")) {
            Ok(fault) => plan.faults.push(fault),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    if mistakes.is_empty() { Ok(plan) } else { Err(mistakes) }
}

/// A fault from its JSON value.
fn fault_of(value: Value, place: &str) -> Result<Fault, Mistake> {
    let Value::Object(map) = &value else {
        return Err(at(place, format!("{}, expected a fault", kind_of(&value))));
    };
    let Some(kind) = map.get("fault") else {
        return Err(at(place, "there is no \"fault\": what goes wrong".to_owned()));
    };
    // First its parts, so that a mistake is told where it is.
    let _: crate::plan::Kind = from_value(kind.clone(), &format!("{place}.fault"))?;
    if let Some(when) = map.get("when") {
        let _: crate::plan::When = from_value(when.clone(), &format!("{place}.when"))?;
    }
    from_value(value, place)
}

/// A fault in its short form: `completion-lost,nth=3,queue=dataq 0`.
///
/// The kind, then settings: parameters of the kind, fields of `when`, `count`, `once`. Lists and
/// objects are JSON. Text that starts with `{` is JSON as in a plan.
///
/// # Errors
/// What is wrong with it.
pub fn fault(text: &str) -> Result<Fault, Mistake> {
    let place = "fault";
    if text.trim_start().starts_with('{') {
        let value: Value =
            serde_json::from_str(text).map_err(|error| at(place, describe(&error)))?;
        return fault_of(value, place);
    }
    let mut parts = split(text).into_iter();
    let name = parts.next().unwrap_or_default();
    let Some(info) = ALL.iter().find(|info| info.name == name) else {
        return Err(at(place, unknown_kind(&name)));
    };
    let mut kind = Map::from_iter([("kind".to_owned(), Value::from(name))]);
    let (mut when, mut whole) = (Map::new(), Map::new());
    for part in parts {
        let (key, value) = match part.split_once('=') {
            Some((key, value)) => (key.trim().to_owned(), setting(value.trim())),
            None => (part.trim().to_owned(), Value::Bool(true)),
        };
        let (map, key) = match key.strip_prefix("when.") {
            Some(key) => (&mut when, key.to_owned()),
            None if info.parameters.contains(&key.as_str()) => (&mut kind, key),
            None if key == "count" || key == "once" => (&mut whole, key),
            None => (&mut when, key),
        };
        if map.insert(key.clone(), value).is_some() {
            return Err(at(place, format!("{key} is given twice")));
        }
    }
    whole.insert("fault".to_owned(), Value::Object(kind));
    if !when.is_empty() {
        whole.insert("when".to_owned(), Value::Object(when));
    }
    fault_of(Value::Object(whole), place)
}

/// A fault's short form, as [`fault`] reads it.
#[must_use]
pub fn short(fault: &Fault) -> String {
    let mut parts = vec![fault.fault.name().to_owned()];
    let mut add = |value: serde_json::Result<Value>, skip: &str, prefix: &str| {
        let Ok(Value::Object(map)) = value else { return };
        for (key, value) in map.into_iter().filter(|(key, _)| key != skip) {
            let known = prefix.is_empty() || !fault.fault.info().parameters.contains(&key.as_str());
            let prefix = if known { "" } else { prefix };
            match value {
                Value::String(text) => parts.push(format!("{prefix}{key}={text}")),
                other => parts.push(format!("{prefix}{key}={other}")),
            }
        }
    };
    add(serde_json::to_value(&fault.fault), "kind", "");
    add(serde_json::to_value(&fault.when), "", "when.");
    if fault.once {
        parts.push("once".to_owned());
    } else if let Some(count) = fault.count {
        parts.push(format!("count={count}"));
    }
    parts.join(",")
}

/// At commas that are not inside brackets or quotes.
fn split(text: &str) -> Vec<String> {
    let (mut parts, mut depth, mut quoted) = (vec![String::new()], 0usize, false);
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            '[' | '{' if !quoted => depth += 1,
            ']' | '}' if !quoted => depth = depth.saturating_sub(1),
            ',' if !quoted && depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts.iter().map(|part| part.trim().to_owned()).collect()
}

/// JSON if it is some, else text.
fn setting(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

fn from_value<T: DeserializeOwned>(value: Value, place: &str) -> Result<T, Mistake> {
    serde_json::from_value(value).map_err(|error| {
        let text = error.to_string();
        match text.strip_prefix("unknown variant `").and_then(|rest| rest.split_once('`')) {
            Some((name, _)) if place.ends_with(".fault") => at(place, unknown_kind(name)),
            _ => at(place, text.replace('`', "\"")),
        }
    })
}

fn unknown_kind(name: &str) -> String {
    let like = |info: &&kinds::KindInfo| {
        let words = name.split('-').filter(|word| word.len() > 2);
        words.into_iter().any(|word| info.name.contains(word))
    };
    let close: Vec<_> = ALL.iter().filter(like).map(|info| info.name).take(6).collect();
    if close.is_empty() {
        format!("there is no kind {name:?}, see understudy faults list")
    } else {
        format!("there is no kind {name:?}, expected one such as {}", close.join(", "))
    }
}

fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or(&text);
    format!("no JSON: {what}")
}

fn at(place: &str, what: String) -> Mistake {
    Mistake { place: place.to_owned(), what }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_form_is_the_long_form() {
        let short_form = "completion-late,delay=2ms,nth=3,queue=dataq 0,once";
        let long = r#"{"fault": {"kind": "completion-late", "delay": 2000000},
            "when": {"nth": 3, "queue": "dataq 0"}, "once": true}"#;
        let fault = fault(short_form).unwrap();
        assert_eq!(fault, plan(long).unwrap().faults[0]);
        assert_eq!(super::fault(&short(&fault)).unwrap(), fault);
        let nested = "surprise-removal,after=[{\"on\":\"completion\",\"nth\":3}],count=2";
        let fault = super::fault(nested).unwrap();
        assert_eq!(fault.when.after.len(), 1);
        assert_eq!(super::fault(&short(&fault)).unwrap(), fault);
        let queue = super::fault("queue-full,queue=1,when.queue=1,on=doorbell").unwrap();
        assert_eq!(super::fault(&short(&queue)).unwrap(), queue);
    }

    #[test]
    fn each_mistake_has_a_line() {
        let text = r#"{"faults": [
            {"fault": {"kind": "completion-gone"}},
            {"fault": {"kind": "completion-late"}},
            {"fault": {"kind": "link-flap", "down": "2 days"}},
            {"fault": {"kind": "all-ones", "register": "x"}},
            {"fault": {"kind": "all-ones"}, "when": {"nht": 3}},
            {"fault": {"kind": "all-ones"}, "often": true},
            {"when": {}},
            3]}"#;
        let mistakes = plan(text).unwrap_err();
        let lines: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(lines.join("\n"));
        assert!(plan("{").unwrap_err()[0].to_string().starts_with("line 1, column 1: no JSON"));
        assert_eq!(plan("3").unwrap_err()[0].place, "plan");
    }
}
