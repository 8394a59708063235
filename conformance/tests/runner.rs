//! A device that stops answering costs one check its time limit, and no other check anything.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use understudy_conformance::{Check, Target, Verdict, checks, run};

/// Answers VERSION, region info and reads, and falls silent for good at DEVICE_GET_INFO.
fn forgetful(mut stream: UnixStream) -> io::Result<()> {
    loop {
        let mut header = [0; 16];
        stream.read_exact(&mut header)?;
        let size = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        let mut payload = vec![0; size as usize - 16];
        stream.read_exact(&mut payload)?;
        match header[2] {
            1 => payload.truncate(4),
            // The region's size.
            5 => payload[16..24].copy_from_slice(&256_u64.to_le_bytes()),
            9 => {
                let count =
                    u32::from_le_bytes([payload[12], payload[13], payload[14], payload[15]]);
                payload.resize(16 + count as usize, 0);
            }
            _ => loop {
                thread::park();
            },
        }
        let size = u32::try_from(16 + payload.len()).map_err(io::Error::other)?;
        header[4..8].copy_from_slice(&size.to_le_bytes());
        header[8] = 1;
        stream.write_all(&[&header[..], &payload].concat())?;
    }
}

/// A server that serves one client after the other, and so nobody once it has fallen silent.
struct Forgetful {
    folder: tempfile::TempDir,
    replaced: u32,
}

impl Forgetful {
    fn listen(&self) -> io::Result<()> {
        let path = self.folder.path().join("device.sock");
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(path)?;
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // The client has gone.
                let _ = forgetful(stream);
            }
        });
        Ok(())
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("device.sock")
    }
}

struct Tried {
    inner: Forgetful,
    path: PathBuf,
}

impl Target for Tried {
    fn name(&self) -> &str {
        "forgetful"
    }

    fn socket(&self) -> &Path {
        &self.path
    }

    fn replace(&mut self) -> Result<(), String> {
        self.inner.replaced += 1;
        self.inner.listen().map_err(|error| error.to_string())
    }
}

#[test]
fn a_wedged_device_is_replaced_and_the_next_check_runs() {
    let inner = Forgetful { folder: tempfile::tempdir().unwrap(), replaced: 0 };
    inner.listen().unwrap();
    let mut target = Tried { path: inner.path(), inner };
    let ids = ["vfio-user/header/1", "vfio-user/info/1", "vfio-user/header/2", "virtio/2.7/1"];
    let all = checks::all();
    let chosen: Vec<&Check> =
        ids.iter().filter_map(|id| all.iter().copied().find(|check| check.id == *id)).collect();
    assert_eq!(chosen.len(), ids.len());
    let start = Instant::now();
    let mut seen = Vec::new();
    let report = run(&mut target, &chosen, Duration::from_millis(300), &mut |result| {
        seen.push(result.id.clone());
    });
    // A device without virtio's ids has no virtio checks.
    assert_eq!(seen, ids[..3]);
    assert_eq!(report.pci_id, "0000:0000");
    assert_eq!(report.results[0].verdict, Verdict::Pass);
    let Verdict::Wedged { waiting_for } = &report.results[1].verdict else {
        panic!("{:?}", report.results[1].verdict)
    };
    assert_eq!(waiting_for, "a reply to command 4 (DEVICE_GET_INFO)");
    assert_eq!(report.results[2].verdict, Verdict::Pass);
    assert_eq!(target.inner.replaced, 1);
    assert!(start.elapsed() < Duration::from_secs(5));
}
