use super::*;
use crate::checks;

#[test]
fn every_check_has_a_requirement_and_every_requirement_a_check_or_a_reason() {
    let ledger = Ledger::load().unwrap();
    let ids: Vec<&str> = checks::all().iter().map(|check| check.id).collect();
    let mistakes = ledger.mistakes(&ids);
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
}

#[test]
fn files_are_named_after_their_areas() {
    for ((name, _), area) in FILES.iter().zip(Ledger::load().unwrap().areas) {
        assert_eq!(*name, area.area);
        assert!(area.source.len() > 10, "{name} names no source");
    }
}

#[test]
fn mistakes_are_found() {
    let requirement = |id: &str, status| Requirement {
        id: id.into(),
        section: "1".into(),
        text: "Something is so and not otherwise".into(),
        status,
    };
    let tested = |by: &[&str]| Status::Tested(by.iter().map(|id| (*id).to_owned()).collect());
    let area = Area {
        area: "a".into(),
        source: "a book".into(),
        requirements: vec![
            requirement("a/1/1", tested(&["a/x/1"])),
            requirement("a/1/1", tested(&["a/x/2"])),
            requirement("a/1/2", tested(&[])),
            requirement("ab/1/3", Status::Waived("not today, as the sun shines".into())),
            requirement("a/1/4", Status::Untestable(String::new())),
        ],
    };
    let mistakes = Ledger { areas: vec![area] }.mistakes(&["a/x/1", "a/x/3"]);
    assert_eq!(
        mistakes,
        [
            "a/1/1: the id is used twice",
            "a/1/1: there is no check a/x/2",
            "a/1/2: neither a check nor a reason",
            "ab/1/3: the id is not in area a",
            "a/1/4: neither a check nor a reason",
            "check a/x/3: names no requirement (conformance/requirements)",
        ]
    );
}

#[test]
fn coverage_counts_by_status() {
    let ledger = Ledger::load().unwrap();
    let all = ledger.coverage();
    assert_eq!(all.requirements, all.tested + all.watched + all.waived + all.untestable);
    assert!(ledger.of("vfio-user/dma/3").any(|r| r.id == "vfio-user/dma-map/5"));
}
