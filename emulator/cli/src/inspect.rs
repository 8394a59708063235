//! `understudy inspect`.

use std::fmt::Write;
use std::path::Path;

use understudy_device::State;

use crate::cli::InspectArgs;
use crate::control::{Inspection, Method, ask, path_of};
use crate::devices::columns;
use crate::failure::{Failure, Outcome};
use crate::print;

pub(crate) fn run(args: &InspectArgs) -> Outcome {
    let path = control_path(&args.socket);
    let answer = ask(&path, Method::Inspect)?;
    if args.json {
        let text = serde_json::to_string_pretty(&answer)
            .map_err(|error| Failure::environment("cannot print", "JSON", error))?;
        return print(&(text + "\n"));
    }
    let inspection: Inspection = serde_json::from_value(answer).map_err(|error| {
        Failure::environment("an answer of another version", path.display(), error)
    })?;
    print(&text(&inspection))
}

/// Takes the control socket itself as well.
fn control_path(socket: &Path) -> std::path::PathBuf {
    if socket.extension().is_some_and(|extension| extension == "control") {
        socket.to_owned()
    } else {
        path_of(socket)
    }
}

fn text(inspection: &Inspection) -> String {
    let about = &inspection.description;
    let client = if about.attached { "a client is attached" } else { "no client is attached" };
    let mut out =
        format!("{} ({}) on {}: {client}\n", about.device, about.pci_id, about.socket.display());
    out.push('\n');
    out.push_str(&registers(&inspection.state));
    queues(&mut out, &inspection.state);
    let device = inspection.state.counters.iter().map(|c| (c.name.clone(), c.value));
    counters(&mut out, "device counters (not zero)", device);
    let server = inspection.server.iter();
    let server = server.filter_map(|(name, value)| Some((name.clone(), value.as_u64()?)));
    counters(&mut out, "server counters (not zero)", server);
    out
}

fn registers(state: &State) -> String {
    let rows: Vec<[String; 4]> = state
        .registers
        .iter()
        .map(|register| {
            let digits = usize::from(register.width) * 2;
            [
                register.name.clone(),
                format!("{}:{:#06x}", place(register.bar), register.offset),
                format!("{:#0width$x}", register.value, width = digits + 2),
                register.meaning.clone(),
            ]
        })
        .collect();
    columns(&["REGISTER", "AT", "VALUE", "MEANING"], &rows)
}

/// Config space is listed as a BAR beyond the last.
fn place(bar: u8) -> String {
    if bar < 6 { format!("bar{bar}") } else { "config".to_owned() }
}

fn queues(out: &mut String, state: &State) {
    for queue in &state.queues {
        let enabled = if queue.enabled { "enabled" } else { "disabled" };
        let (index, name, size) = (queue.index, &queue.name, queue.size);
        let _ = writeln!(out, "\nqueue {index} ({name}): {enabled}, size {size}");
        for (name, value) in queue.fields.iter().filter(|_| queue.enabled) {
            let value = if queue.hexadecimal.contains(name) {
                format!("{value:#x}")
            } else {
                value.to_string()
            };
            let _ = writeln!(out, "  {name:<24} {value}");
        }
    }
}

fn counters(out: &mut String, title: &str, all: impl Iterator<Item = (String, u64)>) {
    let mut rows = all.filter(|(_, value)| *value > 0).peekable();
    if rows.peek().is_some() {
        let _ = writeln!(out, "\n{title}:");
    }
    for (name, value) in rows {
        let _ = writeln!(out, "  {name:<32} {value}");
    }
}

#[cfg(test)]
mod tests {
    use understudy_device::QueueState;

    use super::*;

    #[test]
    fn fields_of_queues_are_decimal_but_for_addresses_and_masks() {
        let queue = |enabled| QueueState {
            index: 2,
            name: "pair 2".to_owned(),
            enabled,
            size: 8192,
            fields: vec![("base".to_owned(), 0x4000), ("in_flight".to_owned(), 12)],
            hexadecimal: vec!["base".to_owned()],
        };
        let state = State { queues: vec![queue(true), queue(false)], ..State::default() };
        let mut out = String::new();
        queues(&mut out, &state);
        let expected = [
            "\nqueue 2 (pair 2): enabled, size 8192\n",
            "  base                     0x4000\n",
            "  in_flight                12\n",
            "\nqueue 2 (pair 2): disabled, size 8192\n",
        ];
        assert_eq!(out, expected.concat());
    }

    /// As servers of earlier versions tell it.
    #[test]
    fn queues_need_not_say_what_is_hexadecimal() {
        let text = r#"{"index": 0, "name": "q", "enabled": true, "size": 1, "fields": [["a", 1]]}"#;
        let queue: QueueState =
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}"));
        assert!(queue.hexadecimal.is_empty());
        assert!(!serde_json::to_string(&queue).is_ok_and(|text| text.contains("hexadecimal")));
    }
}
