//! What the function shows of itself, in words.

use understudy_client::qat::{Options, misc};
use understudy_device::State;

use super::{bare_driver, driver_with, inspect, null};
use crate::Parameters;

fn meaning<'a>(state: &'a State, name: &str) -> &'a str {
    let register = state.registers.iter().find(|register| register.name == name);
    &register.unwrap_or_else(|| panic!("no register {name}")).meaning
}

#[test]
fn registers_are_told_in_words() {
    let mut driver = driver_with(Parameters::default(), Options::default());
    // Coalescing for 10 µs, and the mailbox' interrupt masked.
    driver.write(0, 0x180, 1 << 31 | 10_000).unwrap();
    driver.write(0, 0x17c, 1 << 10).unwrap();
    driver.write(2, misc::VINTMSK, 2).unwrap();
    driver.run(2, &null(1, 128)).unwrap();
    let state = inspect(&mut driver);
    let base = |name: &str| {
        let pair = &state.queues[2];
        assert!(pair.hexadecimal.iter().any(|field| field == name), "{pair:?}");
        pair.fields.iter().find(|(field, _)| field == name).map(|(_, value)| *value).unwrap()
    };
    let register =
        |name: &str| state.registers.iter().find(|register| register.name == name).unwrap().value;
    // Registers hold the address without its six lowest bits.
    assert_eq!(
        base("requests.base"),
        (register("rings.ubase[2]") << 32 | register("rings.lbase[2]")) << 6
    );
    for (name, expected) in [
        ("rings.config[2]", "8192 bytes".to_owned()),
        ("rings.config[10]", "2048 bytes".to_owned()),
        ("rings.config[3]", String::new()),
        ("rings.lbase[2]", format!("ring at {:#x}", base("requests.base"))),
        ("rings.lbase[10]", format!("ring at {:#x}", base("responses.base"))),
        ("rings.lbase[3]", String::new()),
        ("rings.ringsrvarben", "pairs 0, 2, 6".to_owned()),
        ("rings.int_col_en", "rings 10".to_owned()),
        ("rings.int_col_ctl", "10000 ns".to_owned()),
        ("rings.e_stat", String::new()),
        ("misc.vintmsk", "PF2VF".to_owned()),
        ("misc.vintsou", String::new()),
        ("misc.pf2vf", "PF version 5, VF version 5, INIT".to_owned()),
    ] {
        assert_eq!(meaning(&state, name), expected, "{name}");
    }
}

#[test]
fn the_mailbox_tells_of_both_ends_and_of_a_restart() {
    let parameters = Parameters {
        mailbox_version: 4,
        restart_after: 1,
        restart_delay_ms: 50,
        ..Parameters::default()
    };
    let mut driver = bare_driver(parameters, Options::default());
    let seen = |driver: &mut _| meaning(&inspect(driver), "misc.pf2vf").to_owned();
    assert_eq!(seen(&mut driver), "PF version 4");
    driver.ask_version(3).unwrap();
    assert_eq!(seen(&mut driver), "PF version 4, VF version 3");
    driver.introduce().unwrap();
    driver.open(2, 64, 128).unwrap();
    driver.run(2, &null(1, 128)).unwrap();
    let text = seen(&mut driver);
    assert!(text.starts_with("PF version 4, VF version 5, INIT, restart at 5"), "{text}");
    driver.receive().unwrap();
    assert_eq!(seen(&mut driver), "PF version 4, VF version 5, INIT|RESTARTING");
}
