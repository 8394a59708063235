//! The control channel: what is answered, and what users hold.

use understudy_client::qaic::{Options, Transaction};

use super::{amss, bare_driver, counter, doubler, driver, network};
use crate::Parameters;
use crate::message::status;

fn command(driver: &mut super::TestDriver, handle: u32, words: &[u32]) -> Transaction {
    driver.request(handle, &[Transaction::command(words)]).unwrap().remove(0)
}

#[test]
fn a_program_may_come_in_many_messages() {
    let mut driver = driver();
    let program = network::doubler();
    for (piece, pieces) in [(1 << 20, 1), (100, 64), (64, 2), (7, 3)] {
        let id = driver.load(1, &program, piece, pieces).unwrap().unwrap();
        let unloaded = command(&mut driver, 1, &[7, id]);
        assert_eq!((unloaded.word(0), unloaded.word(1)), (8, 0));
    }
    assert!(counter(&mut driver, "nnc.continued") > 10);
}

#[test]
fn what_is_no_network_is_refused() {
    let mut driver = driver();
    let mut load = |program: &[u8]| driver.load(1, program, 1 << 20, 64).unwrap().unwrap_err();
    assert_eq!(load(b"not a program"), status::METADATA_ERROR);
    let mut elf = network::doubler();
    let at = elf.windows(10).position(|it| it == b"understudy").unwrap();
    elf[at] = b'x';
    assert_eq!(load(&elf), status::METADATA_ERROR);
}

/// `ci/onnx` is how they are known.
#[test]
fn operators_that_would_be_computed_wrongly_are_refused() {
    let mut driver = driver();
    for operator in ["BitShift", "OneHot"] {
        let answer = driver.load(1, &network::refused(operator), 1 << 20, 64).unwrap();
        assert_eq!(answer, Err(status::VER_MISMATCH_ERROR), "{operator}");
    }
}

#[test]
fn users_hold_what_they_loaded_until_they_go() {
    let mut driver = driver();
    let program = driver.load(1, &network::doubler(), 1 << 20, 64).unwrap().unwrap();
    assert_eq!(
        driver.activate(2, program, 16).unwrap().unwrap_err(),
        status::OPERATION_NOT_PERMITTED
    );
    assert_eq!(driver.activate(1, 999, 16).unwrap().unwrap_err(), status::RESOURCE_NOT_FOUND);
    assert_eq!(driver.activate(1, program, 1).unwrap().unwrap_err(), status::VC_CONFIGURE_ERROR);
    let mut all = Vec::new();
    for channel in 0..16 {
        let active = driver.activate(1, program, 16).unwrap().unwrap();
        assert_eq!(active.channel, channel);
        all.push(active);
    }
    assert_eq!(driver.activate(1, program, 16).unwrap().unwrap_err(), status::NSP_ALLOC_ERROR);
    assert_eq!(driver.deactivate(2, all[3]).unwrap(), status::OPERATION_NOT_PERMITTED);
    let busy = command(&mut driver, 1, &[7, program]).word(1).cast_signed();
    assert_eq!(busy, status::OPERATION_NOT_PERMITTED);
    assert_eq!(driver.deactivate(1, all[3]).unwrap(), 0);
    assert_eq!(driver.deactivate(1, all[3]).unwrap(), status::NO_NETWORK_TO_DEACTIVATE);
    let other = doubler(&mut driver);
    assert_eq!(other.channel, 3);
    driver.terminate(1).unwrap();
    let active = doubler(&mut driver);
    assert_eq!(active.channel, 0);
    driver.infer(&active, &[&[0; 16]], &[16]).unwrap();
}

#[test]
fn device_memory_is_accounted_for() {
    let mut driver = bare_driver(Parameters { memory_mb: 16, ..amss() }, Options::default());
    driver.power_up().unwrap();
    let large = vec![0; 17 << 20];
    let refused = driver.load(1, &large, 1 << 20, 64).unwrap();
    assert_eq!(refused.unwrap_err(), status::MEM_ALLOC_ERROR);
    let answer = command(&mut driver, 1, &[32, 1, u32::MAX, 0]);
    assert_eq!((answer.word(0), answer.word(2), answer.word(3)), (33, 16, 16));
}

#[test]
fn unknown_and_short_things_are_answered() {
    let mut driver = driver();
    let answer = command(&mut driver, 1, &[28, 0]);
    assert_eq!((answer.word(0), answer.word(1).cast_signed()), (29, status::UNDEFINED_REQUEST));
    let answer = command(&mut driver, 1, &[3, 0]);
    assert_eq!((answer.word(0), answer.word(2).cast_signed()), (4, status::CMD_LENGTH_ERROR));
    let answer = driver.request(1, &[Transaction::new(99, vec![0; 8])]).unwrap();
    assert_eq!((answer[0].kind, answer[0].word(1).cast_signed()), (14, status::UNDEFINED_REQUEST));
    let answer = driver.request(1, &[Transaction::new(20, vec![0xff; 8])]).unwrap();
    assert_eq!((answer[0].kind, answer[0].word(0)), (19, 0));
    let answer = command(&mut driver, 1, &[13, 0]);
    assert_eq!((answer.word(0), answer.word(2) & 0xff, answer.body.len()), (14, 12, 504));
}

#[test]
fn a_wrong_crc_is_refused() {
    let mut driver = driver();
    let mut message = driver.encode(1, &[Transaction::new(15, vec![])]);
    message[33] ^= 1;
    let answer = driver.exchange(&message).unwrap();
    assert_eq!(answer[0].word(1).cast_signed(), status::SAFETY_BCS_MHI_ERROR);
    let mut driver = bare_driver(Parameters { crc: false, ..amss() }, Options::default());
    driver.power_up().unwrap();
    driver.terminate(3).unwrap();
}
