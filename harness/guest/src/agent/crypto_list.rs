//! `/proc/crypto`: what the kernel's crypto core has registered.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Failure;

/// How long a registration may take: it runs the self-tests, and a plugged device is found late.
/// On a busy host 20 seconds were too few.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the list is read anew; the kernel does not announce changes.
const INTERVAL: Duration = Duration::from_millis(20);

/// One entry of `/proc/crypto`, of the fields used here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Algorithm {
    pub(super) name: String,
    pub(super) driver: String,
    pub(super) module: String,
    pub(super) priority: i32,
    pub(super) refcnt: u32,
    pub(super) selftest: String,
}

/// Reads the list.
pub(super) fn read() -> Result<Vec<Algorithm>, Failure> {
    let text = fs::read_to_string("/proc/crypto").map_err(|e| format!("/proc/crypto: {e}"))?;
    Ok(parse(&text))
}

/// The entry of one driver.
pub(super) fn find(driver: &str) -> Result<Algorithm, Failure> {
    let found = read()?.into_iter().find(|a| a.driver == driver);
    found.ok_or_else(|| format!("/proc/crypto has no driver {driver}"))
}

/// Waits until a module has registered exactly these drivers and all have passed.
pub(super) fn wait_for(module: &str, drivers: &[String]) -> Result<Value, Failure> {
    let wanted: BTreeSet<&str> = drivers.iter().map(String::as_str).collect();
    let until = Instant::now() + PATIENCE;
    loop {
        let mut found = read()?;
        found.retain(|a| a.module == module);
        if let Some(bad) = found.iter().find(|a| !matches!(&*a.selftest, "passed" | "unknown")) {
            return Err(format!("/proc/crypto: {}: selftest : {}", bad.driver, bad.selftest));
        }
        let passed = found.iter().filter(|a| a.selftest == "passed").map(|a| &*a.driver);
        let passed: BTreeSet<&str> = passed.collect();
        if passed == wanted {
            let listed: Vec<Value> = found
                .iter()
                .map(|a| json!({ "name": a.name, "driver": a.driver, "priority": a.priority }))
                .collect();
            return Ok(json!({ "algorithms": listed }));
        }
        if Instant::now() >= until {
            return Err(format!("/proc/crypto: {module} has {passed:?} passed, not {wanted:?}"));
        }
        std::thread::sleep(INTERVAL);
    }
}

fn parse(text: &str) -> Vec<Algorithm> {
    text.split("\n\n").map(parse_entry).filter(|a| !a.driver.is_empty()).collect()
}

fn parse_entry(text: &str) -> Algorithm {
    let mut entry = Algorithm::default();
    for (field, value) in text.lines().filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        match field.trim() {
            "name" => value.clone_into(&mut entry.name),
            "driver" => value.clone_into(&mut entry.driver),
            "module" => value.clone_into(&mut entry.module),
            "selftest" => value.clone_into(&mut entry.selftest),
            "priority" => entry.priority = value.parse().unwrap_or_default(),
            "refcnt" => entry.refcnt = value.parse().unwrap_or_default(),
            _ => {}
        }
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_field_by_field() {
        let text = "name         : cbc(aes)\ndriver       : virtio_crypto_aes_cbc\n\
                    module       : virtio_crypto\npriority     : 150\nrefcnt       : 3\n\
                    selftest     : passed\ninternal     : no\n\nname         : crc32c\n\
                    driver       : crc32c-lib\nmodule       : kernel\npriority     : 0\n\
                    refcnt       : 1\nselftest     : unknown\n\n";
        let list = parse(text);
        assert_eq!(list.len(), 2);
        assert_eq!(list[0].driver, "virtio_crypto_aes_cbc");
        assert_eq!((list[0].priority, list[0].refcnt), (150, 3));
        assert_eq!(list[1].selftest, "unknown");
    }

    #[test]
    fn an_empty_list_has_no_entries() {
        assert_eq!(parse(""), []);
        assert_eq!(parse("\n\n\n"), []);
    }
}
