//! `understudy devices`.

use std::fmt::Write;

use understudy_catalog::{DEVICES, Device};

use crate::cli::DevicesArgs;
use crate::failure::{Failure, Outcome};
use crate::print;

pub(crate) fn run(args: &DevicesArgs) -> Outcome {
    if args.json {
        let text = serde_json::to_string_pretty(DEVICES)
            .map_err(|error| Failure::environment("cannot print", "JSON", error))?;
        return print(&(text + "\n"));
    }
    print(&table(DEVICES))
}

/// One line for each device, then what each lacks.
fn table(devices: &[Device]) -> String {
    let rows: Vec<[String; 4]> = devices
        .iter()
        .map(|device| {
            let drivers = device.drivers.iter().map(|d| format!("{} ({})", d.name, d.from));
            [
                device.name.to_owned(),
                format!("{:04x}:{:04x}", device.vendor_id, device.device_id),
                drivers.collect::<Vec<_>>().join(", "),
                device.source.to_owned(),
            ]
        })
        .collect();
    let mut out = columns(&["DEVICE", "PCI ID", "STOCK DRIVERS", "FOLLOWS"], &rows);
    for device in devices {
        let _ = writeln!(out, "\n{}: {}", device.name, device.summary);
        for missing in device.not_modelled {
            let _ = writeln!(out, "  not modelled: {missing}");
        }
    }
    out
}

/// Text in aligned columns, without trailing blanks.
pub(crate) fn columns<const N: usize>(head: &[&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut out = String::new();
    let mut line = |cells: Vec<&str>| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let _ = writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    };
    line(head.to_vec());
    for row in rows {
        line(row.iter().map(String::as_str).collect());
    }
    out
}
