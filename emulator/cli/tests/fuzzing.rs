//! `understudy fuzz`: a planted bug is found, and its file replays.

#[cfg(test)]
#[expect(dead_code, reason = "shared with tests that use more of it")]
mod common;

use common::Understudy;

#[test]
fn a_planted_bug_is_found_and_replayed() {
    let understudy = Understudy::new();
    let run = ["fuzz", "in-process", "planted/id-unchecked", "--time", "5", "--out", "out"];
    let found = understudy.run(&run);
    assert_eq!(found.code, 1, "{}{}", found.stdout, found.stderr);
    let stats = std::fs::read_to_string(understudy.path("out/stats.json")).unwrap();
    assert!(stats.contains("\"rounds\": 1"), "{stats}");
    let files = std::fs::read_dir(understudy.path("out/findings")).unwrap();
    let files: Vec<_> = files.flatten().map(|entry| entry.path()).collect();
    assert!(!files.is_empty());
    for file in files {
        let file = file.to_str().unwrap();
        let again = understudy.run(&["fuzz", "replay", file]);
        let said = again.stdout;
        assert_eq!(again.code, 1, "{said}");
        let clause = |word: &str| said.lines().find_map(|line| line.strip_prefix(word)).unwrap();
        assert_eq!(clause("expected: "), clause("found: "));
        let test = understudy.run(&["fuzz", "export", file]).stdout;
        assert!(test.contains("#[test]") && test.contains("planted/id-unchecked"), "{test}");
    }
}
