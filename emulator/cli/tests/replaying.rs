//! Recordings of every model play again without a difference, and with one where a bug is planted.

#[cfg(test)]
#[expect(dead_code, reason = "shared with tests that use more of it")]
mod common;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs::File;
    use std::path::Path;

    use understudy_device::{StatusPlace, Tap};
    use understudy_trace::{Reader, Record};

    use crate::common::Understudy;

    /// A device, what it is put through while it is recorded, and bugs that make a difference there
    /// with what the difference is in.
    const SESSIONS: [(&str, &str, &str, &str); 3] = [
        ("virtio-crypto", "virtio-crypto/cipher", FLIPS_BIT, "dma-write"),
        ("qat", "qat/rings", FAILS_REQUEST, "completion"),
        ("qaic", "qaic/bridge", FAILS_REQUEST, "completion"),
    ];
    /// Gets a bit of every third output wrong.
    const FLIPS_BIT: &str = "model-flips-bit";
    /// Says of every third good request that it failed.
    const FAILS_REQUEST: &str = "model-fails-request";

    /// The record in which a bug strikes first, found by what is recorded alone.
    fn strike(path: &Path, device: &str, bug: &str) -> u64 {
        let words = understudy_catalog::find(device).unwrap().vocabulary;
        let mut reader = Reader::new(File::open(path).unwrap()).unwrap();
        // What is written while a request is executed is its output.
        let (mut executes, mut count) = (false, 0);
        while let Some((position, record)) = reader.read().unwrap() {
            let mut can_strike = false;
            match record {
                Record::Poll { .. } => executes = false,
                Record::Finish { .. } | Record::Tap { point: Tap::Fetched, .. } => executes = true,
                Record::Tap { point: Tap::Completing, entry, .. } => {
                    executes = false;
                    let StatusPlace::Entry(status) = words.status else { continue };
                    let good = |is: u64| is & words.status_mask == words.good;
                    can_strike = bug == FAILS_REQUEST && status.get(entry).is_some_and(good);
                }
                Record::DmaWrite { len, .. } => {
                    can_strike = bug == FLIPS_BIT && executes && len >= 4;
                }
                _ => {}
            }
            count += u32::from(can_strike);
            if can_strike && count == 3 {
                return position;
            }
        }
        panic!("{device}: {bug} does not strike in {}", path.display())
    }

    #[test]
    fn recordings_play_again_on_every_model_and_not_with_a_bug_from_where_it_strikes_on() {
        for (device, checks, bug, what) in SESSIONS {
            let understudy = Understudy::new();
            let serving = understudy.serve(&[device, "--socket", "device.sock", "--trace", "t"]);
            understudy.run(&["check", "--socket", "device.sock", "--only", checks]);
            assert_eq!(serving.stop(), 0, "{device}");
            plays_again_and_not_with_a_bug(&understudy, &understudy.path("t"), device, (bug, what));
        }
    }

    fn plays_again_and_not_with_a_bug(
        understudy: &Understudy,
        path: &Path,
        device: &str,
        (bug, what): (&str, &str),
    ) {
        let file = path.to_str().unwrap();
        let same = understudy.run(&["replay", file]);
        assert_eq!(same.code, 0, "{file}: {}{}", same.stdout, same.stderr);
        assert!(same.stdout.contains("no divergence"), "{file}: {}", same.stdout);
        let other = understudy.run(&["replay", file, "--bug", bug]);
        assert_eq!(other.code, 1, "{file}: {}{}", other.stdout, other.stderr);
        let position = strike(path, device, bug);
        let first = format!("{device}: the first divergence is at record {position}\n");
        assert!(other.stdout.starts_with(&first), "{file}: {first}{}", other.stdout);
        let recorded = other.stdout.lines().find(|line| line.contains("recorded")).unwrap();
        assert!(recorded.contains(what), "{file}: {}", other.stdout);
    }

    /// Recordings of guests, with what is known of their devices, and a place to work. They come
    /// from `understudy guest DEVICE --trace FILE`; their folder is in `UNDERSTUDY_RECORDINGS`.
    fn of_guests(mut look: impl FnMut(&Understudy, &Path, &str, (&str, &str))) {
        let folder = std::env::var_os("UNDERSTUDY_RECORDINGS").expect("UNDERSTUDY_RECORDINGS");
        let mut devices = BTreeSet::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let device = Reader::new(File::open(&path).unwrap()).unwrap().header().device.clone();
            let session = SESSIONS.iter().find(|(name, ..)| *name == device).unwrap();
            let (device, _, bug, what) = *session;
            look(&Understudy::new(), &path, device, (bug, what));
            devices.insert(device);
        }
        assert_eq!(devices.len(), SESSIONS.len(), "{devices:?}");
    }

    /// The same with guests and stock drivers.
    #[test]
    #[ignore = "needs recordings of guests"]
    fn recordings_of_guests_play_again_and_not_with_a_bug_from_where_it_strikes_on() {
        of_guests(plays_again_and_not_with_a_bug);
    }

    /// The monitors have nothing to say of those drivers. Linux's MHI makes a mistake now and then
    /// after a crash (docs/findings.md), so this one is not in `ci/test`.
    #[test]
    #[ignore = "needs recordings of guests"]
    fn drivers_of_guests_make_no_mistake() {
        of_guests(|understudy, path, _, _| {
            let watched = understudy.run(&["trace", "watch", path.to_str().unwrap()]);
            assert_eq!(watched.code, 0, "{}: {}", path.display(), watched.stdout);
        });
    }
}
