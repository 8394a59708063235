//! Memory that is paged out and in again: a user of compression inside the kernel (zswap).

use std::collections::BTreeMap;
use std::fs;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::Failure;

const PAGE_BYTES: usize = 4096;
/// A control group of its own, whose memory can be reclaimed on demand.
const GROUP: &str = "/sys/fs/cgroup/agent";
/// How often reclaiming is asked for; the kernel may do less than was asked.
const ATTEMPTS: u32 = 20;

/// Fills `pages` pages, has the kernel page them out, and compares them when they are back.
/// Pages must have gone through zswap both ways.
pub(super) fn check(pages: u32, seed: u64) -> Result<Value, Failure> {
    enter_group()?;
    let mut memory = vec![0; pages as usize * PAGE_BYTES];
    fill(&mut memory, seed);
    let before = statistics()?;
    let since = |now: &BTreeMap<String, u64>, name: &str| {
        let count = |list: &BTreeMap<String, u64>| list.get(name).copied().unwrap_or_default();
        count(now).saturating_sub(count(&before))
    };
    let wanted = u64::from(pages) / 2;
    for _ in 0..ATTEMPTS {
        // An error says that not all was reclaimed; what was is counted below.
        let _ = fs::write(format!("{GROUP}/memory.reclaim"), memory.len().to_string());
        if since(&statistics()?, "zswpout") >= wanted {
            break;
        }
    }
    let mut random = Contents::new(seed);
    let mut expected = [0; PAGE_BYTES];
    for (index, page) in memory.chunks_exact(PAGE_BYTES).enumerate() {
        random.page(&mut expected);
        if *page != expected {
            return Err(format!("page {index} of {pages} came back changed"));
        }
    }
    let after = statistics()?;
    let (out, back) = (since(&after, "zswpout"), since(&after, "zswpin"));
    if out < wanted || back < wanted {
        return Err(format!("of {pages} pages, zswap took {out} and gave back {back}"));
    }
    Ok(json!({ "pages": pages, "zswpout": out, "zswpin": back, "seed": seed }))
}

fn enter_group() -> Result<(), Failure> {
    let write =
        |file: &str, text: &str| fs::write(file, text).map_err(|e| format!("{file}: {text}: {e}"));
    write("/sys/fs/cgroup/cgroup.subtree_control", "+memory")?;
    fs::create_dir_all(GROUP).map_err(|e| format!("{GROUP}: {e}"))?;
    write(&format!("{GROUP}/cgroup.procs"), &std::process::id().to_string())
}

/// What pages hold: runs of random letters, which compress well.
struct Contents(ChaCha8Rng);

impl Contents {
    fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    fn page(&mut self, page: &mut [u8]) {
        for run in page.chunks_mut(8) {
            let kind = self.0.next_u32() % 16;
            run.fill(b'a' + u8::try_from(kind).unwrap_or_default());
        }
    }
}

fn fill(memory: &mut [u8], seed: u64) {
    let mut contents = Contents::new(seed);
    for page in memory.chunks_exact_mut(PAGE_BYTES) {
        contents.page(page);
    }
}

fn statistics() -> Result<BTreeMap<String, u64>, Failure> {
    let text = fs::read_to_string("/proc/vmstat").map_err(|e| format!("/proc/vmstat: {e}"))?;
    let fields = text.lines().filter_map(|line| line.split_once(' '));
    Ok(fields.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect())
}
