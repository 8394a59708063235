//! `understudy replay`.

use std::fmt::Write;

use serde_json::Value;
use understudy_faults::{Faults, Mistake, text};
use understudy_pci::PciFunction;
use understudy_trace::replay::{Divergence, Outcome as Played, Seen, replay};
use understudy_trace::{Decoder, Header, Place};
use understudy_workload::planted::plant;

use crate::cli::ReplayArgs;
use crate::failure::{Failure, Outcome};
use crate::guest::without_msix;
use crate::{host, print, trace};

pub(crate) fn run(args: &ReplayArgs) -> Outcome {
    let path = &args.file;
    let mut reader = trace::recording(path)?;
    let header = reader.header().clone();
    let mut function = function(&header, args)?;
    let outcome = replay(&mut function, &mut reader).map_err(|error| {
        Failure::usage(error, path.display(), "a whole recording from the device's start")
    })?;
    let (text, same) = match outcome {
        Played::Same { records, calls } => {
            let device = &header.device;
            (format!("{device}: {records} records, {calls} calls: no divergence\n"), true)
        }
        Played::Diverged(divergence) => (explain(&header, &divergence), false),
    };
    print(&text)?;
    Ok(same)
}

/// The function as it was when the recording began.
fn function(header: &Header, args: &ReplayArgs) -> Result<PciFunction, Failure> {
    let place = args.file.display();
    let device = host::device(&header.device)?;
    let model = device
        .build(header.parameters.clone())
        .map_err(|error| Failure::usage(error, &place, "parameters that this version knows"))?;
    let model = plant(model, device.vocabulary, args.bug);
    let model = if header.without_msix { without_msix(model) } else { model };
    let mut function = PciFunction::new(model)
        .map_err(|error| Failure::usage(error, &place, "other parameters"))?;
    if header.faults != Value::Null {
        let failure = |mistakes: Vec<Mistake>| {
            let what = mistakes.first().map_or_else(String::new, ToString::to_string);
            Failure::usage(what, args.file.display(), "a plan that this version knows")
        };
        let plan = text::plan_of(header.faults.clone()).map_err(failure)?;
        Faults::inject_into(&mut function, &plan, device.vocabulary).map_err(failure)?;
    }
    Ok(function)
}

fn explain(header: &Header, divergence: &Divergence) -> String {
    let Divergence { position, at, call, expected, seen } = divergence;
    let place = Place { position: *position, at: *at };
    let mut decoder = Decoder::new(header);
    let mut line = |seen: &Seen| decoder.line(place, &seen.record()).text();
    let mut out = format!("{}: the first divergence is at record {position}\n", header.device);
    let _ = writeln!(out, "  during    {}", line(call));
    for (word, what) in [("recorded ", expected), ("now      ", seen)] {
        let text = what.as_ref().map_or_else(|| "nothing more in this call".to_owned(), &mut line);
        let _ = writeln!(out, "  {word} {text}");
    }
    out
}
