//! What Wireshark's dissector makes of a capture is what the lines of the trace say.

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use understudy_device::{AccessError, Bar, Progress, Tap, Verdict};
    use understudy_trace::{Decoder, Header, Line, Place, Record, RegisterName, output};

    const FIELDS: [&str; 9] =
        ["position", "kind", "register", "queue", "address", "length", "value", "data", "error"];

    fn records() -> Vec<Record<'static>> {
        let verdict = Verdict::Pass;
        let error = Some(AccessError::Unmapped { offset: 0x88 });
        vec![
            Record::BarWrite { at: 1, bar: Bar(0), offset: 4, data: &[1, 2, 3, 4], error: None },
            Record::BarRead { at: 2, bar: Bar(0), offset: 0x88, data: &[0; 2], error },
            Record::Poll { at: 3, budget: 64, progress: Progress::Idle },
            Record::Tap { point: Tap::Fetched, queue: 7, entry: &[9; 16], edited: None, verdict },
            Record::DmaRead { iova: 1 << 40, len: 20, data: &[0xab; 20], fault: None },
        ]
    }

    fn header() -> Header {
        let name = RegisterName { name: "block.register".into(), bar: 0, offset: 4, width: 4 };
        Header { device: "qat".into(), registers: vec![name], ..Header::default() }
    }

    fn expected(line: &Line) -> String {
        let hex =
            |value: Option<u64>| value.map_or(String::new(), |value| format!("{value:#018x}"));
        let number = |value: Option<u64>| value.map_or(String::new(), |value| value.to_string());
        [
            line.position.to_string(),
            line.kind.to_string(),
            line.register.clone(),
            number(line.queue.map(u64::from)),
            hex(line.address),
            number(line.length),
            hex(line.value),
            line.data.clone(),
            line.error.clone(),
        ]
        .join("|")
    }

    #[test]
    #[ignore = "needs tshark, of Debian's package of that name"]
    fn tshark_shows_what_the_lines_say() {
        let folder = tempfile::tempdir().unwrap();
        let capture = folder.path().join("trace.pcapng");
        let mut out = output::create(&capture, &header(), u64::MAX).unwrap();
        let mut decoder = Decoder::new(&header());
        let mut lines = Vec::new();
        for (position, record) in (0..).zip(records()) {
            let place = Place { position, at: position };
            out.record(place, &record).unwrap();
            lines.push(expected(&decoder.line(place, &record)));
        }
        out.finish().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/understudy.lua");
        let mut tshark = Command::new("tshark");
        tshark.arg("-X").arg(format!("lua_script:{}", script.display()));
        tshark.arg("-r").arg(&capture).args(["-T", "fields", "-E", "separator=|"]);
        tshark.args(FIELDS.iter().flat_map(|field| ["-e".into(), format!("understudy.{field}")]));
        let done = tshark.output().unwrap();
        let shown = String::from_utf8(done.stdout).unwrap();
        let errors = String::from_utf8_lossy(&done.stderr);
        assert_eq!(shown.lines().collect::<Vec<_>>(), lines, "{errors}");
    }
}
