//! `understudy guest virtio-crypto --compare`: our device against QEMU's own, by turns, so that both
//! see the same machine.

use std::fmt::Write;
use std::time::Duration;

use serde_json::Value;
use understudy_catalog::Device;
use understudy_guest::virtio_crypto::{ALL_DRIVERS, CIPHER_DRIVERS, QemuDevices, timing};
use understudy_guest::{Devices, Kernel, Kit};

use crate::failure::{Failure, Outcome};
use crate::guest::{Served, spinner};
use crate::print;

const OPERATIONS: u32 = 2000;
/// Bytes of a request.
const SIZES: [u32; 3] = [16, 4 << 10, 64 << 10];

/// Median times in microseconds, by size, one of each guest.
type Times = [Vec<f64>; SIZES.len()];

pub(crate) fn run(
    device: &'static Device,
    kit: &Kit,
    kernels: &[&Kernel],
    rounds: u32,
    timeout: Duration,
) -> Outcome {
    if device.name != "virtio-crypto" {
        let what = format!("QEMU has no {} of its own", device.name);
        return Err(Failure::usage(what, "--compare", "virtio-crypto"));
    }
    let timed = kernels.iter().filter(|kernel| kernel.version() < (7, 2));
    let mut any = false;
    for kernel in timed {
        let (mut ours, mut qemus) = (Times::default(), Times::default());
        for round in 1..=rounds {
            let mut served = Served::new(device);
            let turn = |drivers, devices: &mut dyn Devices, whose, times: &mut Times| {
                let what = format!("{whose} on {}, {round} of {rounds}", kernel.release());
                let spinner = spinner(&what);
                let mut scenario = timing(drivers, OPERATIONS, &SIZES);
                scenario.config.total_limit = timeout;
                let report = scenario.run(kit, kernel, 0, devices);
                spinner.finish_and_clear();
                if report.passed() {
                    let last = report.steps.last().map(|step| &step.measured);
                    collect(last.unwrap_or(&Value::Null), times);
                } else {
                    print(&report.to_string())?;
                }
                Ok(report.passed())
            };
            let passed = turn(ALL_DRIVERS, &mut served, "ours", &mut ours)?
                && turn(CIPHER_DRIVERS, &mut QemuDevices, "QEMU's", &mut qemus)?;
            if !passed {
                return Ok(false);
            }
        }
        print(&table(kernel.release(), &ours, &qemus))?;
        any = true;
    }
    if any {
        return Ok(true);
    }
    let what = "Linux 7.2 and later let no device serve AF_ALG, over which requests are timed";
    Err(Failure::usage(what, "--kernel", "6.12"))
}

/// Takes the medians out of what the step measured.
fn collect(measured: &Value, times: &mut Times) {
    for (times, of_size) in times.iter_mut().zip(measured["times"].as_array().into_iter().flatten())
    {
        times.extend(of_size["median_us"].as_f64());
    }
}

fn table(release: &str, ours: &Times, qemus: &Times) -> String {
    let mut out = format!(
        "cbc(aes) over AF_ALG on {release}: median time of a request in microseconds, least and \
         median of {} guests\n  {:>8} {:>17} {:>17} {:>7}\n",
        ours[0].len(),
        "bytes",
        "ours",
        "QEMU's own",
        "ratio",
    );
    for ((size, ours), qemus) in SIZES.iter().zip(ours).zip(qemus) {
        let [ours, qemus] = [ours, qemus].map(|times| {
            let mut sorted = times.clone();
            sorted.sort_by(f64::total_cmp);
            let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
            (at(0), at(sorted.len() / 2))
        });
        let _ = writeln!(
            out,
            "  {size:>8} {:>8.1} {:>8.1} {:>8.1} {:>8.1} {:>7.2}",
            ours.0,
            ours.1,
            qemus.0,
            qemus.1,
            ours.1 / qemus.1,
        );
    }
    out
}
