//! Elements, messages and registers that no driver would write.

use proptest::prelude::*;
use understudy_client::platform::{DmaBuffer, Platform};
use understudy_client::qaic::{Options, Transaction, mhi};

use super::{TestDriver, amss, bare_driver, counter, doubler, driver};

#[test]
fn elements_that_make_no_sense_stop_their_channel_alone() {
    let mut driver = driver();
    assert_eq!(driver.host.start_channel(0).unwrap(), 1);
    assert_eq!(driver.host.start_channel(1).unwrap(), 1);
    driver.host.listen(1, 64).unwrap();
    driver.host.send(0, &[b"echo"]).unwrap();
    assert_eq!(driver.host.receive(1).unwrap().bytes, b"echo");
    let buffer = DmaBuffer { iova: 0x10, len: 4 };
    driver.host.push(0, buffer, [0; 16]).unwrap();
    driver.host.ring_channel(0).unwrap();
    assert_eq!(driver.host.receive(0).unwrap().code, 0x11);
    assert_eq!(counter(&mut driver, "mhi.bad_elements"), 1);
    driver.terminate(1).unwrap();
    driver.host.reset_channel(0).unwrap();
    assert_eq!(driver.host.start_channel(0).unwrap(), 1);
}

#[test]
fn a_message_longer_than_its_buffer_overflows() {
    let mut driver = driver();
    driver.host.start_channel(0).unwrap();
    driver.host.start_channel(1).unwrap();
    driver.host.listen(1, 8).unwrap();
    driver.host.send(0, &[&[7; 20]]).unwrap();
    let message = driver.host.receive(1).unwrap();
    assert_eq!((message.code, message.bytes), (3, vec![7; 8]));
}

#[test]
fn channels_and_commands_that_are_not_there_fail() {
    let mut driver = driver();
    for channel in [2, 24, 127, 255] {
        assert_eq!(driver.host.command(18, channel).unwrap(), 0x10);
    }
    assert_eq!(driver.host.command(99, 0).unwrap(), 0x10);
    assert_eq!(driver.host.command(1, 0).unwrap(), 1);
    driver.terminate(1).unwrap();
}

fn settle(driver: &mut TestDriver) {
    for _ in 0..20 {
        let deadline = driver.host.now().plus(100_000);
        driver.host.platform.idle(deadline).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Noise on the control channel is answered, or not; the next message is.
    #[test]
    fn noise_in_messages_is_survived(
        kinds in prop::collection::vec((0_u32..24, prop::collection::vec(any::<u32>(), 0..30)), 1..5),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let parameters = crate::Parameters { crc: false, ..amss() };
        let mut driver = bare_driver(parameters, Options { vectors: 0, ..Options::default() });
        driver.power_up().unwrap();
        let list: Vec<Transaction> = kinds.into_iter().map(|(kind, words)| {
            Transaction { kind, ..Transaction::command(&words) }
        }).collect();
        let mut message = driver.encode(1, &list);
        for (at, value) in edits {
            let at = at.index(message.len());
            message[at] = value;
        }
        let _ = driver.exchange(&message);
        settle(&mut driver);
        driver.host.reset().unwrap();
        driver.power_up().unwrap();
        driver.terminate(1).unwrap();
    }

    /// Noise in requests and registers: nothing panics, nothing hangs, a reset brings all back.
    #[test]
    fn noise_in_rings_and_registers_is_survived(
        writes in prop::collection::vec((any::<bool>(), 0_u64..0x400, any::<u32>()), 1..40),
        words in prop::collection::vec(any::<u32>(), 16..160),
    ) {
        let mut driver = bare_driver(amss(), Options { vectors: 0, ..Options::default() });
        driver.power_up().unwrap();
        let active = doubler(&mut driver);
        let requests = words.chunks_exact(16).map(|it| understudy_client::qaic::Request {
            id: 1,
            command: it[0].to_le_bytes()[0],
            source: active.memory + u64::from(it[1] % 8192),
            destination: active.memory + u64::from(it[2] % 8192),
            len: it[3] % 64,
            doorbell: active.doorbells + u64::from(it[4] % 64),
            doorbell_kind: it[5].to_le_bytes()[0],
            doorbell_data: it[6],
            semaphores: [it[7], it[8], it[9], it[10]],
        }).collect::<Vec<_>>();
        driver.submit(&active, &requests).unwrap();
        settle(&mut driver);
        for (bridge, offset, value) in writes {
            let (bar, at) = if bridge { (2, 0x2_0000 + offset % 16) } else { (0, offset * 4 % 0x1000) };
            let _ = driver.host.platform.bar_write(bar, at & !3, &value.to_le_bytes());
            let mut word = [0; 4];
            let _ = driver.host.platform.bar_read(bar, at & !3, &mut word);
            let deadline = driver.host.now().plus(10_000);
            driver.host.platform.idle(deadline).unwrap();
        }
        driver.host.forget();
        driver.host.write(mhi::SOC_RESET, 1).unwrap();
        settle(&mut driver);
        driver.host.write(mhi::CONTROL, 2).unwrap();
        driver.power_up().unwrap();
        let active = doubler(&mut driver);
        driver.infer(&active, &[&[0; 16]], &[16]).unwrap();
    }
}
