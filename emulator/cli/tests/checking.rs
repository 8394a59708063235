//! `check` on the models of this build.

#[cfg(test)]
#[expect(dead_code, reason = "shared with tests that use more of it")]
mod common;

use std::os::unix::net::UnixListener;

use common::{Understudy, line};
use serde_json::Value;

#[test]
fn every_model_passes_every_check() {
    let understudy = Understudy::new();
    let done = understudy.run(&["check"]);
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    let json = std::fs::read_to_string(understudy.path("understudy-report/report.json")).unwrap();
    let report: Value = serde_json::from_str(&json).unwrap();
    let totals = &report["totals"];
    assert!(totals["passed"].as_u64().unwrap() >= 200, "{totals}");
    assert!(totals["rejected"].as_u64().unwrap() >= 50, "{totals}");
    assert_eq!((&totals["failed"], &totals["wedged"]), (&0.into(), &0.into()));
    // A check that finds no support for an algorithm is skipped: ours must not lose one like that.
    // NOTIFICATION_DATA is not offered.
    let skipped = skipped(&report, &["virtio/", "virtio-crypto/", "qat/", "qaic/"]);
    assert_eq!(skipped, ["virtio/4.1.5.2/1"]);
    let xml = std::fs::read_to_string(understudy.path("understudy-report/junit.xml")).unwrap();
    assert!(xml.contains(r#"name="vfio-user/version/1""#));
    // Some of it on the table, with what is checked and where it is written.
    for text in ["pass  pci/6.2.5.1/1", "virtio 1.3 §5.9.7.6", "0 failed    0 wedged", "100 % of"]
    {
        assert!(done.stdout.contains(text), "no {text:?} in:\n{}", done.stdout);
    }
}

/// Ids of checks in these areas that were skipped.
fn skipped(report: &Value, areas: &[&str]) -> Vec<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let results = list(&report["devices"]).into_iter().flat_map(|device| list(&device["results"]));
    let skipped = results.filter(|result| result["verdict"] == "skipped");
    let ids = skipped.map(|result| result["id"].as_str().unwrap_or("?").to_owned());
    ids.filter(|id| areas.iter().any(|area| id.starts_with(area))).collect()
}

/// The default, a C62x with the newest mailbox, is among the models above.
#[test]
fn every_part_of_qat_and_the_oldest_mailbox_pass() {
    // Version 1 has neither blocks, nor fast acknowledgement, nor the map of rings.
    let of_later_versions = [3, 4, 5, 6, 8, 17].map(|number| format!("qat/pfvf/{number}"));
    for (set, id, lacks) in [
        ("part=c3xxx", "8086:19e3", &[][..]),
        ("part=dh895xcc", "8086:0443", &[]),
        ("mailbox_version=1", "8086:37c9", &of_later_versions),
    ] {
        let arguments = ["check", "qat", "--set", set, "--only", "qat/", "--format", "json"];
        let done = Understudy::new().run(&arguments);
        assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
        let report: Value = serde_json::from_str(&done.stdout).unwrap();
        let device = &report["devices"][0];
        assert_eq!(
            (&device["device"], &device["pci_id"]),
            (&format!("qat {set}").into(), &id.into())
        );
        assert!(report["totals"]["checks"].as_u64().unwrap() > 150, "{}", report["totals"]);
        assert_eq!(skipped(&report, &["qat/"]), lacks);
    }
}

#[test]
fn small_queues_are_no_failure() {
    let only = ["--only", "virtio/2*", "--only", "virtio-crypto/5.9.7.3"];
    for size in ["queue_size=2", "queue_size=16"] {
        let arguments = [&["check", "virtio-crypto", "--set", size][..], &only].concat();
        let done = Understudy::new().run(&arguments);
        assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    }
}

#[test]
fn a_failure_is_replayed_with_its_parameters() {
    let arguments = ["check", "qat", "--set", "max_request=65536", "--only", "qat/symmetric/5"];
    let done = Understudy::new().run(&arguments);
    assert_eq!(done.code, 1, "{}{}", done.stdout, done.stderr);
    let replay = "understudy check qat --set max_request=65536 --only qat/symmetric/5";
    assert!(done.stdout.contains(replay), "{}", done.stdout);
}

#[test]
fn a_part_is_chosen_by_id_and_reported_where_asked() {
    let understudy = Understudy::new();
    let arguments =
        ["check", "virtio-crypto", "--only", "vfio-user/version", "--only", "pci/6.2.1/1"];
    let done = understudy.run(&[&arguments[..], &["--report-dir", "a/b"]].concat());
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stdout.contains("vfio-user/version/15"));
    assert!(!done.stdout.contains("vfio-user/dma/1"));
    assert!(understudy.path("a/b/report.json").is_file());
    assert!(done.stdout.ends_with("reports: a/b\n"));
    for file in ["junit.xml", "report.tap", "report.sarif", "report.html"] {
        assert!(understudy.path("a/b").join(file).is_file(), "{file}");
    }
}

#[test]
fn checks_are_listed_with_id_title_and_clause() {
    let done = Understudy::new().run(&["check", "--list"]);
    assert_eq!(done.code, 0);
    insta::assert_snapshot!(done.stdout);
}

#[test]
fn a_server_that_never_answers_fails_the_check_and_does_not_hang_it() {
    let understudy = Understudy::new();
    let _listener = UnixListener::bind(understudy.path("deaf.sock")).unwrap();
    let done =
        understudy.run(&["check", "--socket", "deaf.sock", "--timeout", "1", "--report-dir", "r"]);
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert!(done.stdout.contains("WEDGED vfio-user/attach/1"), "{}", done.stdout);
}

#[test]
fn a_running_server_is_checked_through_its_socket() {
    let understudy = Understudy::new();
    let serving = understudy.serve(&["virtio-crypto", "--socket", "crypto.sock"]);
    let done = understudy.run(&["check", "--socket", "crypto.sock", "--only", "vfio-user/header"]);
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    assert_eq!(serving.stop(), 0);
}

#[test]
fn a_server_is_started_and_started_again() {
    let understudy = Understudy::new();
    let program = env!("CARGO_BIN_EXE_understudy");
    // The first server ends at once, the second serves.
    let start = format!(
        "[ -e began ] && exec {program} serve virtio-crypto --socket a.sock; touch began; exit 1"
    );
    let arguments = ["check", "--connect", "a.sock", "--start", &start, "--repeat", "2"];
    let done = understudy
        .run(&[&arguments[..], &["--only", "vfio-user/version", "--format", "tap"]].concat());
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    assert!(done.stdout.contains("\n    1..30\n"), "{}", done.stdout);
    assert!(done.stdout.contains(" (round 2)\n"), "{}", done.stdout);
}

#[test]
fn mutants_are_noticed() {
    let arguments =
        ["mutants", "virtio-crypto", "--only", "algorithm/cipher/3", "--only", "identity/class"];
    let done = Understudy::new().run(&arguments);
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    assert!(done.stdout.contains("virtio-crypto: 2 of 2 mutants noticed"), "{}", done.stdout);
    let json = Understudy::new().run(&["mutants", "server", "--only", "undone/reset", "--json"]);
    let report: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(report[0]["mutants"][0]["noticed_by"], "vfio-user/reset/2");
}

#[test]
fn shards_and_formats_are_as_asked_for() {
    let understudy = Understudy::new();
    let mut all = Vec::new();
    for shard in ["1/3", "2/3", "3/3"] {
        let arguments = ["check", "qat", "--only", "pci/6.2.1", "--shard", shard];
        let done = understudy.run(&[&arguments[..], &["--shuffle", "--format", "json"]].concat());
        assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
        let report: Value = serde_json::from_str(&done.stdout).unwrap();
        let results = report["devices"][0]["results"].as_array().unwrap();
        all.extend(results.iter().map(|result| result["id"].as_str().unwrap().to_owned()));
    }
    all.sort();
    let whole = understudy.run(&["check", "qat", "--only", "pci/6.2.1", "--list"]);
    let mut listed: Vec<_> =
        whole.stdout.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    listed.sort();
    assert!(listed.len() > 3);
    assert_eq!(all, listed);
}

#[test]
fn reports_that_cannot_be_written_are_said_so() {
    let understudy = Understudy::new();
    std::fs::write(understudy.path("file"), "").unwrap();
    let done = understudy.run(&["check", "--only", "pci/6.2.1/1", "--report-dir", "file"]);
    assert_eq!(done.code, 3);
    assert!(line(&done.stderr).starts_with("understudy: cannot write the report: file: "));
}
