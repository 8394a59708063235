//! All checks, on the virtio-crypto model behind its real server.

use std::path::Path;
use std::time::Duration;

use understudy_conformance::{CheckResult, Target, Verdict, checks, run};
use understudy_pci::PciFunction;
use understudy_server::{DeviceServer, Options};
use understudy_virtio_crypto::{Parameters, VirtioCrypto};

struct Hosted {
    folder: tempfile::TempDir,
    server: Option<DeviceServer>,
}

impl Hosted {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut hosted = Self { folder, server: None };
        hosted.replace().unwrap();
        hosted
    }
}

impl Target for Hosted {
    fn name(&self) -> &str {
        "virtio-crypto"
    }

    fn socket(&self) -> &Path {
        self.server.as_ref().unwrap().path()
    }

    fn replace(&mut self) -> Result<(), String> {
        self.server = None;
        let model = VirtioCrypto::new(Parameters::default()).map_err(|e| e.to_string())?;
        let function = PciFunction::new(Box::new(model)).map_err(|e| e.to_string())?;
        let path = self.folder.path().join("device.sock");
        let server = DeviceServer::bind(path, function, Options::default());
        self.server = Some(server.map_err(|e| e.to_string())?);
        Ok(())
    }
}

#[test]
fn the_model_passes_every_check() {
    let all = checks::all();
    let mut bad = Vec::new();
    let report =
        run(&mut Hosted::new(), &all, Duration::from_secs(5), &mut |result: &CheckResult| {
            if result.verdict.is_bad() {
                bad.push(format!("{} {}: {}", result.id, result.title, result.verdict.detail()));
            }
        });
    for result in report.results.iter().filter(|r| matches!(r.verdict, Verdict::Skipped { .. })) {
        println!("{} skipped: {}", result.id, result.verdict.detail());
    }
    println!("{:?} in {:?}", report.totals(), report.results.iter().map(|r| r.micros).sum::<u64>());
    assert!(bad.is_empty(), "{}", bad.join("\n"));
    assert_eq!(report.results.len(), all.len(), "every area has a say in virtio-crypto");
}
