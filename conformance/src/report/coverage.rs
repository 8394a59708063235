//! What the ledger says, for people.

use std::fmt::Write;

use crate::AreaCoverage;
use crate::ledger::{Coverage, Ledger, Requirement, Status};

/// Coverage by area, as a table.
#[must_use]
pub fn coverage(ledger: &Ledger) -> String {
    let areas = ledger.areas.iter().map(|area| AreaCoverage {
        area: area.area.clone(),
        coverage: Coverage::of(&area.requirements),
    });
    table(&areas.collect::<Vec<_>>())
}

/// As [`coverage`], of areas that are counted already.
pub(super) fn table(areas: &[AreaCoverage]) -> String {
    let mut out = format!(
        "{:14} {:>12} {:>7} {:>8} {:>7} {:>12}\n",
        "area", "requirements", "tested", "watched", "waived", "not testable"
    );
    let mut row = |name: &str, c: Coverage| {
        let _ = writeln!(
            out,
            "{name:14} {:>12} {:>7} {:>8} {:>7} {:>12}",
            c.requirements, c.tested, c.watched, c.waived, c.untestable
        );
    };
    let mut all = Coverage::default();
    for area in areas {
        row(&area.area, area.coverage);
        all.add(area.coverage);
    }
    row("all", all);
    let with = all.tested + all.watched + all.waived + all.untestable;
    let percent = (100 * with).checked_div(all.requirements).unwrap_or(100);
    let _ = writeln!(
        out,
        "{percent} % of {} requirements have a check, a monitor or a reason",
        all.requirements
    );
    out
}

/// These requirements, one on a line: id, what becomes of it, and what it says.
#[must_use]
pub fn requirements<'a>(requirements: impl IntoIterator<Item = &'a Requirement>) -> String {
    let mut out = String::new();
    for Requirement { id, text, status, .. } in requirements {
        let what = match status {
            Status::Tested(by) => format!("tested by {}", by.join(", ")),
            Status::Watched(by) => format!("watched by {}", by.join(", ")),
            Status::Waived(why) => format!("waived: {why}"),
            Status::Untestable(why) => format!("not testable: {why}"),
        };
        let _ = writeln!(out, "{id}\n    {text}\n    {what}");
    }
    out
}
