//! Device configuration and feature bits (§5.9.3, §5.9.5).

use understudy_client::virtio_crypto::feature;

use super::{SERVICES, sessions_only};
use crate::verdict::{expect, expect_eq, expect_hex};
use crate::{Check, Context, Outcome};

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "virtio-crypto/5.9.3/1",
        title: "Stateless features are offered only together with REVISION_1",
        clause: "virtio 1.3 §5.9.3.1",
        run: stateless_needs_revision_1,
    },
    Check {
        id: "virtio-crypto/5.9.5/1",
        title: "status has HW_READY, and no undefined flags",
        clause: "virtio 1.3 §5.9.5.1",
        run: status,
    },
    Check {
        id: "virtio-crypto/5.9.5/2",
        title: "max_dataqueues is 1 to 65535; the control queue follows the data queues",
        clause: "virtio 1.3 §5.9.5.1, §5.9.2",
        run: queues,
    },
    Check {
        id: "virtio-crypto/5.9.5/3",
        title: "crypto_services names at least one service, and only defined ones",
        clause: "virtio 1.3 §5.9.5.1",
        run: services,
    },
    Check {
        id: "virtio-crypto/5.9.5/4",
        title: "Every service that is offered has an algorithm",
        clause: "virtio 1.3 §5.9.5.1",
        run: services_have_algorithms,
    },
    Check {
        id: "virtio-crypto/5.9.5/5",
        title: "Bits of algorithms that are not defined are clear",
        clause: "virtio 1.3 §5.9.5.1",
        run: defined_algorithms,
    },
    Check {
        id: "virtio-crypto/5.9.5/6",
        title: "max_size, max_cipher_key_len and max_auth_key_len are set",
        clause: "virtio 1.3 §5.9.5.1",
        run: limits,
    },
    Check {
        id: "virtio-crypto/5.9.5/7",
        title: "The driver cannot change the configuration",
        clause: "virtio 1.3 §5.9.5 (status is read-only), §2.5",
        run: read_only,
    },
];

fn stateless_needs_revision_1(ctx: &mut Context<'_>) -> Outcome {
    let offered = ctx.virtio()?.offered_features()?;
    let stateless = offered & feature::STATELESS;
    expect(stateless == 0 || offered & feature::REVISION_1 != 0, "REVISION_1", || {
        format!("features {offered:#x}")
    })
}

fn status(ctx: &mut Context<'_>) -> Outcome {
    expect_hex("status", sessions_only(ctx)?.config().status, 1)
}

fn queues(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = sessions_only(ctx)?;
    let data = driver.config().max_dataqueues;
    expect((1..=65535).contains(&data), "1 to 65535", || data.to_string())?;
    expect_eq("num_queues", &u32::from(driver.device.num_queues()?), &(data + 1))
}

fn services(ctx: &mut Context<'_>) -> Outcome {
    // Bit 5, IPSEC, is defined since virtio 1.4.
    let services = sessions_only(ctx)?.config().services;
    expect(services != 0 && services & !0x3f == 0, "bits 0 to 5, one at least", || {
        format!("{services:#x}")
    })
}

fn services_have_algorithms(ctx: &mut Context<'_>) -> Outcome {
    let config = *sessions_only(ctx)?.config();
    let masks = [
        config.ciphers,
        config.hashes.into(),
        config.macs,
        config.aeads.into(),
        config.akciphers.into(),
    ];
    for (bit, (name, mask)) in SERVICES.iter().zip(masks).enumerate() {
        let offered = config.services >> bit & 1 != 0;
        expect(!offered || mask & !1 != 0, &format!("an algorithm of {name}"), || {
            format!("{mask:#x}")
        })?;
    }
    Ok(())
}

fn defined_algorithms(ctx: &mut Context<'_>) -> Outcome {
    let config = *sessions_only(ctx)?.config();
    let bits = |ranges: &[(u32, u32)]| {
        let numbers = ranges.iter().flat_map(|(from, to)| *from..=*to);
        numbers.fold(0_u64, |mask, number| mask | 1 << number)
    };
    let macs = bits(&[(0, 6), (25, 28), (41, 42), (49, 50), (53, 54)]);
    expect_hex("undefined ciphers", config.ciphers & !bits(&[(0, 14)]), 0)?;
    expect_hex("undefined hashes", u64::from(config.hashes) & !bits(&[(0, 12)]), 0)?;
    expect_hex("undefined MACs", config.macs & !macs, 0)?;
    expect_hex("undefined AEADs", u64::from(config.aeads) & !bits(&[(0, 3)]), 0)?;
    expect_hex("undefined akciphers", u64::from(config.akciphers) & !bits(&[(0, 2)]), 0)
}

fn limits(ctx: &mut Context<'_>) -> Outcome {
    let config = *sessions_only(ctx)?.config();
    expect(config.max_size > 0, "max_size", || "0".into())?;
    let set = |service: u32, value: u32| config.services >> service & 1 == 0 || value > 0;
    expect(set(0, config.max_cipher_key_len), "max_cipher_key_len", || "0".into())?;
    expect(set(2, config.max_auth_key_len), "max_auth_key_len", || "0".into())
}

fn read_only(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    session.write16(crate::session::CONFIG, 4, 2)?;
    let config = &ctx.profile.config;
    // VIRTIO_PCI_CAP_DEVICE_CFG
    let is_device = |at: &usize| config.get(*at) == Some(&9) && config.get(at + 3) == Some(&4);
    let at = ctx.profile.capabilities.iter().map(|(_, at)| usize::from(*at)).find(is_device);
    let at = at.ok_or_else(|| crate::Stop::fail("a device configuration structure", "none"))?;
    let bar = crate::bytes::le32(config, at + 4) & 0xff;
    let offset = u64::from(crate::bytes::le32(config, at + 8));
    let before: Vec<_> = words(&mut session, bar, offset)?;
    for word in 0..14 {
        // Whether such a write is refused or ignored is the server's choice.
        for fill in [0xff, 0] {
            session.try_write(bar, offset + 4 * word, &[fill; 4])?;
            expect_eq("the configuration", &words(&mut session, bar, offset)?, &before)?;
        }
    }
    Ok(())
}

fn words(
    session: &mut crate::session::Session,
    bar: u32,
    offset: u64,
) -> Result<Vec<u32>, crate::Stop> {
    (0..14).map(|word| session.read32(bar, offset + 4 * word)).collect()
}
