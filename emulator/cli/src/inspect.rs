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
            let _ = writeln!(out, "  {name:<24} {value:#x}");
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
