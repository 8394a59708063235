//! Each kind of fault on each model: it happens exactly when it is triggered, is seen to do what it
//! says, and does nothing otherwise; or it is refused, with the reason.

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use understudy_faults::{Plan, Site, kinds, text};
    use understudy_workload::probe::{Outcome, Probed, Seen, Written, probe};
    use understudy_workload::{Completion, Generator, Options};

    const REQUESTS: u8 = 12;
    /// Longer than any request takes, and shorter than drivers wait.
    const DELAY: u64 = 2_000_000;

    /// What is seen of a kind, from the request on in which it happened.
    #[derive(Debug, Clone, Copy)]
    enum Shows {
        /// That request ends so, and those after it are right.
        Once(Outcome),
        /// That request, or the next one, does not end right.
        Fails,
        /// That request takes at least `DELAY` more.
        Late,
        /// No request is right from the next one on.
        Gone,
        /// Every request is right, and the model heard one more doorbell.
        Twice,
        /// The two requests complete in the other order, and are right.
        Swapped,
        /// One write to memory comes in two halves, `DELAY` apart. Whether requests are right
        /// nevertheless.
        TornWrite(bool),
        /// The lower half of the register is as it is, the upper half as at the read before.
        TornRegister,
        /// One interrupt came with this vector instead of its own, which is missed, and every result is
        /// right.
        Vector(usize),
        /// So many more interrupts, or fewer: the sum over all requests differs by this at least.
        Interrupts(i64),
        /// The register reads otherwise after that request, and all else is the same.
        Register,
        /// The first word of config space reads as all ones after that request.
        Config,
        /// The driver does not start.
        NoStart,
        /// The driver does not start again after the reset.
        NoRestart,
    }

    struct Row {
        kind: &'static str,
        parameters: Value,
        when: Value,
        completion: Completion,
        shows: Shows,
    }

    fn row(kind: &'static str, parameters: Value, when: Value, shows: Shows) -> Row {
        Row { kind, parameters, when, completion: Completion::Polling, shows }
    }

    fn with_interrupts(row: Row) -> Row {
        Row { completion: Completion::Single, ..row }
    }

    /// A register that every read of the probe touches.
    fn register(device: &str) -> &'static str {
        match device {
            "virtio-crypto" => "4:0x4",
            "qat" => "0:0x7c",
            _ => "0:0x108",
        }
    }

    fn rows(device: &str) -> Vec<Row> {
        use Outcome::{Refused, TimedOut, Wrong};
        use Shows::{
            Config, Fails, Gone, Interrupts, Late, NoRestart, NoStart, Once, Register, Swapped,
            TornRegister, TornWrite, Twice, Vector,
        };
        let in_order = device == "qaic";
        let none = || json!({});
        let fetch = |nth: u64| json!({ "on": "fetch", "nth": nth, "queue": 0 });
        let fetch =
            |nth| if device == "qat" { json!({ "on": "fetch", "nth": nth }) } else { fetch(nth) };
        let queue = if device == "qat" { json!(2) } else { json!(0) };
        let done = json!({ "nth": 5, "queue": queue });
        let bell = json!({ "nth": 5, "queue": queue });
        let status = match device {
            "virtio-crypto" => "err",
            "qat" => "crypto",
            _ => "illegal",
        };
        // Registers are read by drivers, too: from the first request on, and in time.
        let reads = json!({ "register": register(device), "nth": if in_order { 5 } else { 6 },
            "after": [{ "on": "completion", "nth": 3, "queue": queue }] });
        let payload = |nth: u64| match in_order {
            // Transfers of the DMA bridge belong to no request in particular.
            true => json!({ "nth": 2, "after": [{ "on": "completion", "nth": 5, "queue": 0 }] }),
            false => json!({ "of": "payload", "nth": nth }),
        };
        let mut partial = payload(9);
        partial["on"] = json!("dma-write");
        if in_order {
            partial["nth"] = json!(3);
        }
        let delay = json!({ "delay": "2ms" });
        // What drivers look at is in the first half of a response of QAT and of the DMA bridge.
        let torn = TornWrite(device != "virtio-crypto");
        // Not one of those with which the driver starts.
        let interrupt = json!({ "nth": 1,
            "after": [{ "on": "completion", "nth": 5, "queue": queue }] });
        vec![
            row("surprise-removal", none(), fetch(5), Gone),
            row("link-flap", json!({ "down": "1us" }), fetch(5), Fails),
            row("all-ones", none(), reads.clone(), Register),
            row(
                "config-error",
                none(),
                json!({ "address": ["0x0", "0x3"],
                    "after": [{ "on": "completion", "nth": 5, "queue": queue }], "nth": 1 }),
                Config,
            ),
            row(
                "stuck-bit",
                json!({ "register": register(device), "mask": "0x80000000", "value": "0x80000000" }),
                fetch(5),
                Register,
            ),
            row("stale-read", none(), reads.clone(), Register),
            row("torn-read", none(), reads, TornRegister),
            row("doorbell-lost", none(), bell.clone(), Once(TimedOut)),
            row("doorbell-late", delay.clone(), bell.clone(), Late),
            row("doorbell-duplicate", none(), bell, Twice),
            row("queue-full", json!({ "queue": queue }), fetch(5), Gone),
            row("completion-status", json!({ "status": status }), done.clone(), Once(Refused)),
            row("completion-lost", none(), done.clone(), Once(TimedOut)),
            row("completion-late", delay.clone(), done.clone(), Late),
            row("completion-duplicate", none(), done.clone(), Fails),
            row("completion-reordered", none(), done.clone(), Swapped),
            row("completion-wrong-tag", json!({ "tag": "0x3b" }), done.clone(), Fails),
            row("completion-torn", delay.clone(), done.clone(), torn),
            row("completion-before-data", delay.clone(), done.clone(), Once(Wrong)),
            with_interrupts(row("interrupt-lost", none(), interrupt.clone(), Interrupts(-1))),
            with_interrupts(row("interrupt-late", delay.clone(), interrupt.clone(), Late)),
            with_interrupts(row("interrupt-spurious", none(), fetch(5), Interrupts(1))),
            Row {
                completion: Completion::Vectors,
                ..row(
                    "interrupt-wrong-vector",
                    json!({ "vector": 0 }),
                    interrupt.clone(),
                    Vector(0),
                )
            },
            with_interrupts(row(
                "interrupt-storm",
                json!({ "interrupts": 40, "interval": "100ns" }),
                fetch(5),
                Interrupts(2),
            )),
            row("dma-read-error", none(), payload(20), Fails),
            row("dma-write-error", none(), payload(8), Fails),
            row("dma-partial", none(), partial, Fails),
            row("dma-stale", none(), payload(20), Fails),
            row(
                "reset-hang",
                none(),
                json!({ "after": [{ "on": "completion", "nth": 8 }] }),
                NoRestart,
            ),
            row("spontaneous-reset", none(), fetch(5), Gone),
            row("firmware-hang", json!({ "for": "2ms" }), fetch(5), Late),
            row("corrupt-output", none(), done, Once(Wrong)),
            row("slow-device", delay, fetch(5), Late),
            row("feature-missing", json!({ "feature": "version_1" }), none(), NoStart),
        ]
    }

    fn plan(row: &Row, when: Value) -> Plan {
        let mut kind = row.parameters.clone();
        kind["kind"] = json!(row.kind);
        let plan = json!({ "fault": kind, "when": when, "once": true });
        text::plan_of(plan).unwrap_or_else(|mistakes| panic!("{}: {mistakes:?}", row.kind))
    }

    /// The request in which the fault happened. Reads of the probe come at its end, which is when
    /// the next one begins.
    fn place(faulty: &Probed) -> usize {
        let (at, on) = (faulty.fired[0].at, faulty.fired[0].on);
        let during = |seen: &Seen| seen.start <= at && at <= seen.end;
        let place = match on {
            Site::Read | Site::Config => faulty.seen.iter().position(during),
            _ => faulty.seen.iter().rposition(during),
        };
        place.unwrap_or(usize::MAX)
    }

    fn total(seen: &Seen) -> u64 {
        seen.interrupts.iter().sum()
    }

    /// Whether one of the writes now comes in two halves, the second one late.
    fn is_torn(whole: &[Written], now: &[Written]) -> bool {
        let find = |iova: u64, len: u64| now.iter().find(|it| (it.iova, it.len) == (iova, len));
        whole.iter().any(|Written { iova, len, .. }| {
            let half = len / 2;
            let halves = (find(*iova, half), find(iova + half, len - half));
            matches!(halves, (Some(first), Some(rest)) if rest.at >= first.at + DELAY)
        })
    }

    fn outcomes(probed: &Probed) -> Vec<Outcome> {
        probed.seen.iter().map(|seen| seen.outcome).collect()
    }

    /// What is wrong with what was seen, if anything.
    fn check(row: &Row, base: &Probed, faulty: &Probed) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("{what}; fired {:?}", faulty.fired));
        if faulty.fired.len() != 1 || faulty.fired[0].kind != row.kind {
            return wrong("did not happen once");
        }
        match row.shows {
            Shows::NoStart if !faulty.starts => return Ok(()),
            Shows::NoRestart if !faulty.starts_again && faulty.seen == base.seen => return Ok(()),
            Shows::NoStart | Shows::NoRestart => return wrong("the driver starts"),
            _ => {}
        }
        let at = place(faulty);
        if at >= base.seen.len() {
            return wrong("happened outside of the requests");
        }
        if faulty.seen[..at] != base.seen[..at] {
            return wrong(&format!("request {at}: what was before it is not as it was"));
        }
        let all = outcomes(faulty);
        let right_after = |from: usize| all[from..].iter().all(|it| *it == Outcome::Right);
        let took = |probed: &Probed| probed.seen[at].end - probed.seen[at].start;
        // Times may move, and nothing else.
        let ok = match row.shows {
            // What never completes is waited for again.
            Shows::Once(Outcome::TimedOut) => all[at] == Outcome::TimedOut,
            Shows::Once(outcome) => all[at] == outcome && right_after(at + 1),
            Shows::Fails => {
                let next = (at + 1).min(all.len() - 1);
                all[at] != Outcome::Right || all[next] != Outcome::Right
            }
            Shows::Late => {
                let slow = (at..all.len().min(at + 2)).any(|at| {
                    let took = |probed: &Probed| probed.seen[at].end - probed.seen[at].start;
                    took(faulty) >= took(base) + DELAY / 2
                });
                slow && right_after(at)
            }
            Shows::Gone => !all[at + 1..].contains(&Outcome::Right),
            Shows::Twice => right_after(0) && faulty.seen[at].heard == base.seen[at].heard + 1,
            Shows::Swapped => {
                let orders = |probed: &Probed| -> Vec<Vec<u64>> {
                    probed.seen.iter().map(|seen| seen.order.clone()).collect()
                };
                let mut swapped = orders(base);
                swapped[at].reverse();
                right_after(0) && base.seen[at].order.len() == 2 && orders(faulty) == swapped
            }
            Shows::TornWrite(right) => {
                let torn = is_torn(&base.seen[at].written, &faulty.seen[at].written);
                torn && (!right || right_after(0))
            }
            Shows::TornRegister => {
                let [old, new] = [base.seen[at - 1].register, base.seen[at].register];
                let torn = new & 0xffff | old & 0xffff_0000;
                let mut all: Vec<_> = base.seen.iter().map(|seen| seen.register).collect();
                all[at] = torn;
                let registers = faulty.seen.iter().map(|seen| seen.register);
                right_after(0) && torn != new && registers.eq(all)
            }
            Shows::Vector(wrong) => {
                let [now, then] = [faulty, base].map(|probed| &probed.seen[at].interrupts);
                let other = (0..then.len()).filter(|v| *v != wrong && now[*v] + 1 == then[*v]);
                let moved = now[wrong] == then[wrong] + 1 && other.count() == 1;
                let missed = all[at] == Outcome::Silent && right_after(at + 1);
                moved && missed && took(faulty) < took(base) + 15_000_000
            }
            Shows::Interrupts(by) => {
                let last = |probed: &Probed| probed.seen.last().map_or(0, total);
                let more = last(faulty).cast_signed() - last(base).cast_signed();
                // Without one, the driver waits in vain; with one more, it may look sooner.
                let waits = all.contains(&Outcome::TimedOut);
                if by < 0 { more <= by || waits } else { more >= by || took(faulty) < took(base) }
            }
            Shows::Register => faulty.seen[at..]
                .iter()
                .zip(&base.seen[at..])
                .any(|(now, then)| now.register != then.register),
            Shows::Config => faulty.seen[at].config == u32::MAX && right_after(0),
            Shows::NoStart | Shows::NoRestart => false,
        };
        let count = |probed: &Probed| -> Vec<u64> { probed.seen.iter().map(total).collect() };
        let counts = (count(base), count(faulty));
        if ok { Ok(()) } else { wrong(&format!("request {at}: {all:?}, interrupts {counts:?}")) }
    }

    fn every_kind(device: &str) {
        let device = understudy_catalog::find(device).unwrap();
        let generator = Generator::new(device).unwrap();
        let rows = rows(device.name);
        let known: Vec<_> = rows.iter().map(|row| row.kind).collect();
        let all: Vec<_> = kinds::ALL.iter().map(|kind| kind.name).collect();
        assert_eq!(known, all, "every kind has its row");
        let (mut missed, mut refused) = (Vec::new(), Vec::new());
        for row in &rows {
            if let Some(reason) = kinds::refusal(row.kind, generator.target()) {
                assert!(reason.len() > 10, "{}: {reason}", row.kind);
                refused.push(row.kind);
                continue;
            }
            let options = Options { completion: row.completion, ..Options::default() };
            let run = |plan: &Plan| {
                let pairs = matches!(row.shows, Shows::Swapped);
                let probed = probe(device, plan, &options, REQUESTS, pairs);
                probed.unwrap_or_else(|error| panic!("{}: {error}", row.kind))
            };
            let base = run(&Plan::default());
            assert!(outcomes(&base).iter().all(|it| *it == Outcome::Right), "{:?}", base.seen);
            if let Err(what) = check(row, &base, &run(&plan(row, row.when.clone()))) {
                missed.push(format!("{} {}: {what}", device.name, row.kind));
            }
            // Armed, and never triggered.
            let mut never = row.when.clone();
            match row.shows {
                Shows::NoStart => never = json!({ "on": "config", "nth": 1_000_000 }),
                _ => never["time"] = json!(["100s", "200s"]),
            }
            let quiet = run(&plan(row, never));
            if quiet != base {
                missed.push(format!(
                    "{} {}: happened without being triggered",
                    device.name, row.kind
                ));
            }
        }
        println!("{}: refuses {refused:?}", device.name);
        assert!(missed.is_empty(), "{missed:#?}");
    }

    #[test]
    fn on_virtio_crypto() {
        every_kind("virtio-crypto");
    }

    #[test]
    fn on_qat() {
        every_kind("qat");
    }

    #[test]
    fn on_qaic() {
        every_kind("qaic");
    }
}
