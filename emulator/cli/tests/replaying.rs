//! Recordings of every model play again without a difference, and with one where a bug is planted.

#[cfg(test)]
#[expect(dead_code, reason = "shared with tests that use more of it")]
mod common;

#[cfg(test)]
mod tests {
    use crate::common::Understudy;

    /// A device, what it is put through while it is recorded, and bugs that make a difference there
    /// with what the difference is in.
    const SESSIONS: [(&str, &str, &str, &str); 3] = [
        ("virtio-crypto", "virtio-crypto/cipher", "model-flips-bit", "dma-write"),
        ("qat", "qat/rings", "model-fails-request", "completion"),
        ("qaic", "qaic/bridge", "model-fails-request", "completion"),
    ];

    #[test]
    fn recordings_play_again_on_every_model() {
        for (device, checks, bug, what) in SESSIONS {
            let understudy = Understudy::new();
            let serving = understudy.serve(&[device, "--socket", "device.sock", "--trace", "t"]);
            understudy.run(&["check", "--socket", "device.sock", "--only", checks]);
            drop(serving);
            let same = understudy.run(&["replay", "t"]);
            assert_eq!(same.code, 0, "{device}: {}{}", same.stdout, same.stderr);
            assert!(same.stdout.contains("no divergence"), "{device}: {}", same.stdout);
            let other = understudy.run(&["replay", "t", "--bug", bug]);
            assert_eq!(other.code, 1, "{device}: {}{}", other.stdout, other.stderr);
            assert!(other.stdout.contains("the first divergence is at record"), "{}", other.stdout);
            let recorded = other.stdout.lines().find(|line| line.contains("recorded")).unwrap();
            assert!(recorded.contains(what), "{device}: {}", other.stdout);
        }
    }
}
