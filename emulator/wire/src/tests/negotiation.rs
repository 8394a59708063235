//! VERSION: what is agreed on, what is refused, and that no reply outgrows its request.

use proptest::prelude::*;

use crate::version::{
    DEFAULT_MAX_DATA_XFER_SIZE, MAX_JSON_SIZE, MINOR, Negotiated, Offer, accept, negotiate,
};
use crate::{Errno, Version};

/// The version data of QEMU 10.1 to 11 (the order of the names differs from run to run).
const QEMU: &str = r#"{"capabilities": {"migration": {"max_bitmap_size": 268435456, "pgsize": 4096}, "max_msg_fds": 16, "max_data_xfer_size": 1048576, "pgsizes": 4096, "max_dma_maps": 65535, "write_multiple": true}}"#;
/// The version data of the `vfio_user` crate's client.
const RUST_VMM: &str = r#"{"capabilities":{"max_msg_fds":1,"max_data_xfer_size":1048576,"migration":{"pgsize":4096}}}"#;

fn version(json: Option<&str>) -> Version<'_> {
    Version { major: 0, minor: 1, json }
}

fn reply(offer: &Offer, json: Option<&str>) -> (Negotiated, Option<String>) {
    let (negotiated, reply) = negotiate(offer, &version(json)).expect("an acceptable request");
    (negotiated, reply.json)
}

fn everything() -> Offer {
    Offer {
        max_msg_fds: 8,
        max_data_xfer_size: 65536,
        max_dma_maps: 64,
        pgsizes: 0x20_1000,
        twin_socket: true,
        write_multiple: true,
        migration_pgsize: Some(4096),
    }
}

#[test]
fn qemu_gets_what_it_needs() {
    let (negotiated, json) = reply(&Offer::default(), Some(QEMU));
    insta::assert_snapshot!(json.expect("data"), @r#"{"capabilities":{"max_msg_fds":16}}"#);
    assert_eq!(
        negotiated,
        Negotiated {
            minor: 1,
            peer_max_msg_fds: 16,
            peer_max_data_xfer_size: 1 << 20,
            max_dma_maps: 65535,
            pgsizes: 4096,
            twin_socket: false,
            write_multiple: false,
            migration_pgsize: None,
        }
    );
    let (negotiated, json) = reply(&everything(), Some(QEMU));
    insta::assert_snapshot!(json.expect("data"), @r#"{"capabilities":{"max_msg_fds":8,"max_data_xfer_size":65536,"max_dma_maps":64,"write_multiple":true,"migration":{"pgsize":4096}}}"#);
    assert!(negotiated.write_multiple && !negotiated.twin_socket);
}

#[test]
fn the_rust_vmm_client_gets_what_it_needs() {
    let (negotiated, json) = reply(&Offer::default(), Some(RUST_VMM));
    insta::assert_snapshot!(json.expect("data"), @r#"{"capabilities":{"max_msg_fds":16}}"#);
    assert_eq!((negotiated.peer_max_msg_fds, negotiated.write_multiple), (1, false));
}

#[test]
fn what_does_not_fit_is_not_agreed_on() {
    let least = "{\"capabilities\":{}}";
    let ask = r#"{"capabilities":{"write_multiple":true}}"#;
    let offer = Offer { max_dma_maps: 64, write_multiple: true, ..Offer::default() };
    // The restriction is worth more than the optimisation.
    let (negotiated, json) = reply(&offer, Some(ask));
    assert_eq!(json.as_deref(), Some(r#"{"capabilities":{"max_dma_maps":64}}"#));
    assert!(!negotiated.write_multiple);
    assert_eq!(negotiated.max_dma_maps, 64, "it holds even so");
    assert_eq!(reply(&offer, Some(least)).1.as_deref(), Some(least));
    assert_eq!(reply(&offer, Some("{}")).1.as_deref(), Some("{}"));
    assert_eq!(reply(&offer, None).1, None);
}

#[test]
fn defaults_hold_for_what_is_not_mentioned() {
    for json in [
        None,
        Some("{}"),
        Some(r#"{"capabilities":{}}"#),
        Some(r#"{"x":[1],"capabilities":{"y":{}}}"#),
    ] {
        let (negotiated, _) = reply(&Offer { pgsizes: 0x1000, ..everything() }, json);
        assert_eq!(negotiated.peer_max_msg_fds, 1, "{json:?}");
        assert_eq!(negotiated.peer_max_data_xfer_size, DEFAULT_MAX_DATA_XFER_SIZE);
        assert_eq!(negotiated.pgsizes, 4096);
        assert!(!negotiated.twin_socket && !negotiated.write_multiple);
    }
}

#[test]
fn the_minor_version_is_the_lower_one() {
    for (theirs, agreed) in [(0, 0), (MINOR, MINOR), (u16::MAX, MINOR)] {
        let request = Version { minor: theirs, ..version(None) };
        let (negotiated, reply) = negotiate(&Offer::default(), &request).expect("acceptable");
        assert_eq!((negotiated.minor, reply.minor, reply.major), (agreed, agreed, 0));
    }
}

#[test]
fn bad_requests_are_refused() {
    let bad = [
        "",
        "{",
        "\"",
        "[]",
        "3",
        "{} {}",
        r#"{"capabilities":"23"}"#,
        r#"{"capabilities":[16]}"#,
        r#"{"capabilities":{"max_msg_fds":"foo"}}"#,
        r#"{"capabilities":{"max_msg_fds":-1}}"#,
        r#"{"capabilities":{"max_msg_fds":1.5}}"#,
        r#"{"capabilities":{"max_msg_fds":1025}}"#,
        r#"{"capabilities":{"twin_socket":[true]}}"#,
        r#"{"capabilities":{"migration":[4096]}}"#,
        r#"{"capabilities":{"max_data_xfer_size":0}}"#,
        r#"{"capabilities":{"max_data_xfer_size":4294967296}}"#,
        r#"{"capabilities":{"max_data_xfer_size":1e99}}"#,
        r#"{"capabilities":{"max_dma_maps":0}}"#,
        r#"{"capabilities":{"pgsizes":0}}"#,
        r#"{"capabilities":{"pgsizes":4097}}"#,
        r#"{"capabilities":{"pgsizes":2097152}}"#,
        r#"{"capabilities":{"twin_socket":true}}"#,
        r#"{"capabilities":{"write_multiple":1}}"#,
        r#"{"capabilities":{"migration":"23"}}"#,
        r#"{"capabilities":{"migration":{"pgsize":4095}}}"#,
        r#"{"capabilities":{"migration":{"pgsize":"foo"}}}"#,
    ];
    for json in bad {
        let error = negotiate(&Offer::default(), &version(Some(json))).expect_err(json);
        assert_eq!(error.errno, Errno::INVAL, "{json}: {error}");
    }
    let deep = format!("{{\"x\":{}", "[".repeat(MAX_JSON_SIZE / 2));
    let error = negotiate(&Offer::default(), &version(Some(&deep))).expect_err("too deep");
    assert!(error.to_string().len() < 400, "{error}");
    for major in [1, u16::MAX] {
        let error = negotiate(&Offer::default(), &Version { major, ..version(None) });
        assert_eq!(error.expect_err("another major").errno, Errno::INVAL);
    }
}

#[test]
fn clients_refuse_bad_replies() {
    let bad = [
        Version { major: 1, ..version(None) },
        Version { minor: MINOR + 1, ..version(None) },
        version(Some("{")),
        version(Some(r#"{"capabilities":{"twin_socket":{"supported":true,"fd_index":0}}}"#)),
        version(Some(r#"{"capabilities":{"pgsizes":8192}}"#)),
    ];
    for reply in bad {
        let error = accept(&Offer::default(), &reply).expect_err("not acceptable");
        assert_eq!(error.errno, Errno::INVAL, "{reply:?}");
    }
    let twin = Offer { twin_socket: true, ..Offer::default() };
    let reply = version(Some(r#"{"capabilities":{"twin_socket":{"supported":true}}}"#));
    accept(&twin, &reply).expect_err("no descriptor named");
}

fn offers() -> impl Strategy<Value = Offer> {
    let numbers = (1_u32..=16, 1_u32..=64 << 20, 1_u32..=65535, 0_u64..1 << 10);
    (numbers, any::<[bool; 3]>()).prop_map(|(numbers, [twin_socket, write_multiple, migration])| {
        let (max_msg_fds, max_data_xfer_size, max_dma_maps, pages) = numbers;
        Offer {
            max_msg_fds,
            max_data_xfer_size,
            max_dma_maps,
            pgsizes: pages << 12 | 4096,
            twin_socket,
            write_multiple,
            migration_pgsize: migration.then_some(4096),
        }
    })
}

proptest! {
    /// Two sides that talk to each other understand the same thing, in a reply no larger than the
    /// request.
    #[test]
    fn both_sides_agree(client in offers(), server in offers()) {
        let proposal = client.propose();
        let (ours, reply) = negotiate(&server, &version(Some(&proposal))).expect("acceptable");
        let json = reply.json.as_deref().expect("data");
        prop_assert!(json.len() <= proposal.len(), "{json} is longer than {proposal}");
        let theirs = accept(&client, &reply.as_version()).expect("acceptable");
        prop_assert_eq!(ours.twin_socket, theirs.twin_socket);
        prop_assert_eq!(ours.write_multiple, theirs.write_multiple);
        prop_assert_eq!(ours.migration_pgsize, theirs.migration_pgsize);
        prop_assert_eq!(ours.max_dma_maps, theirs.max_dma_maps);
        prop_assert_eq!(ours.pgsizes, theirs.pgsizes);
        prop_assert!(theirs.peer_max_data_xfer_size <= server.max_data_xfer_size.max(1 << 20));
        prop_assert_eq!(theirs.peer_max_msg_fds, server.max_msg_fds);
        prop_assert_eq!(ours.peer_max_msg_fds, client.max_msg_fds);
    }

    #[test]
    fn any_text_gets_an_answer_no_longer_than_itself(json in ".{0,80}", server in offers()) {
        if let Ok((_, reply)) = negotiate(&server, &version(Some(&json))) {
            prop_assert!(reply.json.map_or(0, |reply| reply.len()) <= json.len());
        }
    }
}
