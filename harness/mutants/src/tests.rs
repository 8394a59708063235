use std::collections::BTreeSet;

use serde_json::Value;
use understudy_catalog::DEVICES;

use super::*;

fn of(device: &'static understudy_catalog::Device) -> Vec<Mutant> {
    let build = || device.build(Value::Null).map_err(|error| error.to_string());
    of_device(&build, device.vocabulary).unwrap()
}

#[test]
fn every_device_and_the_server_have_many_mutants_with_names_of_their_own() {
    let lists = DEVICES.iter().map(|device| (device.name, of(device)));
    for (name, mutants) in lists.chain([("server", of_server())]) {
        assert!(mutants.len() >= 40, "{name} has {}", mutants.len());
        let mut ids = BTreeSet::new();
        for mutant in &mutants {
            assert!(ids.insert(&mutant.id), "{name}: {} is used twice", mutant.id);
            assert!(mutant.id.contains('/') && mutant.what.len() > 10, "{}", mutant.id);
        }
    }
}

#[test]
fn a_changed_identity_is_one_that_can_be() {
    for device in DEVICES {
        for mutant in of(device) {
            let How::Identity(wrong) = mutant.how else { continue };
            let model = device.build(Value::Null).unwrap();
            let before = model.identity().clone();
            let model = wrong.wrap(model).unwrap_or_else(|| panic!("{}", mutant.id));
            assert_ne!(*model.identity(), before, "{}", mutant.id);
        }
    }
}
