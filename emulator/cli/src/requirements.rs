//! `understudy requirements`.

use understudy_conformance::ledger::Ledger;
use understudy_conformance::report;

use crate::cli::RequirementsArgs;
use crate::failure::{Failure, Outcome};
use crate::print;

pub(crate) fn run(args: &RequirementsArgs) -> Outcome {
    let mut ledger = Ledger::load().map_err(|error| {
        Failure::environment("the ledger of this build is broken", "conformance", error)
    })?;
    if !args.only.is_empty() {
        for area in &mut ledger.areas {
            area.requirements.retain(|r| args.only.iter().any(|filter| filter.matches(&r.id)));
        }
        ledger.areas.retain(|area| !area.requirements.is_empty());
        if ledger.areas.is_empty() {
            let what = "no requirement matches";
            return Err(Failure::usage(what, "command line", "see understudy requirements --list"));
        }
    }
    if args.json {
        let json = serde_json::to_string_pretty(&ledger)
            .map_err(|error| Failure::environment("cannot write JSON", "requirements", error))?;
        return print(&(json + "\n"));
    }
    if args.list {
        return print(&report::requirements(ledger.requirements()));
    }
    print(&report::coverage(&ledger))
}
